//! What contenders are put to. A load more is a file here and a line in [`all`].

mod burst;
mod calls;
mod channels;
mod churn;
mod deploy;
mod forget;
mod hostcall;
mod idle;
pub mod memory;
mod paced;
mod parked;
mod resume;
mod soak;
mod stuck;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use fanfare_bench_protocol::Publish;
use fanfare_load::{Expect, Plan, Report};

use crate::{
    contenders::{Demand, Server, Work},
    figures::{Column, Cost, Figures},
    process::Cpu,
};

/// The first part of channels' names.
const PREFIX: &str = "bench";

/// The bytes of data of one event, where a load does not say otherwise.
const SIZE: usize = 64;

/// How long streams may take to open, and to hear all that was published.
const PATIENCE: Duration = Duration::from_secs(120);

/// After so long without any event, none will come.
const SILENCE: Duration = Duration::from_secs(5);

/// Something to put contenders to.
pub trait Load {
    /// The name, in arguments and tables.
    fn name(&self) -> &'static str;

    /// A sentence about it, for the table.
    fn about(&self) -> &'static str;

    /// What its table shows.
    fn columns(&self) -> &'static [Column];

    /// How much a server is to expect.
    fn demand(&self, quick: bool) -> Demand;

    /// What it puts servers to.
    fn work(&self) -> Work {
        Work::Streams
    }

    /// The contender that the others are compared with.
    fn yardstick(&self) -> &'static str {
        "floor"
    }

    /// Whether it takes minutes, and runs only when it is asked for.
    fn is_long(&self) -> bool {
        false
    }

    /// Puts a server to it; `None` if the server cannot do such a thing.
    fn run(&self, bench: &Bench) -> Result<Option<Figures>>;
}

/// All loads, in the order of the tables.
pub fn all() -> Vec<Box<dyn Load>> {
    vec![
        Box::new(paced::Paced),
        Box::new(burst::Burst),
        Box::new(channels::Channels::OneEach),
        Box::new(channels::Channels::OneForAll),
        Box::new(idle::Idle),
        Box::new(churn::Churn),
        Box::new(resume::Resume),
        Box::new(stuck::Stuck),
        Box::new(forget::Forget),
        Box::new(calls::Calls),
        Box::new(parked::Parked::Thousand),
        Box::new(parked::Parked::TenThousand),
        Box::new(hostcall::HostCall),
        Box::new(deploy::Deploy),
        Box::new(soak::Soak),
    ]
}

/// A server, and how much of a load it gets.
pub struct Bench<'a> {
    /// The server.
    pub server: &'a dyn Server,
    /// What the load demanded, as far as the machine allows it.
    pub demand: Demand,
    /// Little of everything.
    pub quick: bool,
}

impl Bench<'_> {
    /// One of two sizes.
    fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Streams that each hear the channel of their number, or all the only one, and expect events of that size.
    fn plan(&self, size: usize) -> Result<Plan> {
        let number = if self.demand.channels > 1 { "{n}" } else { "0" };
        Ok(Plan {
            expect: Expect::PayloadsFrom { size, number: 0 },
            ..self.plan_for(&format!("{PREFIX}-{number}"), self.demand.streams)?
        })
    }

    /// Streams that hear this channel.
    fn plan_for(&self, channel: &str, streams: usize) -> Result<Plan> {
        self.plan_at(&self.server.events(channel), streams)
    }

    /// Streams at this path.
    fn plan_at(&self, path: &str, streams: usize) -> Result<Plan> {
        let target = format!("http://{}{path}", self.server.address());
        Ok(Plan {
            skip_type: self.server.own_event_type(),
            ..Plan::new(target.parse()?, streams)
        })
    }

    /// What to publish, on all channels.
    fn events(&self, from: u64, events: u64, interval: Duration, size: usize) -> Publish {
        Publish {
            prefix: PREFIX.to_owned(),
            channels: self.demand.channels as u64,
            events,
            interval,
            size,
            from,
        }
    }

    /// Makes the channels, where that is to be done.
    fn create(&self) -> Result<()> {
        self.server.create(PREFIX, self.demand.channels)
    }

    /// Opens all streams.
    fn open(&self, plan: Plan) -> Result<fanfare_load::Load> {
        let streams = plan.streams as u64;
        let load = fanfare_load::Load::start(plan)?;
        let mut failed = 0;
        let all = load.wait(PATIENCE, |progress| {
            failed = progress.failed + progress.closed;
            progress.open == streams || failed > 0
        });
        if !all || failed > 0 {
            let report = load.stop(None)?;
            bail!(
                "{} of {streams} streams opened, {} closed, {:?}",
                report.opened,
                report.closed,
                report.failed
            );
        }
        // An answer may be a moment older than its stream's place on the channel.
        thread::sleep(self.size(Duration::from_secs(1), Duration::from_millis(300)));
        Ok(load)
    }

    /// Publishes, and waits until all streams have heard all. What it took; the counts stay with the load.
    fn deliver(&self, load: &fanfare_load::Load, publish: &Publish) -> Result<Taken> {
        let clock = Clock::start(self.server)?;
        let before = load.progress();
        let published = self.server.publish(publish)?;
        let listeners = self.demand.streams as u64 / self.demand.channels as u64;
        let all = before.payloads + published.count * listeners;
        hear(load, all);
        clock.stop(self.server)
    }
}

/// Waits until so many payloads have come, or no more do.
fn hear(load: &fanfare_load::Load, all: u64) {
    let (mut heard, mut at) = (0, Instant::now());
    load.wait(PATIENCE, |progress| {
        if progress.payloads != heard {
            (heard, at) = (progress.payloads, Instant::now());
        }
        heard >= all || at.elapsed() > SILENCE
    });
}

/// CPU time and time, as of when something began.
struct Clock {
    server: Cpu,
    client: Cpu,
    at: Instant,
}

/// CPU time and time that something took.
struct Taken {
    server: Cpu,
    client: Cpu,
    seconds: f64,
}

impl Clock {
    fn start(server: &dyn Server) -> Result<Self> {
        Ok(Self {
            server: server.process().cpu()?,
            client: Cpu::own()?,
            at: Instant::now(),
        })
    }

    fn stop(self, server: &dyn Server) -> Result<Taken> {
        Ok(Taken {
            seconds: self.at.elapsed().as_secs_f64(),
            server: server.process().cpu()? - self.server,
            client: Cpu::own()? - self.client,
        })
    }
}

impl Taken {
    /// What a report says, with what each delivery took.
    fn figures(&self, bench: &Bench, report: &Report) -> Figures {
        Figures {
            channels: bench.demand.channels,
            server_cpu_seconds: self.server.total().as_secs_f64(),
            client_cpu_seconds: self.client.total().as_secs_f64(),
            cpu: Cost::of(self.server, report.payloads),
            latency_us: fanfare_load::Quantiles::of(&report.latency),
            ..Figures::of(report, self.seconds)
        }
    }
}
