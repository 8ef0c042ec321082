//! Brokers, each beside its own client used bare: how long an event takes from node to node, how many are accepted, and
//! what many channels take.
//!
//! # Layout
//!
//! | module | concept |
//! |---|---|
//! | `node` | a node: a hub with a client, and a feed over the broker |
//! | `redis`, `nats`, `postgres`, `kafka`, `durable` | a broker: its server, and its own client used bare; one file each |
//! | `latency` | from node to node |
//! | `throughput` | how many are accepted in a second |
//! | `flood` | publishing as fast as it goes, with many callers |
//! | `channels` | what many channels take, and whether they give it back |

mod channels;
mod durable;
mod flood;
#[cfg(feature = "kafka")]
mod kafka;
mod latency;
mod nats;
mod node;
mod postgres;
mod redis;
mod throughput;

use std::{
    future::Future, net::SocketAddr, path::PathBuf, pin::Pin, process::ExitCode, time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use fanfare::broker::{Broker, Retention};

use self::flood::Flood;
use crate::table::table;

/// Data of one event, in bytes.
const SIZE: usize = 64;

/// How long a server may take for anything.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What brokers keep, but for the many channels.
const RETENTION: Retention = Retention {
    events: 100,
    age: Duration::from_secs(120),
};

/// How to install what `scripts/setup` installs.
const SETUP: &str = "scripts/setup installs it";

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
    /// A broker of a node, over a log of this name.
    fn broker(&self, log: &str, retention: Retention) -> Result<Box<dyn Broker>>;

    /// Whether all its events stay on one node.
    fn is_of_one_node(&self) -> bool {
        false
    }

    /// Its own client used bare, from a publisher to a subscriber: the way that the broker is compared with, and others
    /// that say where the time goes.
    fn bare(&self) -> Later<'_, Vec<Bare>>;

    /// How many events a second are accepted of its own client, as many at a time as of the broker.
    fn bare_rate<'a>(&'a self, flood: &'a Flood) -> Later<'a, f64>;

    /// Where it is, for what is measured on a real node; `None`: it is not measured there.
    fn for_a_node(&self) -> Option<&dyn ForANode> {
        None
    }
}

/// A server that a real node is put before.
trait ForANode {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// The bytes that it takes in memory.
    fn memory(&self) -> Result<u64>;
}

/// A way of a broker's own client.
struct Bare {
    /// What it is.
    what: &'static str,
    way: Box<dyn Pass>,
}

/// A publisher and a subscriber of a broker's own client.
trait Pass {
    /// Publishes these bytes, and waits until they are accepted and heard. Returns how long it took until they were heard.
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration>;
}

/// A broker, and how its server is started.
struct Kind {
    /// What it is called, in arguments and tables.
    name: &'static str,
    start: fn() -> Result<Started>,
}

/// Whether a server was started.
enum Started {
    /// It was.
    Ready(Box<dyn Server>),
    /// It is not installed; this is how it would be.
    Missing(&'static str),
}

type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// What was measured: rows of three tables.
#[derive(Default)]
struct Rows {
    latencies: Vec<Vec<String>>,
    rates: Vec<Vec<String>>,
    memories: Vec<Vec<String>>,
    notes: String,
}

/// All brokers, in the order of the tables.
fn all() -> Vec<Kind> {
    let kind = |name, start: fn() -> Result<Started>| Kind { name, start };
    vec![
        kind("redis", redis::start),
        kind("nats", nats::start),
        kind("postgres", postgres::start),
        #[cfg(feature = "kafka")]
        kind("kafka", kafka::start),
        #[cfg(not(feature = "kafka"))]
        kind("kafka", || {
            Ok(Started::Missing(
                "build the benchmark with `--features fanfare-bench/kafka`",
            ))
        }),
        kind("durable-process", durable::start_process),
        kind("durable-power", durable::start_power),
    ]
}

impl Options {
    /// Measures, and prints a table for each thing. A failure if a broker failed.
    pub fn run(self) -> Result<ExitCode> {
        let mut kinds = all();
        for name in &self.names {
            if !kinds.iter().any(|kind| kind.name == name) {
                let known: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
                bail!("{name} is no broker; brokers: {}", known.join(", "));
            }
        }
        if !self.names.is_empty() {
            kinds.retain(|kind| self.names.iter().any(|name| name == kind.name));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let _entered = runtime.enter();
        let mut rows = Rows::default();
        let mut is_clean = true;
        for Kind { name, start } in kinds {
            eprintln!("{name} …");
            // One at a time, so that no other has a part of the machine.
            let measured = start().and_then(|started| match started {
                Started::Ready(server) => {
                    runtime.block_on(self.measure(name, &*server, &mut rows))?;
                    self.measure_node(name, &*server, &mut rows)
                }
                Started::Missing(how) => {
                    rows.notes += &format!("{name}: not installed: {how}\n");
                    Ok(())
                }
            });
            if let Err(error) = measured {
                rows.notes += &format!("{name}: failed: {error:#}\n");
                is_clean = false;
            }
        }
        print!("{}", self.tell(&rows));
        Ok(match is_clean {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    async fn measure(&self, name: &str, server: &dyn Server, rows: &mut Rows) -> Result<()> {
        let (events, time) = match self.quick {
            true => (200, Duration::from_millis(200)),
            false => (4000, Duration::from_secs(8)),
        };
        rows.latencies
            .extend(latency::measure(name, server, events, time).await?);
        let round = match self.quick {
            true => Duration::from_millis(100),
            false => Duration::from_secs(1),
        };
        rows.rates
            .push(throughput::measure(name, server, round).await?);
        Ok(())
    }

    fn measure_node(&self, name: &str, server: &dyn Server, rows: &mut Rows) -> Result<()> {
        if let Some(server) = server.for_a_node() {
            rows.memories
                .extend(channels::measure(name, server, self.quick)?);
        }
        Ok(())
    }

    fn tell(&self, rows: &Rows) -> String {
        let mut text = String::new();
        if self.quick {
            text += "A quick look, with few events and channels: no measurement.\n\n";
        }
        let mut add = |title: &str, head: &[&str], rows: &[Vec<String>]| {
            if !rows.is_empty() {
                text += &format!("{title}\n\n{}\n", table(head, rows));
            }
        };
        let accepted = format!(
            "Accepted in a second, {} callers on one node",
            flood::CALLERS
        );
        let kept = format!(
            "{} channels with {} events each, on a node",
            channels::count(self.quick),
            channels::EVENTS
        );
        let from = "From node to node, one event after another";
        add(from, &latency::HEAD, &rows.latencies);
        add(&accepted, &throughput::HEAD, &rows.rates);
        add(&kept, &channels::HEAD, &rows.memories);
        text + &rows.notes
    }
}

/// A program, in `PATH` or else in one of these folders.
fn program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// A folder that is gone with its server.
fn folder(name: &str) -> Result<tempfile::TempDir> {
    let prefix = format!("fanfare-bench-{name}-");
    Ok(tempfile::TempDir::with_prefix(prefix)?)
}
