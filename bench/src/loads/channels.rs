//! As many streams on a channel each, or on one channel together, and as many deliveries in a second as `paced`.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Load, SIZE};
use crate::{
    contenders::Demand,
    figures::{self, Column, Figures},
};

/// What streams hear. All else is the same, so what differs is what many channels cost.
pub enum Channels {
    /// Each stream a channel of its own.
    OneEach,
    /// All streams one channel.
    OneForAll,
}

impl Load for Channels {
    fn name(&self) -> &'static str {
        match self {
            Self::OneEach => "channels",
            Self::OneForAll => "crowd",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::OneEach => {
                "10,000 channels with one stream each, 20,000 events a second on all together for 15 s; CPU for one \
                 delivery."
            }
            Self::OneForAll => {
                "As channels, with all 10,000 streams on one channel and 2 events a second on it, which are 20,000 \
                 deliveries; CPU for one."
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::STREAMS,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
            figures::RATIO,
            figures::P50,
            figures::P99,
            figures::MAX,
            figures::DELIVERIES,
            figures::LOST,
            figures::WRONG,
            figures::CLOSED,
        ]
    }

    fn demand(&self, quick: bool) -> Demand {
        let streams = if quick { 200 } else { 10_000 };
        Demand {
            streams,
            channels: match self {
                Self::OneEach => streams,
                Self::OneForAll => 1,
            },
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        bench.create()?;
        let load = bench.open(bench.plan(SIZE)?)?;
        let rate = bench.size(20_000.0, 1000.0);
        let interval = Duration::from_secs_f64(bench.demand.streams as f64 / rate);
        bench.deliver(&load, &bench.events(0, 2, interval, SIZE))?;
        load.reset()?;
        let publish = bench.events(2, bench.size(30, 5), interval, SIZE);
        let taken = bench.deliver(&load, &publish)?;
        let report = load.stop(Some(publish.end()))?;
        Ok(Some(taken.figures(bench, &report)))
    }
}
