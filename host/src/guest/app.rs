//! An app: a guest deployed under a name. Here it starts, gets new code, and ends.
//!
//! # Layout
//!
//! - [`requests`]: room for them, their handler, and what their clients are told.
//! - [`hooks`]: the ends of connections, told to the guest.

mod hooks;
mod requests;

use std::{
    pin::pin,
    sync::{Arc, Weak, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::{sync::Semaphore, time::timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, error_span, info, warn};

pub use self::hooks::HOOKS_AT_A_TIME;
use super::{
    answers::Answers,
    check::{self, Checked, GuestError},
    code::{Code, SHUTTING_DOWN, StartFailure},
    engine::Guests,
    log::Room,
    scope::Scope,
    shared::{Happenings, Shared},
    threads::{Lane, Panicked},
    version::VersionId,
};

/// How long after a failed start the next one is tried: at first, and at most.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often what has grown old is looked for: events of histories, and instances.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Versions of the asynchronous world that may finish what they have begun, at a time: past that the oldest is stopped,
/// because places for instances are set aside for no more.
pub const RETIRING: usize = 3;

/// Why calls are stopped in code that was replaced.
const REPLACED: &str = "new code has taken its place";

/// A deployed guest.
pub struct App {
    guests: Guests,
    /// Its place among the threads of guests.
    lane: Lane,
    /// The code that new calls go to.
    code: Mutex<Arc<Code>>,
    /// What its calls share, whichever code they run.
    pub shared: Arc<Shared>,
    /// What its requests were answered with.
    pub answers: Answers,
    /// Whether clients may see what went wrong.
    development: bool,
    /// Room for calls of `handle`.
    room: Arc<Semaphore>,
    /// Requests that wait for room.
    waiting: AtomicUsize,
    phase: Mutex<Phase>,
    /// Code of the asynchronous world that was replaced, while its calls go on: the oldest first.
    retiring: Mutex<Vec<Weak<Code>>>,
    /// Held while new code takes the place of old.
    deploying: Arc<tokio::sync::Mutex<()>>,
    /// The calls in flight, hooks included, of whichever code.
    calls: TaskTracker,
    /// What else has to end before the app has: hooks that are to be called, and code that was replaced.
    tasks: TaskTracker,
    /// Ends the app's own tasks, after the drain.
    stop: CancellationToken,
}

/// Where an app stands in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// `start` is called for the first time.
    Starting,
    /// `start` has failed, for this reason, and will be called again.
    Failed(String),
    /// Requests are handled.
    Serving,
    /// The node is shutting down.
    Draining,
}

/// Code that has started and waits to take the place of what serves.
pub struct Prepared {
    code: Arc<Code>,
    /// Nobody else deploys meanwhile.
    _alone: tokio::sync::OwnedMutexGuard<()>,
}

/// Why code was not deployed. What served before serves on.
#[derive(Debug, Error)]
pub enum DeployError {
    /// It is no guest, or does not compile.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// It does not start.
    #[error("{0}")]
    Start(String),
    /// There is no point in it any more.
    #[error("the node is shutting down")]
    Draining,
}

impl App {
    /// Makes an app of a guest. Nothing of the guest runs before [`App::start`].
    pub fn new(
        guests: &Guests,
        guest: &Checked,
        origin: &str,
        shared: Shared,
        happenings: Happenings,
        development: bool,
    ) -> Result<Arc<Self>, GuestError> {
        let (shared, lane) = (Arc::new(shared), guests.threads.lane());
        let code = Code::new(guests, &shared, &lane, guest)
            .map_err(|error| GuestError::mismatch(origin, &error))?;
        let app = Arc::new(Self {
            guests: guests.clone(),
            lane,
            code: Mutex::new(Arc::new(code)),
            room: Arc::new(Semaphore::new(
                shared.limits.calls.min(Semaphore::MAX_PERMITS),
            )),
            waiting: AtomicUsize::new(0),
            shared,
            answers: Answers::default(),
            development,
            phase: Mutex::new(Phase::Starting),
            retiring: Mutex::default(),
            deploying: Arc::default(),
            calls: TaskTracker::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let Happenings { ended, publishers } = happenings;
        app.tasks.spawn(app.clone().run_hooks(ended));
        // Not among the tasks that end when all is told: it waits for publishers until the app is stopped.
        tokio::spawn(app.clone().run_occupancy_hooks(publishers));
        tokio::spawn(app.clone().expire());
        Ok(app)
    }

    /// Where it stands in its life.
    pub fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

    /// How many calls are in flight, of whichever code.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The code that new calls go to.
    pub fn code(&self) -> Arc<Code> {
        self.code.lock().clone()
    }

    // === Starting ===

    /// Calls the server hook until it succeeds. Returns after the first call; the others go on in the background.
    pub async fn start(self: &Arc<Self>) {
        if self.try_start().await {
            return;
        }
        let app = self.clone();
        tokio::spawn(async move {
            let mut pause = RESTART.0;
            loop {
                tokio::select! {
                    () = app.stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                if app.try_start().await {
                    return;
                }
                pause = (pause * 2).min(RESTART.1);
            }
        });
    }

    /// Whether the app needs no other try.
    async fn try_start(&self) -> bool {
        // One that waits for new code to start, and finds it serving, has nothing to do.
        let _alone = self.deploying.lock().await;
        if !matches!(self.phase(), Phase::Starting | Phase::Failed(_)) {
            return true;
        }
        let span = error_span!("start", app = %self.shared.name);
        let reason = match self.run_start(self.code()).await {
            Ok(()) => None,
            Err(StartFailure::Stopped) => return false,
            Err(StartFailure::Failed(reason)) => Some(reason),
        };
        if let Some(reason) = &reason {
            span.in_scope(|| {
                error!(
                    "{reason}; it will be called again, and the app does not serve until it succeeds"
                )
            });
        }
        let started = reason.is_none();
        let mut phase = self.phase.lock();
        if *phase != Phase::Draining {
            if reason.is_none() && matches!(*phase, Phase::Failed(_)) {
                span.in_scope(|| info!("`start` succeeded; the app serves now"));
            }
            *phase = reason.map_or(Phase::Serving, Phase::Failed);
        }
        started
    }

    async fn run_start(&self, code: Arc<Code>) -> Result<(), StartFailure> {
        let token = [self.calls.token(), code.token()];
        let stop = self.stop.clone();
        let started = self.lane.spawn(async move {
            let _token = token;
            let mut started = pin!(code.start());
            tokio::select! {
                started = &mut started => return started,
                () = stop.cancelled() => code.stop(SHUTTING_DOWN),
            }
            started.await
        });
        let panicked = |panicked: Panicked| Err(StartFailure::Failed(panicked.to_string()));
        started.await.unwrap_or_else(panicked)
    }

    // === Deploying ===

    /// Compiles a component and starts it beside the code that serves, after whatever else is being started. Messages
    /// say where it is from.
    pub async fn prepare(&self, origin: &str, component: Bytes) -> Result<Prepared, DeployError> {
        let alone = self.deploying.clone().lock_owned().await;
        if self.phase() == Phase::Draining {
            return Err(DeployError::Draining);
        }
        let guest = check::compile(&self.guests, origin.to_owned(), component).await?;
        let code = Code::new(&self.guests, &self.shared, &self.lane, &guest)
            .map_err(|error| GuestError::mismatch(origin, &error))?;
        let code = Arc::new(code);
        if self.phase() == Phase::Draining {
            return Err(DeployError::Draining);
        }
        match self.run_start(code.clone()).await {
            Ok(()) => Ok(Prepared {
                code,
                _alone: alone,
            }),
            Err(StartFailure::Stopped) => Err(DeployError::Draining),
            Err(StartFailure::Failed(reason)) => Err(DeployError::Start(reason)),
        }
    }

    /// Lets new calls go to the code, and returns what served before. Calls that are in flight there may finish, for
    /// as long as the app's `instances.retire-time`. Streams stay open: they are the host's, and the hooks for them
    /// are the new code's from now on.
    pub fn swap(self: &Arc<Self>, prepared: Prepared) -> Result<VersionId, DeployError> {
        let Prepared { code, _alone } = prepared;
        let version = code.version;
        let old = {
            let mut phase = self.phase.lock();
            if *phase == Phase::Draining {
                return Err(DeployError::Draining);
            }
            *phase = Phase::Serving;
            // Before anybody sees that the app serves.
            std::mem::replace(&mut *self.code.lock(), code)
        };
        let replaced = old.version;
        info!(
            app = self.shared.name,
            version = version.short(),
            replaced = old.named.version,
            "new code serves"
        );
        let mut retiring = self.retiring.lock();
        retiring.retain(|code| code.strong_count() > 0);
        // Calls of the blocking world have their places, whichever code they run.
        if old.has_instances_of_its_own() {
            if retiring.len() == RETIRING
                && let Some(oldest) = retiring.remove(0).upgrade()
            {
                oldest.stop(REPLACED);
            }
            retiring.push(Arc::downgrade(&old));
        }
        drop(retiring);
        let given_up = old.clone();
        self.lane
            .spawn(async move { given_up.give_up().await })
            .detach();
        let (bound, stop) = (self.shared.instances.retire_time, self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = old.retire(bound, REPLACED) => {}
                () = stop.cancelled() => old.stop(SHUTTING_DOWN),
            }
        });
        Ok(replaced)
    }

    /// Logs what went wrong, if the app's part of the log has room for it: a guest that fails all the time must not fill
    /// it either.
    fn report(&self, scope: &Scope, problem: &str) {
        match self.shared.log.room() {
            Room::Free => scope.log(|| error!("{problem}")),
            Room::JustFull => scope.log(|| warn!("{}", self.shared.log)),
            Room::Full => {}
        }
    }

    // === Ending ===

    /// Closes all streams, tells their clients to come back within `reconnect`, and lets handlers finish until
    /// `deadline`. Requests that come meanwhile are answered as busy.
    pub async fn drain(&self, reconnect: Duration, deadline: tokio::time::Instant) {
        *self.phase.lock() = Phase::Draining;
        self.shared.hub.drain(reconnect);
        self.tasks.close();
        self.calls.close();
        // The hooks that are to be called first: each is a call then.
        let all = async {
            self.tasks.wait().await;
            self.calls.wait().await;
        };
        let drained = timeout_at(deadline, all).await;
        self.stop.cancel();
        self.code().stop(SHUTTING_DOWN);
        if drained.is_err() {
            // They see that they are stopped, and say so in the log.
            self.tasks.wait().await;
            self.calls.wait().await;
        }
    }

    async fn expire(self: Arc<Self>) {
        let mut every = tokio::time::interval(EXPIRE_EVERY);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = every.tick() => {
                    self.shared.hub.expire(Instant::now());
                    let code = self.code();
                    // A turn for nothing would have an app that nobody calls look as if it were called.
                    if !code.has_old() {
                        continue;
                    }
                    // In the app's own turns: what it takes to give back its memory is no other's time.
                    let trimmed = self.lane.spawn(async move { code.trim().await });
                    if let Err(panicked) = trimmed.await {
                        error!(app = %self.shared.name, "instances were not given up: {panicked}");
                    }
                }
            }
        }
    }
}
