//! Logs: text for a terminal, JSON lines for a collector, on stderr in both cases.

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Sends the log where the configuration says.
pub fn install(log: &Log) -> Result<()> {
    let filter = EnvFilter::builder().parse(&log.level).with_context(|| {
        format!(
            "log.level: {:?} is no level, such as `info` or `info,fanfare=debug`",
            log.level
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let installed = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot install the log: {error}"))
}
