//! `fanfare apps`: what a running node serves.

use anyhow::Result;
use clap::Args;
use serde::Deserialize;

use super::{
    line, lines,
    node::{NodeArgs, NodeClient, short},
    size, tell,
};

/// Which node, and which of its apps.
#[derive(Debug, Args)]
pub struct Apps {
    /// List the versions of this app that are kept
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Deserialize)]
struct Versions {
    current: String,
    kept: bool,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    size: u64,
    since: String,
    source: String,
}

impl Apps {
    pub fn run(self) -> Result<()> {
        let node = self.node.client()?;
        match &self.app {
            Some(app) => versions(&node, app),
            None => apps(&node),
        }
    }
}

fn apps(node: &NodeClient) -> Result<()> {
    let apps = node.apps()?;
    let head = [
        "app", "route", "phase", "version", "since", "calls", "streams",
    ];
    let rows = apps.iter().map(|app| {
        [
            app.name.clone(),
            app.route.clone(),
            app.phase.clone(),
            short(&app.version).to_owned(),
            app.since.clone(),
            app.calls.to_string(),
            app.connections.to_string(),
        ]
    });
    table(head, rows.collect());
    for app in &apps {
        if let Some(reason) = &app.reason {
            tell(format_args!(
                "{} does not serve: {}",
                line(&app.name),
                lines(reason)
            ));
        }
    }
    Ok(())
}

fn versions(node: &NodeClient, app: &str) -> Result<()> {
    let versions: Versions = node.get(&format!("/apps/{app}/versions"))?;
    let head = ["", "version", "since", "size", "source"];
    let rows = versions.versions.iter().map(|version| {
        let serves = version.version == versions.current;
        [
            if serves { "serves" } else { "" }.to_owned(),
            short(&version.version).to_owned(),
            version.since.clone(),
            size(version.size),
            version.source.clone(),
        ]
    });
    table(head, rows.collect());
    if !versions.kept {
        tell(format_args!(
            "They last until the node ends: it has no data folder (`node.data`, or `--data`)."
        ));
    }
    Ok(())
}

/// Prints columns as wide as they need to be.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) {
    let shown = |row: [String; N]| row.map(|cell| line(&cell));
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .map(shown)
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        tell(format_args!("{}", cells.join("  ").trim_end()));
    }
}
