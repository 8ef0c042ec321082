//! The real binary, with the guests of `bench/guest` and `bench/guest-async`.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Contender, Demand, Own, Plain, Readiness, Server, Work, guest, output, repository};
use crate::{
    http::Client,
    process::{Process, free_address},
};

/// A binary to use in place of one that is built first.
const BINARY: &str = "FANFARE_BIN";

/// The guest of the blocking flavour.
const GUEST: &str = "fanfare-bench-guest";

/// What lets new code in.
pub const TOKEN: &str = "a-token-of-the-benchmark";

/// How many calls an instance serves that serves several.
const REUSED: usize = 1000;

/// How long the guest may take to compile and start.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all histories may take by default, in bytes.
const HISTORIES: usize = 256 << 20;

/// How long an event is kept by default.
const AGE: Duration = Duration::from_secs(120);

/// More than an event of a few bytes takes, with the history of its channel if it is the only one.
const HISTORY: usize = 2 << 10;

/// How guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The blocking flavour, an instance for each call: the default.
    Fresh,
    /// The blocking flavour, an instance for [`REUSED`] calls.
    Reused,
    /// The asynchronous flavour.
    Asynchronous,
}

pub struct Fanfare {
    variant: Variant,
    binary: PathBuf,
    guest: PathBuf,
}

impl Fanfare {
    pub fn new(variant: Variant) -> Self {
        Self {
            variant,
            binary: PathBuf::new(),
            guest: PathBuf::new(),
        }
    }

    /// That which was built together with this program, or else as [`Contender::prepare`] has it.
    pub fn beside() -> Result<Self> {
        let mut fanfare = Self::new(Variant::Fresh);
        let beside = env::current_exe()?.with_file_name("fanfare");
        if env::var_os(BINARY).is_none() && beside.is_file() {
            fanfare.binary = beside;
            fanfare.guest = guest(GUEST)?;
        } else {
            fanfare.prepare()?;
        }
        Ok(fanfare)
    }
}

impl Contender for Fanfare {
    fn name(&self) -> &'static str {
        match self.variant {
            Variant::Fresh => "fanfare",
            Variant::Reused => "fanfare-reused",
            Variant::Asynchronous => "fanfare-async",
        }
    }

    fn works(&self) -> &'static [Work] {
        match self.variant {
            Variant::Fresh => &[
                Work::Streams,
                Work::Calls,
                Work::Parked,
                Work::Repeats,
                Work::Deploys,
            ],
            Variant::Reused => &[Work::Calls],
            Variant::Asynchronous => &[Work::Calls, Work::Parked, Work::ParkedMany, Work::Repeats],
        }
    }

    fn prepare(&mut self) -> Result<Readiness> {
        self.binary = match env::var_os(BINARY) {
            Some(binary) => binary.into(),
            None => build()?,
        };
        self.guest = guest(match self.variant {
            Variant::Fresh | Variant::Reused => GUEST,
            Variant::Asynchronous => "fanfare-bench-guest-async",
        })?;
        Ok(Readiness::Ready)
    }

    fn start(&self, demand: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let (address, admin) = (free_address()?, free_address()?);
        let file = folder.join("fanfare.toml");
        let mut text = configuration(&self.guest, address, admin, demand);
        if self.variant == Variant::Reused {
            text += &format!("\n[apps.bench.instances]\ncalls = {REUSED}\n");
        }
        fs::write(&file, text)?;
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--config"]).arg(&file);
        let process = Process::start(&mut command, address, folder)?;
        wait_until_ready(address)?;
        Ok(Box::new(Own {
            plain: Plain { process, address },
            admin,
            guest: Some(self.guest.clone()),
        }))
    }
}

/// The defaults, apart from what the benchmark needs: calls that publish for long, a history that holds what streams
/// come back for and something of every channel, and metrics.
fn configuration(guest: &Path, address: SocketAddr, admin: SocketAddr, demand: Demand) -> String {
    let events = demand.backlog.max(100);
    let total = (demand.channels * demand.backlog.max(1) * HISTORY).max(HISTORIES);
    let age = demand.history_age.unwrap_or(AGE).as_millis();
    let token = match demand.deploys {
        true => format!("token = \"{TOKEN}\"\n"),
        false => String::new(),
    };
    let calls = match demand.calls {
        Some(calls) => format!("calls = {calls}\n"),
        None => String::new(),
    };
    let broker = match demand.redis {
        Some(redis) => {
            format!("type = \"redis\"\nurl = \"redis://{redis}\"\nsync-channel = \"bench\"")
        }
        None => "type = \"memory\"".to_owned(),
    };
    format!(
        r#"[listen]
address = "{address}"

[admin]
address = "{admin}"
{token}
[log]
level = "warn"

[brokers.main]
{broker}

[apps.bench]
component = "{}"

[apps.bench.capabilities]
brokers = ["main"]

[apps.bench.history]
events = {events}
bytes = "4MiB"
total-bytes = {total}
age = "{age}ms"

[apps.bench.limits]
cpu-time = "10m"
{calls}"#,
        guest.display()
    )
}

fn wait_until_ready(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while Client::connect(address)?
        .ask("GET", "/readyz", None)?
        .status
        != 200
    {
        ensure!(start.elapsed() < PATIENCE, "it does not get ready");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Builds the binary, and says where it is.
fn build() -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--release", "-p", "fanfare"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(repository());
    let messages = output(&mut cargo)?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executable.context("cargo made no binary")
}
