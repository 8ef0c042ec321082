//! Logs: text for a terminal, JSON lines for a collector, on stderr in both cases.

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::config::{Log, LogFormat};

/// Libraries whose every step is of no interest to who runs a node. They warn, unless the filter names them.
const CHATTY: [&str; 2] = ["notify", "async_nats"];

/// Sends the log where the configuration says.
pub fn install(log: &Log) -> Result<()> {
    let filter = EnvFilter::builder().parse(directives(&log.level));
    let filter = filter.with_context(|| {
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

/// The level with what libraries may say in front, which it comes before.
fn directives(level: &str) -> String {
    let parts = level.split(',').filter_map(|part| part.trim().parse().ok());
    let most = parts.max().unwrap_or(LevelFilter::OFF);
    let quiet = CHATTY.iter().filter(|_| most > LevelFilter::WARN);
    let quiet = quiet.map(|library| format!("{library}=warn,"));
    quiet.chain([level.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_say_less_than_the_node_unless_they_are_named() {
        for (level, expected) in [
            ("info", "notify=warn,async_nats=warn,info"),
            ("Debug", "notify=warn,async_nats=warn,Debug"),
            ("warn", "warn"),
            ("off", "off"),
            ("fanfare=debug", "fanfare=debug"),
        ] {
            assert_eq!(directives(level), expected);
        }
        let named = directives("notify=debug, info");
        let filter = EnvFilter::builder().parse(named).unwrap().to_string();
        assert!(filter.contains("notify=debug"), "{filter}");
        assert!(!filter.contains("notify=warn"), "{filter}");
    }
}
