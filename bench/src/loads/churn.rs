//! Streams that open, hear one event and leave, over and over.

use std::{thread, time::Duration};

use anyhow::{Context, Result};
use fanfare_load::{Expect, Plan};

use super::{Bench, Clock, Load, SIZE};
use crate::{
    contenders::Demand,
    figures::{self, Column, Cost, Figures, per_second},
};

/// From one event to the next: short beside what opening a stream takes, and long enough that events are not what
/// takes the time.
const INTERVAL: Duration = Duration::from_millis(10);

pub struct Churn;

impl Load for Churn {
    fn name(&self) -> &'static str {
        "churn"
    }

    fn about(&self) -> &'static str {
        "200 at a time open a stream, hear one of 100 events a second and leave, for 10 s; CPU for one stream."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::STREAM_RATE,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
            figures::RATIO,
            figures::WRONG,
            figures::CLOSED,
        ]
    }

    fn demand(&self, quick: bool) -> Demand {
        Demand {
            streams: if quick { 20 } else { 200 },
            channels: 1,
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        bench.create()?;
        let plan = Plan {
            leave_after: Some(1),
            in_flight: bench.demand.streams,
            expect: Expect::Payloads { size: SIZE },
            ..bench.plan(SIZE)?
        };
        let publish = bench.events(0, bench.size(1100, 150), INTERVAL, SIZE);
        let measured = bench.size(Duration::from_secs(10), Duration::from_secs(1));
        let (taken, report) = thread::scope(|scope| {
            let publishing = scope.spawn(|| bench.server.publish(&publish));
            let load = fanfare_load::Load::start(plan)?;
            // The first rounds find everything cold.
            thread::sleep(Duration::from_millis(200));
            load.reset()?;
            let clock = Clock::start(bench.server)?;
            thread::sleep(measured);
            let taken = clock.stop(bench.server)?;
            let report = load.stop(None)?;
            publishing.join().ok().context("publishing panicked")??;
            anyhow::Ok((taken, report))
        })?;
        Ok(Some(Figures {
            cpu: Cost::of(taken.server, report.left),
            streams_per_second: Some(per_second(report.left, taken.seconds)),
            ..taken.figures(bench, &report)
        }))
    }
}
