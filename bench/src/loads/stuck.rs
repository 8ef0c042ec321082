//! As `paced`, with larger events and one reader that stops reading: do the others notice?

use std::time::Duration;

use anyhow::Result;
use fanfare_load::{Plan, Quantiles};

use super::{Bench, Load};
use crate::{
    contenders::Demand,
    figures::{self, Column, Figures},
};

/// From one event to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// Large enough that the kernel cannot keep all events for who does not read.
const SIZE: usize = 2048;

pub struct Stuck;

impl Load for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn about(&self) -> &'static str {
        "As paced, with 2 KiB of data in an event: 10 s in which all read, then 15 s in which one more does not; \
         latency of those who read, before and then."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::P99_BEFORE,
            figures::P99,
            figures::MAX,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
            figures::RATIO,
            figures::LOST,
            figures::WRONG,
            figures::CLOSED,
        ]
    }

    fn demand(&self, quick: bool) -> Demand {
        Demand {
            streams: if quick { 100 } else { 2000 },
            channels: 1,
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        bench.create()?;
        let load = bench.open(bench.plan(SIZE)?)?;
        let warm_up = bench.events(0, 10, INTERVAL, SIZE);
        bench.deliver(&load, &warm_up)?;
        load.reset()?;
        let before = bench.events(warm_up.end(), bench.size(100, 10), INTERVAL, SIZE);
        bench.deliver(&load, &before)?;
        let before_us = Quantiles::of(&load.report()?.latency);
        let reader = Plan {
            streams: 1,
            stuck: 1,
            ..bench.plan(SIZE)?
        };
        let stuck = bench.open(reader)?;
        load.reset()?;
        let publish = bench.events(before.end(), bench.size(150, 10), INTERVAL, SIZE);
        let taken = bench.deliver(&load, &publish)?;
        drop(stuck);
        let report = load.stop(Some(publish.end()))?;
        Ok(Some(Figures {
            latency_before_us: before_us,
            ..taken.figures(bench, &report)
        }))
    }
}
