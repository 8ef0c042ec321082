//! Brokers, each beside its own client used bare: how long an event takes from node to node, how many are accepted, and
//! what many channels take.
//!
//! # Layout
//!
//! | module | concept |
//! |---|---|
//! | `node` | a node: a hub with a client, and a feed over the broker |
//! | `redis` | Redis: the server, and its client used bare |
//! | `latency` | from node to node |
//! | `throughput` | how many are accepted in a second |
//! | `channels` | what many channels take, and whether they give it back |

mod channels;
mod latency;
mod node;
mod redis;
mod throughput;

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use fanfare::broker::{Broker, Retention};

use crate::table::table;

/// Data of one event, in bytes.
const SIZE: usize = 64;

/// Which brokers to measure.
#[derive(Debug, Args)]
pub struct Options {
    /// Brokers; without one, all that are installed
    names: Vec<String>,
    /// Little of everything, in seconds: to see that it works, not to measure
    #[arg(long)]
    quick: bool,
}

/// A broker's server, and the ways to it.
trait Server {
    /// What it is called in tables.
    fn name(&self) -> &'static str;

    /// A broker of a node, over a log of this name.
    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker>;

    /// Its own client used bare: from a publisher to a subscriber.
    fn bare(&self) -> Later<'_, Box<dyn Bare>>;

    /// What its own benchmark reaches with the same work, in events a second, if it has one.
    fn benchmark(&self, events: usize) -> Result<Option<f64>>;

    /// The bytes that it takes in memory, if it says so.
    fn memory(&self) -> Result<Option<u64>>;
}

/// A publisher and a subscriber of a broker's own client.
trait Bare {
    /// Publishes these bytes and waits until they are heard. Returns how long that took.
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration>;
}

/// Starts a broker's server.
type Start = fn() -> Result<Box<dyn Server>>;

type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

impl Options {
    /// Measures, and prints a table for each thing.
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let all: [(&str, Start); 1] = [("redis", redis::start)];
        for name in &self.names {
            if !all.iter().any(|(known, _)| known == name) {
                let known: Vec<_> = all.iter().map(|(known, _)| *known).collect();
                bail!("{name} is no broker; brokers: {}", known.join(", "));
            }
        }
        let chosen = |name: &str| self.names.is_empty() || self.names.iter().any(|one| one == name);
        let _entered = runtime.enter();
        let mut servers = Vec::new();
        for (name, start) in all {
            if chosen(name) {
                servers.push(start()?);
            }
        }
        let scale = if self.quick { 20 } else { 1 };
        let (mut latencies, mut rates, mut memories) = (Vec::new(), Vec::new(), Vec::new());
        for server in &servers {
            let server = &**server;
            runtime.block_on(async {
                eprintln!("{} …", server.name());
                latencies.push(latency::measure(server, 4000 / scale).await?);
                rates.push(throughput::measure(server, 200_000 / scale).await?);
                memories.push(channels::measure(server, 100_000 / scale).await?);
                anyhow::Ok(())
            })?;
        }
        println!("From node to node, one event after another\n");
        println!("{}", table(&latency::HEAD, &latencies));
        println!(
            "Accepted in a second, {} callers on one node\n",
            throughput::CALLERS
        );
        println!("{}", table(&throughput::HEAD, &rates));
        println!("{} channels with 10 events each\n", 100_000 / scale);
        println!("{}", table(&channels::HEAD, &memories));
        Ok(())
    }
}
