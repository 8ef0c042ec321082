//! `fanfare deploy`: new code for an app of a running node.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use http::Method;

use super::{
    node::{Deployed, NodeArgs, Refusal, short},
    size, tell,
};
use crate::guest::version::VersionId;

/// What to deploy, and where.
#[derive(Debug, Args)]
pub struct Deploy {
    /// The guest's component
    #[arg(value_name = "GUEST.wasm")]
    guest: PathBuf,
    /// The app that is to run it
    #[arg(long, value_name = "NAME")]
    app: String,
    #[command(flatten)]
    node: NodeArgs,
}

impl Deploy {
    pub fn run(self) -> Result<()> {
        let node = self.node.client()?;
        let guest = self.guest.display();
        let component = fs::read(&self.guest).with_context(|| format!("{guest} cannot be read"))?;
        let version = VersionId::of(&component).short();
        // Before anything is sent: who may not come in, or has the wrong name, hears it at once.
        let app = node.app(&self.app)?;
        eprintln!(
            "deploying {guest} ({}, version {version}) to {} on {}: it is checked, compiled and started there",
            size(component.len() as u64),
            app.name,
            node.place()
        );
        let path = format!("/apps/{}/component", app.name);
        let deployed = node.work(Method::PUT, &path, "application/wasm", component.into());
        report(&app.name, &app.version, deployed)
    }
}

/// Says what came of a deploy or a rollback.
pub fn report(app: &str, serves: &str, deployed: Result<Deployed>) -> Result<()> {
    let deployed = deployed.map_err(|error| match error.downcast::<Refusal>() {
        Ok(refusal) => anyhow!("{app} goes on serving version {}: {refusal}", short(serves)),
        // It may have done it all the same.
        Err(error) => error.context(format!(
            "`fanfare apps` says what {app} serves now, because the node did not"
        )),
    })?;
    let (version, previous) = (short(&deployed.version), short(&deployed.previous));
    match version == previous {
        true => tell(format_args!(
            "{} serves version {version}, as before",
            deployed.app
        )),
        false => tell(format_args!(
            "{} serves version {version} now; before it, {previous}",
            deployed.app
        )),
    }
    if let Some(warning) = deployed.warning {
        eprintln!("note: {warning}");
    }
    Ok(())
}
