//! Many streams on one channel, at a pace that all keep up with.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Load, SIZE};
use crate::{
    contenders::Demand,
    figures::{self, Column, Figures},
};

/// From one event to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// Events before it is measured.
const WARM_UP: u64 = 10;

pub struct Paced;

impl Load for Paced {
    fn name(&self) -> &'static str {
        "paced"
    }

    fn about(&self) -> &'static str {
        "2,000 streams on one channel, 10 events a second for 15 s; CPU for one delivery."
    }

    fn columns(&self) -> &'static [Column] {
        figures::DELIVERY
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
        bench.deliver(&load, &bench.events(0, WARM_UP, INTERVAL, SIZE))?;
        load.reset()?;
        let publish = bench.events(WARM_UP, bench.size(150, 10), INTERVAL, SIZE);
        let taken = bench.deliver(&load, &publish)?;
        let report = load.stop(Some(publish.end()))?;
        Ok(Some(taken.figures(bench, &report)))
    }
}
