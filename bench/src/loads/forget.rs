//! Very many channels with an event each that nobody hears, until they are forgotten.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Bench, Clock, Load, PATIENCE, SIZE, memory};
use crate::{
    contenders::{Demand, Server},
    figures::{self, Column, Cost, Figures, Forgotten, per_second},
};

/// How often it is looked how many channels there are, and how much memory is taken.
const LOOK: Duration = Duration::from_millis(200);

/// What the channels are called that are there before it is measured.
const WARM_UP: &str = "warm";

pub struct Forget;

impl Load for Forget {
    fn name(&self) -> &'static str {
        "forget"
    }

    fn about(&self) -> &'static str {
        "An event on each of 1,000,000 channels that nobody hears, kept for 10 s; memory for a channel while all are \
         there, what is left of it when none is, and CPU for making and forgetting one."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::AT_PEAK,
            figures::PER_CHANNEL,
            figures::LEFT_OVER,
            figures::CHANNEL_RATE,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
        ]
    }

    fn demand(&self, quick: bool) -> Demand {
        Demand {
            streams: 0,
            channels: if quick { 10_000 } else { 1_000_000 },
            // Longer than it takes to publish on all, so that all are there at once.
            history_age: Some(Duration::from_secs(if quick { 4 } else { 10 })),
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        if bench.server.channels()?.is_none() {
            return Ok(None);
        }
        let mut warm_up = bench.events(0, 1, Duration::ZERO, SIZE);
        warm_up.prefix = WARM_UP.to_owned();
        warm_up.channels /= 50;
        bench.server.publish(&warm_up)?;
        forgotten(bench.server)?;
        let before = memory::settled(bench.server)?;

        let publish = bench.events(0, 1, Duration::ZERO, SIZE);
        let clock = Clock::start(bench.server)?;
        let (looks, (published, at_peak)) = memory::during(bench.server, LOOK, || {
            let published = bench.server.publish(&publish)?;
            Ok((published, forgotten(bench.server)?))
        })?;
        let taken = clock.stop(bench.server)?;
        // As before: a thread gives back what others have freed of its memory when it works again.
        bench.server.publish(&warm_up)?;
        forgotten(bench.server)?;
        let after = memory::settled(bench.server)?;

        let peak = looks.into_iter().max().unwrap_or_default();
        Ok(Some(Figures {
            channels: bench.demand.channels,
            seconds: taken.seconds,
            server_cpu_seconds: taken.server.total().as_secs_f64(),
            client_cpu_seconds: taken.client.total().as_secs_f64(),
            channels_per_second: Some(per_second(published.count, published.nanos as f64 / 1e9)),
            cpu: Cost::of(taken.server, published.count),
            forgotten: Some(Forgotten {
                channels_at_peak: at_peak,
                bytes_per_channel: peak.saturating_sub(before) / at_peak.max(1),
                left_over_bytes: after as i64 - before as i64,
            }),
            ..Figures::default()
        }))
    }
}

/// Waits until there is no channel any more. The most that were there on the way.
fn forgotten(server: &dyn Server) -> Result<u64> {
    let start = Instant::now();
    let mut most = 0;
    loop {
        let channels = server.channels()?.context("no number of channels")?;
        most = most.max(channels);
        if channels == 0 {
            return Ok(most);
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{channels} channels are not forgotten"
        );
        thread::sleep(LOOK);
    }
}
