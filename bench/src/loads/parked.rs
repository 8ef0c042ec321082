//! Handlers that wait: each has opened a stream, and writes to it when its time has come.

use std::time::Duration;

use anyhow::{Result, ensure};
use fanfare_bench_protocol::Park;
use fanfare_load::{Expect, Plan};

use super::{Bench, Clock, Load, PATIENCE, SIZE, hear, memory};
use crate::{
    contenders::{Demand, Work},
    figures::{self, Column, Figures},
};

/// Of the streams, so many of three have a handler that waits; the others tell what a stream costs without one.
const WAITING: (usize, usize) = (2, 3);

/// Handlers that came and have gone, before anything is measured.
const WARM_UP: usize = 50;

/// How many handlers wait.
pub enum Parked {
    /// A thousand, each with an instance of its own where the guest is a blocking one.
    Thousand,
    /// Ten thousand.
    TenThousand,
}

impl Load for Parked {
    fn name(&self) -> &'static str {
        match self {
            Self::Thousand => "parked",
            Self::TenThousand => "parked-many",
        }
    }

    fn about(&self) -> &'static str {
        match self {
            Self::Thousand => {
                "1,000 streams whose handlers wait for 45 s and then write an event to them; memory for one handler beyond \
                 that for one of 500 streams without, and how late the events come."
            }
            Self::TenThousand => "As parked, with 10,000 handlers and 5,000 streams without.",
        }
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::HANDLERS,
            figures::PER_HANDLER,
            figures::MEMORY,
            figures::LATE_P50,
            figures::LATE_P99,
            figures::LATE_MAX,
            figures::LOST,
            figures::WRONG,
            figures::CLOSED,
        ]
    }

    fn work(&self) -> Work {
        match self {
            Self::Thousand => Work::Parked,
            Self::TenThousand => Work::ParkedMany,
        }
    }

    fn demand(&self, quick: bool) -> Demand {
        let streams = match (quick, self) {
            (true, _) => 150,
            (false, Self::Thousand) => 1500,
            (false, Self::TenThousand) => 15_000,
        };
        Demand {
            streams,
            channels: streams,
            // Handlers that open a stream and return are calls, too.
            calls: Some(streams),
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        let handlers = bench.demand.streams * WAITING.0 / WAITING.1;
        let others = bench.demand.streams - handlers;
        warm_up(bench)?;
        let settled = || memory::settled(bench.server).map(|bytes| bytes as i64);
        let nothing = settled()?;
        let quiet = bench.open(bench.plan_for("quiet-{n}", others)?)?;
        let streams = settled()?;
        let wait = bench.size(Duration::from_secs(45), Duration::from_secs(5));
        let clock = Clock::start(bench.server)?;
        let parked = bench.open(plan(bench, "parked-{n}", wait, handlers)?)?;
        let waiting = settled()?;
        ensure!(
            parked.progress().payloads == 0,
            "the first handlers have waited for long enough before all waited"
        );
        parked.wait(wait + PATIENCE, |progress| progress.payloads > 0);
        hear(&parked, handlers as u64);
        let taken = clock.stop(bench.server)?;
        let closed = quiet.stop(None)?.closed;
        let report = parked.stop(Some(1))?;
        let per_stream = (streams - nothing) / others as i64;
        let figures = taken.figures(bench, &report);
        Ok(Some(Figures {
            cpu: None,
            bytes_per_stream: Some(per_stream.max(0) as u64),
            parked: Some(figures::Parked {
                handlers,
                bytes_per_handler: (waiting - streams) / handlers as i64 - per_stream,
            }),
            closed: report.closed + closed,
            ..figures
        }))
    }
}

/// Streams whose handlers wait, and then write an event.
fn plan(bench: &Bench, channel: &str, wait: Duration, streams: usize) -> Result<Plan> {
    let park = Park {
        channel: channel.to_owned(),
        wait,
        size: SIZE,
    };
    Ok(Plan {
        expect: Expect::PayloadsFrom {
            size: SIZE,
            number: 0,
        },
        ..bench.plan_at(&format!("/park?{}", park.query()), streams)?
    })
}

fn warm_up(bench: &Bench) -> Result<()> {
    let wait = Duration::from_millis(1);
    let load = bench.open(plan(bench, "warm-{n}", wait, WARM_UP)?)?;
    hear(&load, WARM_UP as u64);
    load.stop(Some(1))?;
    Ok(())
}
