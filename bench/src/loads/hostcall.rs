//! Publishing to nobody, as often as it goes: what a guest pays for its way into the host.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Clock, Load, SIZE};
use crate::{
    contenders::{Demand, Work},
    figures::{self, Column, Cost, Figures, Repeated},
};

/// How often it is measured.
const ROUNDS: usize = 5;

pub struct HostCall;

impl Load for HostCall {
    fn name(&self) -> &'static str {
        "hostcall"
    }

    fn about(&self) -> &'static str {
        "100,000 events of 64 bytes to a channel that nobody hears, published one after another by one guest, or without \
         one (`hub`); five times, and the middle one of these."
    }

    fn columns(&self) -> &'static [Column] {
        &[
            figures::PER_EVENT,
            figures::OVER_NATIVE,
            figures::CPU,
            figures::USER,
            figures::KERNEL,
        ]
    }

    fn work(&self) -> Work {
        Work::Repeats
    }

    fn yardstick(&self) -> &'static str {
        "hub"
    }

    fn demand(&self, _: bool) -> Demand {
        Demand {
            channels: 1,
            ..Demand::default()
        }
    }

    fn run(&self, bench: &Bench) -> Result<Option<Figures>> {
        let events = bench.size(100_000, 2000);
        let publish = bench.events(0, events, Duration::ZERO, SIZE);
        bench.server.repeat(&publish)?;
        let clock = Clock::start(bench.server)?;
        let mut nanos = Vec::new();
        for _ in 0..ROUNDS {
            nanos.push(bench.server.repeat(&publish)?.nanos);
        }
        let taken = clock.stop(bench.server)?;
        nanos.sort_unstable();
        Ok(Some(Figures {
            seconds: taken.seconds,
            channels: 1,
            server_cpu_seconds: taken.server.total().as_secs_f64(),
            client_cpu_seconds: taken.client.total().as_secs_f64(),
            cpu: Cost::of(taken.server, events * ROUNDS as u64),
            repeated: Some(Repeated {
                events,
                ns_per_event: nanos[ROUNDS / 2] as f64 / events as f64,
                ns_over_native: None,
            }),
            ..Figures::default()
        }))
    }
}
