//! As many streams as may be, each on a channel of its own, that hear nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Bench, Clock, Load, SIZE};
use crate::{
    contenders::{Demand, Server},
    figures::{self, Column, Cost, Figures, per_second},
};

/// How long memory may take to settle.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Idle;

impl Load for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn about(&self) -> &'static str {
        "15,000 streams, or what the limit of open files allows, each on a channel of its own, that hear nothing; \
         memory for one once it has settled, CPU for opening one, and CPU while nothing happens for 10 s."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::STREAMS,
            figures::MEMORY,
            figures::IDLE,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
            figures::RATIO,
            figures::STREAM_RATE,
            figures::CLOSED,
        ]
    }

    fn demand(&self, quick: bool) -> Demand {
        let streams = if quick { 200 } else { 15_000 };
        Demand {
            streams,
            channels: streams,
            backlog: 0,
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        let process = bench.server.process();
        let before = process.memory()?;
        bench.create()?;
        let clock = Clock::start(bench.server)?;
        let load = bench.open(bench.plan(SIZE)?)?;
        let opening = clock.stop(bench.server)?;
        let after = settled(bench.server)?;
        let clock = Clock::start(bench.server)?;
        thread::sleep(bench.size(Duration::from_secs(10), Duration::from_secs(1)));
        let idle = clock.stop(bench.server)?;
        let report = load.stop(None)?;
        let streams = report.streams as u64;
        // The slowest of the streams says when all were open.
        let seconds = opening.seconds - bench.size(1.0, 0.3);
        Ok(Some(Figures {
            cpu: Cost::of(opening.server, streams),
            streams_per_second: Some(per_second(streams, seconds)),
            bytes_per_stream: Some(after.saturating_sub(before) / streams),
            idle_cpu_ms_per_second: Some(idle.server.total().as_secs_f64() * 1000.0 / idle.seconds),
            latency_us: None,
            ..opening.figures(bench, &report)
        }))
    }
}

/// The memory, once three looks in a row, half a second apart, differ by less than 1 in 200.
fn settled(server: &dyn Server) -> Result<u64> {
    let start = Instant::now();
    let mut looks = Vec::new();
    loop {
        looks.push(server.process().memory()?);
        if let [.., first, second, third] = looks[..] {
            let most = first.max(second).max(third);
            let least = first.min(second).min(third);
            if (most - least) * 200 < most || start.elapsed() > PATIENCE {
                return Ok(third);
            }
        }
        thread::sleep(Duration::from_millis(500));
    }
}
