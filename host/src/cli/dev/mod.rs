//! `fanfare dev`: a guest is served, and built and swapped whenever its source changes.

mod build;
mod watch;

use std::{
    fs,
    path::{Path, PathBuf},
};

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
        version::VersionId,
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
    /// What the last build made that made something.
    version: Option<VersionId>,
    /// Whether a build follows on the last one: changes came during that.
    follows: bool,
}

impl Source {
    /// Builds it, and says where the component is.
    ///
    /// A change that comes during a build may be an edit, or the build's own. So another build follows; but where that
    /// makes nothing new, what came during it is its own, or else a command that writes into its folder would run for
    /// ever.
    async fn build(&mut self) -> Result<PathBuf> {
        let built = self.project.build().await;
        if self.project.writes() {
            let made = built.as_ref().ok().and_then(|made| fs::read(made).ok());
            let version = made.map(|made| VersionId::of(&made));
            let is_new = version.is_some() && version != self.version;
            self.version = version.or(self.version);
            let is_changed = self.watch.has_changed().await;
            self.follows = is_changed && (is_new || !self.follows);
        }
        built
    }

    /// Waits for a change.
    async fn change(&mut self) {
        if !self.follows {
            self.watch.change().await;
        }
        self.watch.quiet().await;
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
            version: None,
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
            // Once for all, so that none is lost between two who wait for it.
            let mut hangup = unix::signal(unix::SignalKind::hangup())?;
            while let Some(component) = unless_ended(&mut hangup, first(&mut source)).await? {
                let config = configure(component)?;
                let app: String = config.apps.keys().map(String::as_str).collect();
                let meanwhile =
                    |deploys| until_hangup(&mut hangup, swap(&mut source, app, deploys));
                match run::node(config, meanwhile).await {
                    Err(error) if is_of_guest(&error) => {
                        wait_after(&error);
                        if unless_ended(&mut hangup, source.change()).await?.is_none() {
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
async fn unless_ended<T>(
    hangup: &mut unix::Signal,
    work: impl Future<Output = T>,
) -> Result<Option<T>> {
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    tokio::select! {
        done = work => Ok(Some(done)),
        ended = ctrl_c() => Ok(ended.map(|()| None)?),
        _ = terminate.recv() => Ok(None),
        _ = hangup.recv() => Ok(None),
    }
}

/// Does something beside a node until the terminal is gone: then that is dropped, and the node ends in order. What is
/// built is in a group of processes of its own, which would go on.
async fn until_hangup(hangup: &mut unix::Signal, work: impl Future<Output = ()>) {
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
        match built(source).await {
            Ok(component) => return component,
            Err(error) => wait_after(&error),
        }
        source.change().await;
    }
}

/// Builds a guest, and holds that it can be served as far as that is seen without compiling it.
async fn built(source: &mut Source) -> Result<PathBuf> {
    let component = source.build().await?;
    check::look(&component)?;
    Ok(component)
}

/// Builds and swaps at every change.
async fn swap(source: &mut Source, app: String, deploys: Deploys) {
    loop {
        source.change().await;
        let swapped = async {
            let component = source.build().await?;
            deploy(&component, &app, &deploys).await
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
    let bytes = fs::read(component);
    let bytes = bytes.with_context(|| format!("{} cannot be read", component.display()))?;
    let turn = deploys.turn(app)?;
    Ok(turn.deploy(bytes.into()).await?)
}
