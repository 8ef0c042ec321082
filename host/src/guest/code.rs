//! An app's code: one version of its guest, ready to be called.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use tokio::time::timeout;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::warn;

use super::{
    asynchronous::Asynchronous,
    blocking::Blocking,
    call::{Call, Failure, Outcome},
    check::{Checked, Flavour, Hooks},
    engine::Guests,
    error::sentence,
    imports,
    scope::{Named, Of, Scope},
    shared::Shared,
    threads::Lane,
    version::VersionId,
};

/// How long `start` and the hooks may take where the app has no limit of wall time: a handler may wait for its
/// client as long as it likes, but somebody waits for these.
const START_TIME: Duration = Duration::from_secs(60);
const HOOK_TIME: Duration = Duration::from_secs(30);

/// Why calls are stopped at the end.
pub const SHUTTING_DOWN: &str = "the node is shutting down";

/// A version of an app's guest.
pub struct Code {
    /// Which one.
    pub version: VersionId,
    /// The app and the same, for people.
    pub named: Arc<Named>,
    /// When it was made.
    pub since: SystemTime,
    shared: Arc<Shared>,
    world: World,
    /// What else the guest wants to hear of.
    hooks: Hooks,
    /// The calls in flight, hooks included.
    calls: TaskTracker,
    /// Ends those that run on after their time.
    stop: CancellationToken,
    /// Why they end.
    why: OnceLock<&'static str>,
}

enum World {
    Blocking(Blocking),
    Asynchronous(Asynchronous),
}

impl Code {
    /// Links a component. Nothing of it runs yet.
    pub fn new(
        guests: &Guests,
        shared: &Arc<Shared>,
        lane: &Lane,
        checked: &Checked,
    ) -> wasmtime::Result<Self> {
        let Checked {
            version,
            flavour,
            hooks,
            ..
        } = checked;
        let named = Arc::new(Named {
            app: shared.name.clone(),
            version: version.short(),
        });
        let world = match flavour {
            Flavour::Blocking => {
                let linker = imports::linker(guests.engine(*flavour))?;
                World::Blocking(Blocking::new(guests, shared, &linker, checked)?)
            }
            Flavour::Asynchronous => {
                let linker = imports::linker_async(guests.engine(*flavour))?;
                let guest = Asynchronous::new(guests, shared, lane, &named, &linker, checked)?;
                World::Asynchronous(guest)
            }
        };
        Ok(Self {
            version: *version,
            named,
            since: SystemTime::now(),
            shared: shared.clone(),
            world,
            hooks: *hooks,
            calls: TaskTracker::new(),
            stop: CancellationToken::new(),
            why: OnceLock::new(),
        })
    }

    /// What else the guest wants to hear of than requests.
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// Whether it has instances beside those of its calls.
    pub fn has_instances_of_its_own(&self) -> bool {
        matches!(self.world, World::Asynchronous(_))
    }

    /// Counts a call that is about to be made, until this is dropped.
    pub fn token(&self) -> TaskTrackerToken {
        self.calls.token()
    }

    /// How many calls are in flight.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Calls the server hook; says why it has not succeeded.
    pub async fn start(&self) -> Result<(), StartFailure> {
        let scope = Scope::new(&self.named, Of::Start);
        let reason = match self.call(Call::Start, &scope).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("`start` answered {}", sentence(&error)),
            Err(failure) if failure.stopped == Some(SHUTTING_DOWN) => {
                return Err(StartFailure::Stopped);
            }
            Err(failure) => format!("`start` {failure}"),
        };
        Err(StartFailure::Failed(self.shared.loggable(&reason)))
    }

    /// Runs a call until it returns, fails, or nobody waits for it any more. To be polled on the threads of guests.
    pub async fn call(&self, call: Call, scope: &Scope) -> Outcome {
        let otherwise = match call {
            Call::Handle(_) => None,
            Call::Start => Some(START_TIME),
            Call::Disconnected(_) | Call::Occupancy(_) => Some(HOOK_TIME),
        };
        let wall_time = match self.shared.limits.wall_time {
            Duration::ZERO => otherwise,
            wall_time => Some(wall_time),
        };
        let outcome = async {
            match &self.world {
                // Boxed, because thousands wait in the other one.
                World::Blocking(guest) => Box::pin(guest.call(call, scope, wall_time)).await,
                World::Asynchronous(guest) => guest.call(call, wall_time).await,
            }
        };
        let outcome = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                Err(Failure::stopped(self.why.get().copied().unwrap_or_default()))
            }
            outcome = outcome => outcome,
        };
        if let Err(Failure {
            limit: Some(limit), ..
        }) = &outcome
        {
            self.shared.reached.count(*limit);
        }
        outcome
    }

    /// Gives up what only later calls would need: newer code serves. To be polled on the threads of guests.
    pub async fn give_up(&self) {
        match &self.world {
            World::Blocking(guest) => guest.retire().await,
            World::Asynchronous(guest) => guest.retire(),
        }
    }

    /// Lets the calls in flight finish for so long and then stops them, for this reason; no others are to come.
    pub async fn retire(&self, bound: Duration, why: &'static str) {
        self.calls.close();
        let finished = async {
            self.calls.wait().await;
            if let World::Asynchronous(guest) = &self.world {
                // What calls have left running may go on as well.
                guest.ended().await;
            }
        };
        if timeout(bound, finished).await.is_ok() || self.calls.is_empty() {
            return;
        }
        warn!(
            app = self.shared.name,
            version = self.named.version,
            calls = self.calls(),
            "calls are stopped: they have not finished within {bound:?}"
        );
        self.stop(why);
        self.calls.wait().await;
    }

    /// Stops the calls in flight, for this reason.
    pub fn stop(&self, why: &'static str) {
        let _ = self.why.set(why);
        self.stop.cancel();
    }

    /// Whether anything was not used for a while.
    pub fn has_old(&self) -> bool {
        match &self.world {
            World::Blocking(guest) => guest.has_old(),
            World::Asynchronous(_) => false,
        }
    }

    /// Gives it back. To be polled on the threads of guests.
    pub async fn trim(&self) {
        if let World::Blocking(guest) = &self.world {
            guest.trim().await;
        }
    }
}

/// Why the server hook has not succeeded.
#[derive(Debug)]
pub enum StartFailure {
    /// The guest's own error, or a trap.
    Failed(String),
    /// The node is shutting down.
    Stopped,
}
