//! `fanfare inspect`: whether a component can be served; what it exports, imports and would need to be granted.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use tokio::runtime;

use super::{line, size, tell};
use crate::guest::{
    check::{Flavour, GuestError},
    engine::{Guests, Instances},
    inspect::{Grant, Inspection, inspect, try_out},
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
        let (found, bytes) = inspect(&self.guest)?;
        let verdict = verdict(&self.guest, bytes)?;
        let guest = line(&self.guest.display().to_string()).to_string();
        match &verdict {
            Ok(()) => tell(format_args!(
                "{guest} can be served, if its `start` succeeds"
            )),
            Err(refusal) => {
                let problem = refusal.problem();
                let told = format!("{guest} cannot be served, because it {problem}");
                for text in told.lines() {
                    tell(format_args!("{}", line(text)));
                }
            }
        }
        describe(&found);
        match verdict {
            Ok(()) => Ok(()),
            // That was said at length.
            Err(_) => bail!("{guest} cannot be served; what was printed first says why"),
        }
    }
}

/// Whether it can be served, as a node finds out.
fn verdict(guest: &Path, bytes: Bytes) -> Result<Result<(), GuestError>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // There will be none.
    let instances = Instances {
        blocking: 1,
        asynchronous: 1,
    };
    let guests = Guests::new(instances, None, runtime.handle())?;
    Ok(runtime.block_on(try_out(&guests, guest, bytes)))
}

fn describe(found: &Inspection) {
    tell(format_args!("size     {}", size(found.size)));
    tell(format_args!("version  {}", found.version));
    tell(format_args!("world    {}", world(found)));
    list("exports", found.shape.exports.iter().map(String::as_str));
    let imports = found.imports().map(|(name, missing)| match missing {
        None => name.to_owned(),
        Some(_) => format!("{name}, which this host does not offer"),
    });
    list("imports", imports);
    list("has to be granted", found.grants().into_iter().map(grant));
    let made = found.producers.iter().map(|[field, name, version]| {
        let field = match field.as_str() {
            "processed-by" => "made by",
            other => other,
        };
        format!("{field:<8} {name} {version}")
    });
    list("how it was made", made);
}

fn world(found: &Inspection) -> String {
    let world = match found.flavour() {
        Some(Flavour::Blocking) => "app: blocking, each call has an instance of its own",
        Some(Flavour::Asynchronous) => "app-async: asynchronous, many calls wait in one instance",
        None => "none of this contract: it exports no handler",
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
        tell(format_args!("  {}", line(text.as_ref().trim())));
    }
}
