//! The real binary, with the bench guest of `bench/guest`.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Contender, Demand, Own, Plain, Readiness, Server, repository};
use crate::{
    http::Client,
    process::{Process, free_address},
};

/// A binary to use in place of one that is built first.
const BINARY: &str = "FANFARE_BIN";

/// The package of the guest.
const GUEST: &str = "fanfare-bench-guest";

/// How long the guest may take to compile and start.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all histories may take by default, in bytes.
const HISTORIES: usize = 256 << 20;

/// How long an event is kept by default.
const AGE: Duration = Duration::from_secs(120);

/// More than the history of a channel takes in which there is one event of a few bytes.
const HISTORY: usize = 2 << 10;

#[derive(Default)]
pub struct Fanfare {
    binary: PathBuf,
    guest: PathBuf,
}

impl Contender for Fanfare {
    fn name(&self) -> &'static str {
        "fanfare"
    }

    fn prepare(&mut self) -> Result<Readiness> {
        self.binary = match env::var_os(BINARY) {
            Some(binary) => binary.into(),
            None => build()?,
        };
        let script = repository().join("scripts/build-guest");
        self.guest = output(Command::new(script).arg(GUEST))?.trim().into();
        Ok(Readiness::Ready)
    }

    fn start(&self, demand: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let (address, admin) = (free_address()?, free_address()?);
        let file = folder.join("fanfare.toml");
        fs::write(&file, configuration(&self.guest, address, admin, demand))?;
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--config"]).arg(&file);
        let process = Process::start(&mut command, address, folder)?;
        wait_until_ready(address)?;
        Ok(Box::new(Own {
            plain: Plain { process, address },
            metrics: admin,
        }))
    }
}

/// The defaults, apart from what the benchmark needs: calls that publish for long, a history that holds what streams
/// come back for and something of every channel, and metrics.
fn configuration(guest: &Path, address: SocketAddr, admin: SocketAddr, demand: Demand) -> String {
    let events = demand.backlog.max(100);
    let total = (demand.channels * HISTORY).max(HISTORIES);
    let age = demand.history_age.unwrap_or(AGE).as_millis();
    format!(
        r#"[listen]
address = "{address}"

[admin]
address = "{admin}"

[log]
level = "warn"

[apps.bench]
component = "{}"

[apps.bench.history]
events = {events}
bytes = "4MiB"
total-bytes = {total}
age = "{age}ms"

[apps.bench.limits]
cpu-time = "10m"
"#,
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
