//! Every load for every contender.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::{
    contenders::{self, Contender, Demand, Readiness},
    figures::Figures,
    loads::{self, Bench, Load},
    table::table,
};

/// Files that are open for neither streams nor channels, or for those of a warm-up.
const OTHER_FILES: usize = 1000;

/// What to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Loads and contenders to run; without a load all but `soak`, without a contender all of them
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Print a line of JSON for each load and contender, in place of tables
    #[arg(long)]
    json: bool,
    /// Little of everything, in seconds: to see that it works, not to measure
    #[arg(long)]
    quick: bool,
    /// Run `soak` too, which takes minutes for each contender
    #[arg(long)]
    soak: bool,
}

/// What became of a load with a contender.
#[derive(Debug, Serialize)]
struct Outcome {
    load: &'static str,
    contender: &'static str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(flatten)]
    figures: Option<Figures>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    Measured,
    NotApplicable,
    NotInstalled,
    Failed,
}

impl Options {
    /// Runs it, and prints what was measured. A failure if anything was lost or failed.
    pub fn run(self) -> Result<ExitCode> {
        let (loads, mut contenders) = self.chosen()?;
        let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024) as usize;
        contenders.retain(|contender| loads.iter().any(|load| is_for(&**load, &**contender)));
        let mut ready = Vec::new();
        for contender in &mut contenders {
            let name = contender.name();
            ready.push(contender.prepare().with_context(|| name.to_owned())?);
        }
        let mut is_clean = true;
        for load in &loads {
            let mut outcomes: Vec<Outcome> = Vec::new();
            for (contender, readiness) in contenders.iter().zip(&ready) {
                if !is_for(&**load, &**contender) {
                    continue;
                }
                eprintln!("{} {} …", load.name(), contender.name());
                let mut outcome = match readiness {
                    Readiness::Ready => self.measure(&**load, &**contender, files),
                    Readiness::Missing(how) => Outcome {
                        note: Some(format!("not installed: {how}")),
                        ..Outcome::empty(&**load, &**contender, Status::NotInstalled)
                    },
                };
                let yardstick = outcomes
                    .iter()
                    .find(|outcome| outcome.contender == load.yardstick())
                    .and_then(|outcome| outcome.figures.as_ref());
                if let Some(figures) = &mut outcome.figures {
                    figures.compare(yardstick, outcome.contender == load.yardstick());
                }
                is_clean &= outcome.is_clean();
                if self.json {
                    println!("{}", serde_json::to_string(&outcome)?);
                }
                outcomes.push(outcome);
            }
            if !self.json && !outcomes.is_empty() {
                println!("{}", self.tell(&**load, &outcomes));
            }
        }
        Ok(match is_clean {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// The loads and contenders that were named.
    #[expect(clippy::type_complexity, reason = "two lists")]
    fn chosen(&self) -> Result<(Vec<Box<dyn Load>>, Vec<Box<dyn Contender>>)> {
        let (mut loads, mut contenders) = (loads::all(), contenders::all());
        let load_names: Vec<_> = loads.iter().map(|load| load.name()).collect();
        let contender_names: Vec<_> = contenders.iter().map(|one| one.name()).collect();
        let is_named = |name: &str| self.names.iter().any(|named| named == name);
        for name in &self.names {
            if !load_names.contains(&&**name) && !contender_names.contains(&&**name) {
                bail!(
                    "{name} is no load and no contender; loads: {}; contenders: {}",
                    load_names.join(", "),
                    contender_names.join(", ")
                );
            }
        }
        let any_is_named = load_names.iter().any(|name| is_named(name));
        loads.retain(|load| match load.is_long() {
            true => is_named(load.name()) || self.soak,
            false => is_named(load.name()) || !any_is_named,
        });
        if contender_names.iter().any(|name| is_named(name)) {
            contenders.retain(|contender| is_named(contender.name()));
        }
        Ok((loads, contenders))
    }

    /// The table of a load.
    fn tell(&self, load: &dyn Load, outcomes: &[Outcome]) -> String {
        let columns = load.columns();
        let head: Vec<&str> = ["contender"]
            .into_iter()
            .chain(columns.iter().map(|column| column.title))
            .collect();
        let cells = |outcome: &Outcome| -> Vec<String> {
            let mut row = vec![outcome.contender.to_owned()];
            row.extend(columns.iter().map(|column| {
                let value = outcome.figures.as_ref().and_then(column.value);
                value.unwrap_or("-".to_owned())
            }));
            row
        };
        let rows: Vec<Vec<String>> = outcomes.iter().map(cells).collect();
        let notes: String = outcomes
            .iter()
            .filter_map(|outcome| {
                Some(format!(
                    "{}: {}\n",
                    outcome.contender,
                    outcome.note.as_ref()?
                ))
            })
            .collect();
        let gap = if notes.is_empty() { "" } else { "\n" };
        let about = match self.quick {
            true => "A quick look, with few streams and events: no measurement.",
            false => load.about(),
        };
        format!(
            "### {}\n\n{about}\n\n{}{gap}{notes}",
            load.name(),
            table(&head, &rows)
        )
    }

    fn measure(&self, load: &dyn Load, contender: &dyn Contender, files: usize) -> Outcome {
        let wanted = load.demand(self.quick);
        let demand = fitting(wanted, files, contender.files_per_channel());
        let measured = || -> Result<Option<Figures>> {
            let folder = tempfile::tempdir()?;
            let server = contender.start(demand, folder.path())?;
            let measured = load.run(&Bench {
                server: &*server,
                demand,
                quick: self.quick,
            });
            measured.map_err(|error| match server.process().last_lines() {
                lines if lines.is_empty() => error,
                lines => error.context(format!("its log ends with {lines:?}")),
            })
        };
        match measured() {
            Ok(Some(figures)) => Outcome {
                figures: Some(figures),
                ..Outcome::empty(load, contender, Status::Measured)
            },
            Ok(None) => Outcome::empty(load, contender, Status::NotApplicable),
            Err(error) => Outcome {
                note: Some(format!("failed: {error:#}")),
                ..Outcome::empty(load, contender, Status::Failed)
            },
        }
    }
}

impl Outcome {
    fn empty(load: &dyn Load, contender: &dyn Contender, status: Status) -> Self {
        Self {
            load: load.name(),
            contender: contender.name(),
            status,
            note: None,
            figures: None,
        }
    }

    fn is_clean(&self) -> bool {
        match &self.figures {
            Some(figures) => figures.is_clean(),
            None => self.status != Status::Failed,
        }
    }
}

fn is_for(load: &dyn Load, contender: &dyn Contender) -> bool {
    contender.works().contains(&load.work())
}

/// What of a demand the limit of open files allows.
fn fitting(demand: Demand, files: usize, files_per_channel: usize) -> Demand {
    let files = files.saturating_sub(OTHER_FILES);
    if demand.streams + demand.channels * files_per_channel <= files {
        return demand;
    }
    match demand.channels == demand.streams {
        true => {
            let both = files / (1 + files_per_channel);
            Demand {
                streams: both,
                channels: both,
                ..demand
            }
        }
        false => Demand {
            streams: files.saturating_sub(demand.channels * files_per_channel),
            ..demand
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(streams: usize, channels: usize) -> Demand {
        Demand {
            streams,
            channels,
            ..Demand::default()
        }
    }

    #[test]
    fn a_demand_fits_the_files() {
        assert_eq!(fitting(demand(900, 1), 2000, 1), demand(900, 1));
        assert_eq!(fitting(demand(5000, 1), 2000, 1), demand(999, 1));
        assert_eq!(fitting(demand(5000, 5000), 2000, 0), demand(1000, 1000));
        assert_eq!(fitting(demand(5000, 5000), 2000, 1), demand(500, 500));
    }
}
