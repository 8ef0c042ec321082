//! Deploys: how the code of a node's apps is changed while they serve, and what is kept of it.
//!
//! What a deploy has to survive decides its order. New code is kept, compiled and started beside the old; then it is
//! noted as what serves, and at once it does. A node that is killed before the note serves the old code when it is
//! started again, and one that is killed after it the new: both have started here.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};
use tracing::error;

use super::{
    app::{App, DeployError, Phase},
    version::{PrefixError, VersionId},
    versions::{Versions, folder::ComponentError, record::Record},
};

/// Deploys of a node at a time, uploads included: each holds a component in memory and compiles it.
pub const AT_A_TIME: usize = 2;

/// The apps of a node, and their versions.
#[derive(Clone)]
pub struct Deploys {
    targets: Arc<BTreeMap<String, Arc<Target>>>,
    versions: Arc<Versions>,
    room: Arc<Semaphore>,
}

/// An app that can be given new code.
struct Target {
    app: Arc<App>,
    /// The component that the configuration names.
    configured: PathBuf,
    /// One deploy at a time.
    turn: Arc<Semaphore>,
}

/// The right to change an app's code. Nobody else has it until this is dropped, or what it began is done.
pub struct Turn {
    target: Arc<Target>,
    versions: Arc<Versions>,
    _turn: OwnedSemaphorePermit,
    _room: OwnedSemaphorePermit,
}

/// Why there is no turn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoTurn {
    /// There is no such app.
    #[error("there is no app {0:?} on this node; there is {1}")]
    Unknown(String, String),
    /// Its code is being changed.
    #[error("another deploy of the app {0:?} is under way; come back when it is done")]
    Taken(String),
    /// Too many at a time.
    #[error(
        "{AT_A_TIME} deploys are under way on this node, and it does no more at a time; come back later"
    )]
    Full,
}

/// What came of a deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What serves now.
    pub version: VersionId,
    /// What served before.
    pub previous: VersionId,
    /// Whether it is served after a restart, too: the node has a data folder.
    pub kept: bool,
}

/// Why an app's code was not changed. What served before serves on.
#[derive(Debug, Error)]
pub enum DeployFailure {
    /// The component cannot serve.
    #[error(transparent)]
    Refused(#[from] DeployError),
    /// There is no such version.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// There is none before the one that serves.
    #[error("no version that served before {} is kept; name the one to go to", .0.short())]
    First(VersionId),
    /// The version is not there any more.
    #[error("version {} is lost: {error}", .version.short())]
    Lost {
        /// Which.
        version: VersionId,
        /// Why.
        error: ComponentError,
    },
    /// The data folder takes nothing.
    #[error("it cannot be kept in the data folder: {0}")]
    Unkept(std::io::Error),
    /// The host failed where it must not.
    #[error("failed in the host: {0}")]
    Host(String),
}

impl Deploys {
    /// Deploys to these apps, with the component that the configuration names for each.
    pub fn new(apps: impl IntoIterator<Item = (Arc<App>, PathBuf)>, versions: Versions) -> Self {
        let targets = apps.into_iter().map(|(app, configured)| {
            let name = app.shared.name.clone();
            let turn = Arc::new(Semaphore::new(1));
            let target = Target {
                app,
                configured,
                turn,
            };
            (name, Arc::new(target))
        });
        Self {
            targets: Arc::new(targets.collect()),
            versions: Arc::new(versions),
            room: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// The apps, by name.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<App>> {
        self.targets.values().map(|target| &target.app)
    }

    /// What is noted of an app.
    pub fn record(&self, app: &str) -> Option<Record> {
        self.versions.record(app)
    }

    /// Whether a deploy of an app is under way, its upload included.
    pub fn is_under_way(&self, app: &str) -> bool {
        let target = self.targets.get(app);
        target.is_some_and(|target| target.turn.available_permits() == 0)
    }

    /// Whether versions outlive the node.
    pub fn is_durable(&self) -> bool {
        self.versions.is_durable()
    }

    /// That there is no such app.
    pub fn unknown(&self, app: &str) -> NoTurn {
        let names: Vec<_> = self.targets.keys().map(String::as_str).collect();
        NoTurn::Unknown(app.chars().take(64).collect(), names.join(", "))
    }

    /// A turn at an app. It does not wait.
    pub fn turn(&self, app: &str) -> Result<Turn, NoTurn> {
        let Some(target) = self.targets.get(app) else {
            return Err(self.unknown(app));
        };
        let taken = |_| NoTurn::Taken(app.to_owned());
        let turn = target.turn.clone().try_acquire_owned().map_err(taken)?;
        let full = |_| NoTurn::Full;
        let room = self.room.clone().try_acquire_owned().map_err(full)?;
        Ok(Turn {
            target: target.clone(),
            versions: self.versions.clone(),
            _turn: turn,
            _room: room,
        })
    }
}

impl Turn {
    /// Deploys a component. Once begun it goes on to its end, whoever waits for it.
    pub async fn deploy(self, component: Bytes) -> Result<Outcome, DeployFailure> {
        detached(async move {
            let bytes = component.clone();
            let version = blocking(move || VersionId::of(&bytes)).await?;
            let deployed = self.change(version, component, false).await;
            if let Err(reason) = &deployed {
                self.log_refusal(version, reason);
            }
            deployed
        })
        .await
    }

    /// Goes back to the version that served before, or to the one that begins with these digits.
    pub async fn roll_back(self, to: Option<String>) -> Result<Outcome, DeployFailure> {
        detached(async move {
            let version = self.version(to.as_deref())?;
            let rolled_back = self.roll_back_to(version).await;
            if let Err(reason) = &rolled_back {
                self.log_refusal(version, reason);
            }
            rolled_back
        })
        .await
    }

    async fn roll_back_to(&self, version: VersionId) -> Result<Outcome, DeployFailure> {
        let versions = self.versions.clone();
        let component = blocking(move || versions.component(version)).await?;
        let component = component.map_err(|error| DeployFailure::Lost { version, error })?;
        self.change(version, component, true).await
    }

    fn version(&self, to: Option<&str>) -> Result<VersionId, DeployFailure> {
        let serves = self.target.app.code().version;
        let record = self.versions.record(self.name());
        let Some(record) = record else {
            return Err(DeployFailure::First(serves));
        };
        match to {
            Some(prefix) => {
                let versions = record.versions().iter().map(|version| version.version);
                Ok(VersionId::find(prefix, versions)?)
            }
            None => {
                let before = record.before_current().next();
                before.ok_or(DeployFailure::First(serves))
            }
        }
    }

    async fn change(
        &self,
        version: VersionId,
        component: Bytes,
        back: bool,
    ) -> Result<Outcome, DeployFailure> {
        let app = &self.target.app;
        let previous = app.code().version;
        let outcome = Outcome {
            version,
            previous,
            kept: self.versions.is_durable(),
        };
        if version == previous && app.phase() == Phase::Serving {
            self.note(version, component, back).await?;
            return Ok(outcome);
        }
        let (versions, bytes) = (self.versions.clone(), component.clone());
        let put = blocking(move || versions.put(version, &bytes)).await?;
        put.map_err(DeployFailure::Unkept)?;
        let origin = format!("version {}", version.short());
        let prepared = app.prepare(&origin, component.clone()).await;
        let noted = match prepared {
            Ok(prepared) => self.note(version, component, back).await.map(|()| prepared),
            Err(refusal) => Err(refusal.into()),
        };
        let swapped = noted.and_then(|prepared| Ok(app.swap(prepared)?));
        if let Err(reason) = swapped {
            let (versions, target) = (self.versions.clone(), self.target.clone());
            blocking(move || versions.take_back(&target.app.shared.name, previous, version))
                .await?;
            return Err(reason);
        }
        Ok(outcome)
    }

    /// Notes what serves.
    async fn note(
        &self,
        version: VersionId,
        component: Bytes,
        back: bool,
    ) -> Result<(), DeployFailure> {
        let (versions, target) = (self.versions.clone(), self.target.clone());
        let noted = blocking(move || {
            let name = &target.app.shared.name;
            // As it is now: whoever changes it after this deploy did so later.
            let configured = std::fs::read(&target.configured).ok();
            let before = || versions.record(name).and_then(|record| record.configured());
            let configured = configured
                .map(|bytes| VersionId::of(&bytes))
                .or_else(before);
            match back {
                true => versions.rolled_back(name, version, configured),
                false => versions.deployed(name, version, &component, configured),
            }
        });
        noted.await?.map_err(DeployFailure::Unkept)
    }

    fn name(&self) -> &str {
        &self.target.app.shared.name
    }

    fn log_refusal(&self, version: VersionId, reason: &DeployFailure) {
        let (version, serves) = (version.short(), self.target.app.code().version.short());
        error!(
            app = self.name(),
            "version {version} does not serve, and {serves} serves on: {reason}"
        );
    }
}

/// Runs to the end, even where nobody waits for it any more.
async fn detached<T: Send + 'static>(
    task: impl Future<Output = Result<T, DeployFailure>> + Send + 'static,
) -> Result<T, DeployFailure> {
    let failed = |error: tokio::task::JoinError| Err(DeployFailure::Host(error.to_string()));
    tokio::spawn(task).await.unwrap_or_else(failed)
}

/// Runs what blocks its thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeployFailure> {
    let failed = |error: tokio::task::JoinError| DeployFailure::Host(error.to_string());
    spawn_blocking(work).await.map_err(failed)
}
