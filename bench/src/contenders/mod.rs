//! Who is measured. A contender more is a file here and a line in [`all`].

mod axum;
mod durable_streams;
pub mod fanfare;
mod floor;
mod hub;
mod nchan;
mod wasmtime;

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fanfare_bench_protocol::{Publish, Published};
use serde_json::Value;

use self::fanfare::Variant;
use crate::{http::Client, process::Process};

/// Where `cargo install --root` puts contenders, below the folder of the repository.
const ROOT: &str = "target/contenders";

/// Somebody who serves event streams.
pub trait Contender {
    /// The name, in arguments and tables.
    fn name(&self) -> &'static str;

    /// What it can be put to.
    fn works(&self) -> &'static [Work] {
        &[Work::Streams]
    }

    /// Builds or finds what it needs, once.
    fn prepare(&mut self) -> Result<Readiness>;

    /// Starts a server that expects that much, with an empty folder of its own.
    fn start(&self, demand: Demand, folder: &Path) -> Result<Box<dyn Server>>;

    /// The files that it has open for each channel, besides one for each stream.
    fn files_per_channel(&self) -> usize {
        0
    }
}

/// What loads put contenders to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Streams that hear what is published.
    Streams,
    /// Requests that a handler answers at once.
    Calls,
    /// Handlers that wait.
    Parked,
    /// More of them than there may be instances.
    ParkedMany,
    /// Publishing as often as it goes, from one place.
    Repeats,
    /// New code while streams are open.
    Deploys,
}

/// Whether a contender can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It is not installed; this is how it would be.
    Missing(String),
}

/// How much a server is to expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Streams open at a time.
    pub streams: usize,
    /// Channels, of which each stream hears one.
    pub channels: usize,
    /// Events of one channel that come faster than they leave, or that streams miss and come back for.
    pub backlog: usize,
    /// How long a channel's events are kept, where that matters.
    pub history_age: Option<Duration>,
    /// Handlers in flight at a time, where that is more than by default.
    pub calls: Option<usize>,
    /// New code will come.
    pub deploys: bool,
    /// Events go over the Redis server there, and are kept by it.
    pub redis: Option<SocketAddr>,
}

/// A server that runs. Dropping it ends it.
pub trait Server: Sync {
    /// Its process.
    fn process(&self) -> &Process;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Path and query of a stream that hears a channel, from now on.
    fn events(&self, channel: &str) -> String {
        format!("/events?channel={channel}")
    }

    /// Makes channels `<prefix>-0` … where they do not come into being by themselves.
    fn create(&self, prefix: &str, channels: usize) -> Result<()> {
        let _ = (prefix, channels);
        Ok(())
    }

    /// Publishes, and returns when all is published.
    fn publish(&self, publish: &Publish) -> Result<Published> {
        ask_to_publish(self.address(), "/publish", publish)
    }

    /// Publishes as often as that says on its first channel, with nothing in between.
    fn repeat(&self, publish: &Publish) -> Result<Published> {
        ask_to_publish(self.address(), "/repeat", publish)
    }

    /// Puts new code in the place of the old: code that does the same, but is another for each number.
    fn deploy(&self, number: u64) -> Result<()> {
        bail!("it takes no code, and so none of number {number}")
    }

    /// How a stream comes back to where a channel is now; the id is that of its last event. `None`: it cannot.
    fn place(&self, channel: &str, last_event_id: Option<String>) -> Result<Option<Place>> {
        let _ = (channel, last_event_id);
        Ok(None)
    }

    /// How many channels it has now, those that nobody hears included; `None`: it does not say.
    fn channels(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// The type of events that it adds of its own.
    fn own_event_type(&self) -> Option<String> {
        None
    }
}

fn ask_to_publish(address: SocketAddr, path: &str, publish: &Publish) -> Result<Published> {
    let target = format!("{path}?{}", publish.query());
    let answer = Client::connect(address)?
        .ask("POST", &target, None)?
        .success()?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    let number = |name: &str| answer[name].as_u64().with_context(|| format!("no {name}"));
    Ok(Published {
        count: number("published")?,
        nanos: number("nanos")?,
    })
}

/// A place in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path and query of a stream that goes on there.
    pub events: String,
    /// The `Last-Event-ID` that says where that is.
    pub last_event_id: Option<String>,
}

/// All contenders, in the order of the tables: what others are compared with comes before them.
pub fn all() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(floor::Floor),
        Box::new(axum::Axum),
        Box::new(hub::Hub),
        Box::new(fanfare::Fanfare::new(Variant::Fresh)),
        Box::new(fanfare::Fanfare::new(Variant::Reused)),
        Box::new(fanfare::Fanfare::new(Variant::Asynchronous)),
        Box::new(wasmtime::Wasmtime::new(wasmtime::Variant::Fresh)),
        Box::new(wasmtime::Wasmtime::new(wasmtime::Variant::Reused)),
        Box::new(nchan::Nchan),
        Box::new(durable_streams::DurableStreams),
    ]
}

/// The folder of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds guests, and says where they are.
fn guest(package: &str) -> Result<PathBuf> {
    let script = repository().join("scripts/build-guest");
    Ok(output(Command::new(script).arg(package))?.trim().into())
}

/// What a command prints, while its words about that go to ours.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program:?}"))?;
    ensure!(output.status.success(), "{program:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// A program that was installed by `cargo install`: in the root that a variable names, below the folder of the
/// repository, or in `PATH`.
fn installed(program: &str, root: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let given = env::var_os(root).map(|root| PathBuf::from(root).join("bin"));
    let roots = [repository().join(ROOT).join("bin")];
    given
        .into_iter()
        .chain(roots)
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|program| program.exists())
}

/// The command that serves one of the contenders of this binary.
fn serve(name: &str, address: SocketAddr) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["serve", name, "--listen", &address.to_string()]);
    Ok(command)
}

/// A server that is spoken to as this file says.
struct Plain {
    process: Process,
    address: SocketAddr,
}

impl Server for Plain {
    fn process(&self) -> &Process {
        &self.process
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Fanfare, or its hub: streams come back with the id of their last event, and metrics say how many channels there are.
struct Own {
    plain: Plain,
    /// Where `/metrics` is, and where code is taken.
    admin: SocketAddr,
    /// What is deployed anew.
    guest: Option<PathBuf>,
}

impl Server for Own {
    fn process(&self) -> &Process {
        self.plain.process()
    }

    fn address(&self) -> SocketAddr {
        self.plain.address()
    }

    fn place(&self, channel: &str, last_event_id: Option<String>) -> Result<Option<Place>> {
        Ok(Some(Place {
            events: self.events(channel),
            last_event_id,
        }))
    }

    fn channels(&self) -> Result<Option<u64>> {
        let answer = Client::connect(self.admin)?
            .ask("GET", "/metrics", None)?
            .success()?;
        let page = String::from_utf8(answer.body)?;
        gauge(&page, "fanfare_channels").map(Some)
    }

    fn deploy(&self, number: u64) -> Result<()> {
        let guest = self.guest.as_ref().context("it runs no guest")?;
        let mut component = fs::read(guest)?;
        component.extend(custom_section(&number.to_string()));
        let content = Some(("application/wasm", &*component));
        Client::connect(self.admin)?
            .with_token(fanfare::TOKEN)
            .ask("PUT", "/apps/bench/component", content)?
            .success()
            .map(|_| ())
    }
}

/// A section at the end of a component that changes nothing but its bytes: id 0, size, size of the name, name
/// (WebAssembly core specification, "Custom Section"). The name is short, so that each size is one byte.
fn custom_section(name: &str) -> Vec<u8> {
    let length = name.len() as u8;
    [&[0, length + 1, length][..], name.as_bytes()].concat()
}

/// The value of a gauge that is once on a page of metrics, whatever its labels are.
fn gauge(page: &str, name: &str) -> Result<u64> {
    let line = page.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then_some(rest)
    });
    let value = line.and_then(|line| line.rsplit(' ').next());
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_found_by_its_whole_name() {
        let page = "# HELP a b\n# TYPE a gauge\na_b{x=\"1\"} 7\na{x=\"1\"} 5\nc 3\n";
        assert_eq!(gauge(page, "a").unwrap(), 5);
        assert_eq!(gauge(page, "a_b").unwrap(), 7);
        assert_eq!(gauge(page, "c").unwrap(), 3);
        assert!(gauge(page, "d").is_err());
    }

    #[test]
    fn a_custom_section_says_how_long_it_is() {
        assert_eq!(custom_section("12"), [0, 3, 2, b'1', b'2']);
    }
}
