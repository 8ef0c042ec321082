//! Streams that come and leave for minutes, on channels that do: what is not forgotten adds up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fanfare_bench_protocol::Publish;
use fanfare_load::{Expect, Plan, Report};

use super::{Bench, Clock, Load, PREFIX, SIZE, memory};
use crate::{
    contenders::Demand,
    figures::{self, Column, Cost, Figures, Growth, per_second},
};

/// From one event of a channel to the next.
const INTERVAL: Duration = Duration::from_millis(20);

/// How many events a stream hears before it leaves.
const HEARD: u64 = 10;

/// So many looks at the memory make one figure: a single one may fall on a bad moment.
const LOOKS: usize = 10;

pub struct Soak;

impl Load for Soak {
    fn name(&self) -> &'static str {
        "soak"
    }

    fn about(&self) -> &'static str {
        "200 at a time open a stream on one of 50 channels, hear 10 of 50 events a second and leave, for 3 minutes; the \
         channels are others every 2 s. Memory after a quarter of the time and at the end; CPU for one stream."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::IN_ALL,
            figures::STREAM_RATE,
            figures::AT_QUARTER,
            figures::AT_END,
            figures::GROWTH,
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
            streams: if quick { 20 } else { 200 },
            channels: if quick { 5 } else { 50 },
            // So short that before the first figure there is as much to forget as there is new.
            history_age: Some(Duration::from_secs(if quick { 1 } else { 5 })),
            ..Demand::default()
        }
    }

    fn is_long(&self) -> bool {
        true
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        let time = bench.size(Duration::from_secs(180), Duration::from_secs(3));
        let every = bench.size(Duration::from_secs(1), Duration::from_millis(50));
        let clock = Clock::start(bench.server)?;
        let (looks, report) = memory::during(bench.server, every, || {
            let start = Instant::now();
            let mut report = generation(bench, 0)?;
            for number in 1.. {
                if start.elapsed() >= time {
                    break;
                }
                report.add(&generation(bench, number)?);
            }
            Ok(report)
        })?;
        let taken = clock.stop(bench.server)?;
        let quarter = middle(&looks[..looks.len().div_ceil(4)]);
        let end = middle(&looks);
        Ok(Some(Figures {
            streams: bench.demand.streams,
            cpu: Cost::of(taken.server, report.left),
            streams_per_second: Some(per_second(report.left, taken.seconds)),
            growth: Some(Growth {
                streams_in_all: report.opened,
                quarter_bytes: quarter,
                end_bytes: end,
                growth_percent: (end as f64 / quarter.max(1) as f64 - 1.0) * 100.0,
            }),
            ..taken.figures(bench, &report)
        }))
    }
}

/// Streams that come and leave on channels that were not there before, for two seconds.
fn generation(bench: &Bench, number: u64) -> Result<Report> {
    let publish = Publish {
        prefix: format!("{PREFIX}-{number}"),
        ..bench.events(0, bench.size(100, 25), INTERVAL, SIZE)
    };
    let channels = bench.demand.channels;
    bench.server.create(&publish.prefix, channels)?;
    // A load has a stream on each channel.
    let plan = Plan {
        leave_after: Some(HEARD),
        expect: Expect::Payloads { size: SIZE },
        ..bench.plan_for(&format!("{}-{{n}}", publish.prefix), channels)?
    };
    let loads: Result<Vec<_>> = (0..bench.demand.streams / channels)
        .map(|_| fanfare_load::Load::start(plan.clone()))
        .collect();
    let loads = loads?;
    bench.server.publish(&publish)?;
    let reports = loads.into_iter().map(|load| load.stop(None));
    let sum = reports.reduce(|sum, report| {
        let mut sum = sum?;
        sum.add(&report?);
        Ok(sum)
    });
    sum.context("no streams")?
}

/// The middle one of the last looks.
fn middle(looks: &[u64]) -> u64 {
    let mut last = looks[looks.len().saturating_sub(LOOKS)..].to_vec();
    last.sort_unstable();
    last.get(last.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_look_does_not_count() {
        let mut looks = vec![90; 50];
        looks.extend([10; LOOKS]);
        looks[55] = 1000;
        assert_eq!(middle(&looks), 10);
        assert_eq!(middle(&[5]), 5);
        assert_eq!(middle(&[]), 0);
    }
}
