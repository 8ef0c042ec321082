//! As `paced`, with new code for the guest meanwhile: do the streams notice?

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fanfare_load::Quantiles;

use super::{Bench, Clock, Load, SIZE, hear};
use crate::{
    contenders::{Demand, Work},
    figures::{self, Column, Deployed, Figures},
};

/// From one event to the next.
const INTERVAL: Duration = Duration::from_millis(100);

pub struct Deploy;

impl Load for Deploy {
    fn name(&self) -> &'static str {
        "deploy"
    }

    fn about(&self) -> &'static str {
        "As paced: 15 s in which nothing else happens, then three deploys of other code, a second apart, each compiled \
         anew; latency before, and from the first deploy until a second after the last."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::DEPLOYS,
            figures::DEPLOY,
            figures::P99_BEFORE,
            figures::P50,
            figures::P99,
            figures::MAX,
            figures::LOST,
            figures::WRONG,
            figures::CLOSED,
        ]
    }

    fn work(&self) -> Work {
        Work::Deploys
    }

    fn demand(&self, quick: bool) -> Demand {
        Demand {
            streams: if quick { 100 } else { 2000 },
            channels: 1,
            deploys: true,
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        let quiet = bench.size(Duration::from_secs(15), Duration::from_secs(1));
        let deploys: usize = bench.size(3, 1);
        let pause = Duration::from_secs(1);
        let load = bench.open(bench.plan(SIZE)?)?;
        bench.deliver(&load, &bench.events(0, 10, INTERVAL, SIZE))?;
        // What takes longer than these is measured while it is quiet again.
        let events = bench.size(400, 60);
        let publish = bench.events(10, events, INTERVAL, SIZE);
        let (before, during, taken, slowest) = thread::scope(|scope| {
            let publishing = scope.spawn(|| bench.server.publish(&publish));
            load.reset()?;
            thread::sleep(quiet);
            let before = load.report()?;
            load.reset()?;
            let clock = Clock::start(bench.server)?;
            let mut slowest = Duration::ZERO;
            for number in 0..deploys {
                let begun = Instant::now();
                bench.server.deploy(number as u64)?;
                slowest = slowest.max(begun.elapsed());
                thread::sleep(pause);
            }
            let (during, taken) = (load.report()?, clock.stop(bench.server)?);
            publishing.join().ok().context("publishing panicked")??;
            anyhow::Ok((before, during, taken, slowest))
        })?;
        hear(&load, u64::MAX);
        let report = load.stop(Some(publish.end()))?;
        Ok(Some(Figures {
            latency_before_us: Quantiles::of(&before.latency),
            deployed: Some(Deployed {
                deploys,
                deploy_ms: slowest.as_secs_f64() * 1000.0,
            }),
            // What went wrong, until all was over.
            faults: report.faults,
            closed: report.closed,
            failed: report.failures(),
            ..taken.figures(bench, &during)
        }))
    }
}
