//! As many streams as may be, each on a channel of its own, that hear nothing.

use std::{thread, time::Duration};

use anyhow::Result;

use super::{Bench, Clock, Load, SIZE, memory};
use crate::{
    contenders::Demand,
    figures::{self, Column, Cost, Figures, per_second},
};

/// What the channels of the first clients are called.
const WARM_UP: &str = "warm";

pub struct Idle;

impl Load for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn about(&self) -> &'static str {
        "15,000 streams, or what the limit of open files allows, each on a channel of its own, that hear nothing; \
         memory for one once it has settled, beyond what 500 others have left behind, CPU for opening one, and CPU \
         while nothing happens for 10 s."
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
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        warm_up(bench)?;
        let before = memory::settled(bench.server)?;
        bench.create()?;
        let clock = Clock::start(bench.server)?;
        let load = bench.open(bench.plan(SIZE)?)?;
        let opening = clock.stop(bench.server)?;
        let after = memory::settled(bench.server)?;
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

/// Opens streams and closes them again, each on a channel of its own: what the first clients cost once is no part of what
/// each costs.
fn warm_up(bench: &Bench) -> Result<()> {
    let streams = bench.size(500, 50);
    bench.server.create(WARM_UP, streams)?;
    let plan = bench.plan_for(&format!("{WARM_UP}-{{n}}"), streams)?;
    bench.open(plan)?.stop(None)?;
    Ok(())
}
