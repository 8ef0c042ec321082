//! `fanfare dev`: a guest is served, and built and swapped whenever its source changes.

mod build;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::{ctrl_c, unix};

use self::{build::Project, watch::Watch};
use super::{
    run,
    serve::{NodeOptions, grant, variable},
    tell,
};
use crate::{
    config::{Address, Config, Upstream},
    guest::{
        check,
        deploys::{Deploys, Outcome},
    },
};

/// What to serve, and how it is built.
#[derive(Debug, Args)]
pub struct Dev {
    /// A guest's folder, which cargo builds, or a .wasm file that something else builds
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// Build with `cargo build --release`
    #[arg(long, conflicts_with = "build")]
    release: bool,
    /// Build the guest with this instead, in its folder
    #[arg(long, value_name = "COMMAND", requires = "component")]
    build: Option<String>,
    /// What `--build` makes
    #[arg(long, value_name = "FILE", requires = "build")]
    component: Option<PathBuf>,
    /// A variable of the guest
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,
    /// A Redis server that the guest may connect to
    #[arg(long, value_name = "HOST:PORT")]
    allow_redis: Vec<Address>,
    /// A server that the guest may send requests to, such as https://api.example.org
    #[arg(long, value_name = "ORIGIN")]
    allow_http: Vec<Upstream>,
    #[command(flatten)]
    node: NodeOptions,
}

impl Dev {
    /// Serves until a signal ends it.
    pub fn run(self) -> Result<()> {
        let command = self.build.clone().zip(self.component.clone());
        let project = Project::find(&self.path, self.release, command)?;
        // Before the first build, so that no change is missed.
        let watch = Watch::start(project.watched())?;
        let configure = |component: PathBuf| {
            let mut config = Config::for_guest(component);
            grant(
                &mut config,
                self.variables.clone(),
                self.allow_redis.clone(),
                self.allow_http.clone(),
            );
            self.node.clone().apply(&mut config)?;
            anyhow::Ok(config)
        };
        // What cannot be as it was said is told before the first build.
        let log = configure(PathBuf::new())?.log;
        run::to_the_end(&log, async {
            let Some(component) = unless_ended(first(&project, &watch)).await? else {
                return Ok(());
            };
            let config = configure(component)?;
            let app: String = config.apps.keys().map(String::as_str).collect();
            let meanwhile = |deploys| swap(&project, &watch, &app, deploys);
            run::node(config, meanwhile).await
        })
    }
}

/// The result, or nothing where a signal came before.
async fn unless_ended<T>(work: impl Future<Output = T>) -> Result<Option<T>> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    tokio::select! {
        done = work => Ok(Some(done)),
        ended = ctrl_c() => Ok(ended.map(|()| None)?),
        _ = terminate.recv() => Ok(None),
    }
}

/// Builds until there is a component that can be served.
async fn first(project: &Project, watch: &Watch) -> PathBuf {
    loop {
        match built(project).await {
            Ok(component) => return component,
            Err(error) => eprintln!("fanfare dev: {error:#}\nfanfare dev: waiting for a change"),
        }
        watch.change().await;
    }
}

/// Builds a guest, and holds that it can be served as far as that is seen without compiling it.
async fn built(project: &Project) -> Result<PathBuf> {
    let component = project.build().await?;
    check::look(&component)?;
    Ok(component)
}

/// Builds and swaps at every change.
async fn swap(project: &Project, watch: &Watch, app: &str, deploys: Deploys) {
    loop {
        watch.change().await;
        let swapped = async {
            let component = project.build().await?;
            deploy(&component, app, &deploys).await
        };
        match swapped.await {
            Ok(outcome) if outcome.version == outcome.previous => {
                tell(format_args!("{app} is built, and the same as before"));
            }
            Ok(outcome) => {
                let version = outcome.version.short();
                tell(format_args!("{app} serves version {version} now"));
            }
            Err(error) => {
                eprintln!(
                    "fanfare dev: {error:#}\nfanfare dev: {app} goes on as it was; waiting for a change"
                );
            }
        }
    }
}

async fn deploy(component: &Path, app: &str, deploys: &Deploys) -> Result<Outcome> {
    let bytes = std::fs::read(component);
    let bytes = bytes.with_context(|| format!("{} cannot be read", component.display()))?;
    let turn = deploys.turn(app)?;
    Ok(turn.deploy(bytes.into()).await?)
}
