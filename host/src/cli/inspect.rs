//! `fanfare inspect`: what a component exports, imports and would need to be granted.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{line, size, tell};
use crate::guest::{
    check::Flavour,
    inspect::{Grant, Inspection, inspect},
};

/// What to look at.
#[derive(Debug, Args)]
pub struct Inspect {
    /// The guest's component
    #[arg(value_name = "GUEST.wasm")]
    guest: PathBuf,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let found = inspect(&self.guest)?;
        tell(format_args!("{}", self.guest.display()));
        tell(format_args!("size     {}", size(found.size)));
        tell(format_args!("version  {}", found.version));
        tell(format_args!("world    {}", world(&found)));
        for [field, name, version] in &found.producers {
            let field = match field.as_str() {
                "processed-by" => "made by",
                other => other,
            };
            tell(format_args!(
                "{}",
                line(format!("{field:<8} {name} {version}").trim_end())
            ));
        }
        list("exports", found.shape.exports.iter().map(String::as_str));
        let offered = found.imports().filter(|(_, missing)| missing.is_none());
        list("imports", offered.map(|(name, _)| name));
        let missing = found.imports().filter_map(|(_, missing)| missing);
        list("imports that this host does not offer", missing);
        list("has to be granted", found.grants().into_iter().map(grant));
        Ok(())
    }
}

fn world(found: &Inspection) -> String {
    let world = match found.flavour() {
        Some(Flavour::Blocking) => "app: blocking, each call has an instance of its own",
        Some(Flavour::Asynchronous) => "app-async: asynchronous, many calls wait in one instance",
        None => "none of this contract: it exports no handler, and cannot be served",
    };
    match found.hooks().as_slice() {
        [] => world.to_owned(),
        hooks => format!("{world}; hooks: {}", hooks.join(", ")),
    }
}

fn grant(grant: Grant) -> &'static str {
    match grant {
        Grant::Redis => {
            "redis: the servers it connects to, with `capabilities.redis`, or `--allow-redis`"
        }
        Grant::Brokers => {
            "brokers: those it opens by a label, if it does, with `capabilities.brokers`"
        }
        Grant::Http => {
            "http: the servers it sends requests to, with `capabilities.http`, or `--allow-http`"
        }
    }
}

fn list(title: &str, lines: impl IntoIterator<Item = impl AsRef<str>>) {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return;
    }
    tell(format_args!("\n{title}"));
    for text in lines {
        tell(format_args!("  {}", line(text.as_ref().trim_start())));
    }
}
