//! Requests that a handler answers at once, on connections that are kept.

use std::time::Duration;

use anyhow::Result;
use fanfare_bench_protocol::HELLO;
use fanfare_load::{Quantiles, Requests};

use super::{Bench, Clock, Load};
use crate::{
    contenders::{Demand, Work},
    figures::{self, Answered, Column, Cost, Figures, per_second},
};

/// On each of them, one request after another.
const CONNECTIONS: usize = 64;

pub struct Calls;

impl Load for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn about(&self) -> &'static str {
        "64 connections, on each one request after another for 15 s, that a handler answers with 200 and a few bytes; CPU \
         for one request."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::RATE,
            figures::RATE_RATIO,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
            figures::CPU_RATIO,
            figures::P50,
            figures::P99,
            figures::MAX,
            figures::FAILED,
        ]
    }

    fn work(&self) -> Work {
        Work::Calls
    }

    fn yardstick(&self) -> &'static str {
        "axum"
    }

    fn demand(&self, _: bool) -> Demand {
        Demand::default()
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        let requests = |duration| -> Result<Requests> {
            Ok(Requests {
                target: format!("http://{}/hello", bench.server.address()).parse()?,
                connections: CONNECTIONS,
                body: HELLO.into(),
                duration,
            })
        };
        let warm_up = bench.size(Duration::from_secs(2), Duration::from_millis(200));
        let duration = bench.size(Duration::from_secs(15), Duration::from_secs(2));
        let before = requests(warm_up)?.send()?;
        let clock = Clock::start(bench.server)?;
        let answers = requests(duration)?.send()?;
        let taken = clock.stop(bench.server)?;
        let seconds = answers.elapsed.as_secs_f64();
        for (reason, count) in before.wrong.iter().chain(&answers.wrong) {
            eprintln!("{count} requests: {reason}");
        }
        Ok(Some(Figures {
            seconds,
            server_cpu_seconds: taken.server.total().as_secs_f64(),
            client_cpu_seconds: taken.client.total().as_secs_f64(),
            cpu: Cost::of(taken.server, answers.right),
            latency_us: Quantiles::of(&answers.latency),
            answered: Some(Answered {
                requests: answers.right,
                requests_per_second: per_second(answers.right, seconds),
                rate_ratio: None,
            }),
            failed: before.failures() + answers.failures(),
            ..Figures::default()
        }))
    }
}
