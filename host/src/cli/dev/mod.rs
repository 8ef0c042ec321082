//! `fanfare dev`: a guest is served, and built and swapped whenever its source changes.

mod build;
mod watch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use clap::Args;
use rustix::process::{Signal, getpid, kill_process};
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
        check::{self, GuestError},
        deploys::{Deploys, Outcome},
        versions::Unservable,
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

/// What is built whenever it changes.
struct Source {
    project: Project,
    watch: Watch,
    /// Whether the last build followed on the one before it: its changes came during that.
    follows: bool,
}

impl Source {
    /// Waits for a change after a build. `is_new`: whether that has made something new.
    ///
    /// A change that comes during a build may be an edit, or the build's own. So a build follows; but where that makes
    /// nothing new, what came during it is its own, or else a command that writes into its folder would run for ever.
    async fn change(&mut self, is_new: bool) {
        if self.follows && !is_new && self.project.writes() {
            self.watch.forget().await;
        }
        self.follows = self.watch.change().await;
    }
}

impl Dev {
    /// Serves until a signal ends it.
    pub fn run(self) -> Result<()> {
        let command = self.build.clone().zip(self.component.clone());
        let project = Project::find(&self.path, self.release, command)?;
        // Before the first build, so that no change is missed.
        let watch = Watch::start(project.watched())?;
        let mut source = Source {
            project,
            watch,
            follows: false,
        };
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
            while let Some(component) = unless_ended(first(&mut source)).await? {
                let config = configure(component)?;
                let app: String = config.apps.keys().map(String::as_str).collect();
                let meanwhile = |deploys| until_hangup(swap(&mut source, app, deploys));
                match run::node(config, meanwhile).await {
                    Err(error) if is_of_guest(&error) => {
                        wait_after(&error);
                        if unless_ended(source.change(false)).await?.is_none() {
                            break;
                        }
                    }
                    ended => return ended,
                }
            }
            Ok(())
        })
    }
}

/// Whether a node has not begun because its guest cannot be compiled or linked.
fn is_of_guest(error: &Error) -> bool {
    error.is::<GuestError>() || matches!(error.downcast_ref(), Some(Unservable::Guest(_)))
}

fn wait_after(error: &Error) {
    eprintln!("fanfare dev: {error:#}\nfanfare dev: waiting for a change");
}

/// The result, or nothing where a signal came before.
async fn unless_ended<T>(work: impl Future<Output = T>) -> Result<Option<T>> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut hangup = unix::signal(unix::SignalKind::hangup())?;
    tokio::select! {
        done = work => Ok(Some(done)),
        ended = ctrl_c() => Ok(ended.map(|()| None)?),
        _ = terminate.recv() => Ok(None),
        _ = hangup.recv() => Ok(None),
    }
}

/// Does something beside a node until the terminal is gone: then that is dropped, and the node ends in order. What is
/// built is in a group of processes of its own, which would go on.
async fn until_hangup(work: impl Future<Output = ()>) {
    let Ok(mut hangup) = unix::signal(unix::SignalKind::hangup()) else {
        return work.await;
    };
    tokio::select! {
        () = work => {}
        _ = hangup.recv() => {
            // The node takes it as anybody's.
            let _ = kill_process(getpid(), Signal::TERM);
        }
    }
}

/// Builds until there is a component that can be served.
async fn first(source: &mut Source) -> PathBuf {
    loop {
        match built(&source.project).await {
            Ok(component) => return component,
            Err(error) => wait_after(&error),
        }
        source.change(false).await;
    }
}

/// Builds a guest, and holds that it can be served as far as that is seen without compiling it.
async fn built(project: &Project) -> Result<PathBuf> {
    let component = project.build().await?;
    check::look(&component)?;
    Ok(component)
}

/// Builds and swaps at every change.
async fn swap(source: &mut Source, app: String, deploys: Deploys) {
    let mut is_new = true;
    loop {
        source.change(is_new).await;
        let swapped = async {
            let component = source.project.build().await?;
            deploy(&component, &app, &deploys).await
        };
        let swapped = swapped.await;
        is_new = matches!(&swapped, Ok(outcome) if outcome.version != outcome.previous);
        match swapped {
            Ok(outcome) if is_new => {
                let version = outcome.version.short();
                tell(format_args!("{app} serves version {version} now"));
            }
            Ok(_) => tell(format_args!("{app} is built, and the same as before")),
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
