//! Many streams on one channel, and events as fast as they are accepted.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Load, SIZE};
use crate::{
    contenders::Demand,
    figures::{self, Column, Figures},
};

/// Events before it is measured.
const WARM_UP: u64 = 10;

pub struct Burst;

impl Load for Burst {
    fn name(&self) -> &'static str {
        "burst"
    }

    fn about(&self) -> &'static str {
        "2,000 streams on one channel, 2,000 events as fast as they are accepted; CPU for one delivery."
    }

    fn columns(&self) -> &'static [Column] {
        figures::DELIVERY
    }

    fn demand(&self, quick: bool) -> Demand {
        Demand {
            streams: if quick { 100 } else { 2000 },
            channels: 1,
            backlog: 4096,
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        bench.create()?;
        let load = bench.open(bench.plan(SIZE)?)?;
        let slowly = Duration::from_millis(20);
        bench.deliver(&load, &bench.events(0, WARM_UP, slowly, SIZE))?;
        load.reset()?;
        let publish = bench.events(WARM_UP, bench.size(2000, 200), Duration::ZERO, SIZE);
        let taken = bench.deliver(&load, &publish)?;
        let report = load.stop(Some(publish.end()))?;
        Ok(Some(taken.figures(bench, &report)))
    }
}
