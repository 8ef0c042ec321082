//! Streams that come back, all at once, and have missed events.

use std::time::Duration;

use anyhow::Result;
use fanfare_load::{Expect, Plan};

use super::{Bench, Clock, Load, SIZE, hear};
use crate::{
    contenders::Demand,
    figures::{self, Column, Figures, per_second},
};

/// How many events each has missed.
const MISSED: u64 = 100;

pub struct Resume;

impl Load for Resume {
    fn name(&self) -> &'static str {
        "resume"
    }

    fn about(&self) -> &'static str {
        "10,000 streams come back to one channel, 200 on their way at a time, and have missed 100 events each; CPU for \
         one delivery, opening included."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::STREAMS,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
            figures::STREAM_RATE,
            figures::BYTE_RATE,
            figures::DELIVERIES,
            figures::LOST,
            figures::WRONG,
            figures::CLOSED,
        ]
    }

    fn demand(&self, quick: bool) -> Demand {
        Demand {
            streams: if quick { 100 } else { 10_000 },
            channels: 1,
            backlog: 1000,
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        bench.create()?;
        let first = Plan {
            streams: 1,
            ..bench.plan(SIZE)?
        };
        let first = bench.open(first)?;
        bench
            .server
            .publish(&bench.events(0, 1, Duration::ZERO, SIZE))?;
        hear(&first, 1);
        let last_event_id = first.stop(Some(1))?.last_event_id;
        let channel = bench.events(0, 0, Duration::ZERO, SIZE).channel(0);
        let Some(place) = bench.server.place(&channel, last_event_id)? else {
            return Ok(None);
        };
        let missed = bench.events(1, MISSED, Duration::from_millis(1), SIZE);
        bench.server.publish(&missed)?;

        let target = format!("http://{}{}", bench.server.address(), place.events);
        let plan = Plan {
            target: target.parse()?,
            last_event_id: place.last_event_id,
            expect: Expect::PayloadsFrom {
                size: SIZE,
                number: 1,
            },
            ..bench.plan(SIZE)?
        };
        let clock = Clock::start(bench.server)?;
        let load = fanfare_load::Load::start(plan)?;
        hear(&load, bench.demand.streams as u64 * MISSED);
        let taken = clock.stop(bench.server)?;
        let report = load.stop(Some(missed.end()))?;
        Ok(Some(Figures {
            streams_per_second: Some(per_second(report.opened, taken.seconds)),
            bytes_per_second: Some(per_second(report.bytes, taken.seconds)),
            // That would be the time since they were published, not since they were asked for.
            latency_us: None,
            ..taken.figures(bench, &report)
        }))
    }
}
