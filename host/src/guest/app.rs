//! An app: a guest deployed under a name, and the calls of its exports.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{timeout, timeout_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{Span, debug, error, error_span, info, warn};

use super::{
    answers::Answers,
    bindings::fanfare::sse::{
        connections::{self, Disconnection},
        errors::Error as Told,
    },
    call::Call,
    check::{self, Checked, GuestError},
    code::{Code, StartFailure},
    engine::Guests,
    error::sentence,
    limits::Limit,
    log::Room,
    request::{Answer, Incoming, Request},
    shared::Shared,
    threads::{Lane, Panicked},
    version::VersionId,
};
use crate::{
    event::{Data, Event},
    hub::{
        connection::CloseReason,
        ended::{Ended, EndedReceiver},
    },
};

/// How long after a failed start the next one is tried: at first, and at most.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often what has grown old is looked for: events of histories, and instances.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Calls of `disconnected` at a time: when a thousand clients leave at once, their hooks take turns.
pub const HOOKS_AT_A_TIME: usize = 16;

/// Why calls are stopped.
const SHUTTING_DOWN: &str = "the node is shutting down";
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
        ended: EndedReceiver,
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
            deploying: Arc::default(),
            calls: TaskTracker::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        app.tasks.spawn(app.clone().run_hooks(ended));
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
        let started = self.lane.spawn(async move {
            let _token = token;
            code.start().await
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
        {
            let mut phase = self.phase.lock();
            if *phase == Phase::Draining {
                return Err(DeployError::Draining);
            }
            *phase = Phase::Serving;
        }
        let old = std::mem::replace(&mut *self.code.lock(), code);
        let replaced = old.version;
        info!(
            app = self.shared.name,
            version = version.short(),
            replaced = old.label,
            "new code serves"
        );
        let (bound, stop) = (self.shared.instances.retire_time, self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = old.retire(bound, REPLACED) => {}
                () = stop.cancelled() => old.stop(SHUTTING_DOWN),
            }
        });
        Ok(replaced)
    }

    // === Requests ===

    /// Has a request handled. Returns as soon as there is an answer; the handler may go on after it.
    pub async fn handle(self: &Arc<Self>, incoming: Incoming) -> Answer {
        let answer = self.answer(incoming).await;
        self.answers.count(&answer);
        answer
    }

    async fn answer(self: &Arc<Self>, incoming: Incoming) -> Answer {
        let room = match self.room().await {
            Ok(room) => room,
            Err(busy) => return Answer::Busy(busy),
        };
        let (code, token) = match self.enter() {
            Ok(entered) => entered,
            Err(busy) => return Answer::Busy(busy),
        };
        let span = error_span!(
            "request",
            app = %self.shared.name,
            version = %code.label,
            request = %incoming.id
        );
        let (request, answered) = Request::new(incoming);
        let app = self.clone();
        let handled = async move {
            app.run_handler(&code, &span, request).await;
            drop((room, token));
        };
        self.lane.spawn(handled).detach();
        let lost = || Answer::Failed("the request was lost in the host".into());
        answered.await.unwrap_or_else(|_| lost())
    }

    /// Room for a call, or what to tell a client that gets none.
    async fn room(&self) -> Result<OwnedSemaphorePermit, String> {
        if let Ok(room) = self.room.clone().try_acquire_owned() {
            return Ok(room);
        }
        let limits = &self.shared.limits;
        let waiting = Waiting::new(&self.waiting);
        if waiting.number <= limits.waiting_calls {
            let room = self.room.clone().acquire_owned();
            if let Ok(Ok(room)) = timeout(limits.queue_time, room).await {
                return Ok(room);
            }
        }
        self.shared.reached.count(Limit::Calls);
        let calls = limits.calls;
        Err(format!("the app's limit `calls` of {calls} is reached"))
    }

    /// The code for a new call, which is counted until the tokens are dropped; or what to tell a client.
    fn enter(&self) -> Result<(Arc<Code>, [TaskTrackerToken; 2]), String> {
        // Under the lock, so that no call comes to code that is retired already, nor to an app that has drained.
        let phase = self.phase.lock();
        match &*phase {
            Phase::Serving => {}
            Phase::Failed(reason) if self.development => return Err(reason.clone()),
            Phase::Failed(_) | Phase::Starting => return Err("the app has not started".into()),
            Phase::Draining => return Err(SHUTTING_DOWN.into()),
        }
        let code = self.code.lock();
        Ok((code.clone(), [self.calls.token(), code.token()]))
    }

    async fn run_handler(&self, code: &Code, span: &Span, request: Arc<Request>) {
        let outcome = code.call(Call::Handle(request.clone()), span).await;
        let answered = request.is_answered();
        let problem = match outcome {
            Ok(Ok(())) if answered => None,
            Ok(Ok(())) => Some(
                "the handler returned without answering the request or upgrading it".to_owned(),
            ),
            Ok(Err(_)) if request.was_answered_by_host() => None,
            // The client left while the handler was at work: nothing that anybody has to mend.
            Ok(Err(error @ (Told::Closed(_) | Told::NotFound(_)))) if request.is_gone() => {
                let error = self.shared.loggable(&sentence(&error));
                span.in_scope(|| debug!("the client left, and the handler answered {error}"));
                None
            }
            Ok(Err(error)) => Some(format!("the handler answered {}", sentence(&error))),
            Err(failure) if let Some(why) = failure.stopped => {
                span.in_scope(|| warn!("the handler {failure}"));
                request.answer(Answer::Busy(why.into()));
                None
            }
            Err(failure) => Some(format!("the handler {failure}")),
        };
        if let Some(problem) = problem {
            let problem = self.shared.loggable(&problem);
            self.report(span, &problem);
            self.tell_client(&request, problem);
        }
        if let Some(connection) = request.connection() {
            // A call that was stopped did not get there.
            connection.release();
            if self.shared.hub.channels(&connection).is_empty() {
                // It hears nothing and nobody can send to it any more: the handle is gone with the call.
                self.shared.hub.close(&connection, CloseReason::Closed);
            }
        }
    }

    /// Logs what went wrong, if the app's part of the log has room for it: a guest that fails all the time must not fill
    /// it either.
    fn report(&self, span: &Span, problem: &str) {
        span.in_scope(|| match self.shared.log.room() {
            Room::Free => error!("{problem}"),
            Room::JustFull => warn!("{}", self.shared.log),
            Room::Full => {}
        });
    }

    /// Tells a client what went wrong: in development all, in production where the log has it.
    fn tell_client(&self, request: &Request, problem: String) {
        let text = match self.development {
            true => problem,
            false => format!(
                "The app failed. The log has more under request {}.",
                request.incoming.id
            ),
        };
        let Some(connection) = request.connection() else {
            request.answer(Answer::Failed(text));
            return;
        };
        let told = Event::new(Data::Text(text), usize::MAX)
            .and_then(|event| event.with_type("fanfare-error".into()));
        if let Ok(event) = told
            && self.development
        {
            let _ = self.shared.hub.send(&connection, &event);
        }
    }

    // === Hooks ===

    /// Calls `disconnected` for every connection that ends, where the guest exports it.
    async fn run_hooks(self: Arc<Self>, mut ended: EndedReceiver) {
        let room = Arc::new(Semaphore::new(HOOKS_AT_A_TIME));
        while let Some(end) = ended.recv().await {
            debug!(
                app = %self.shared.name,
                connection = %end.connection,
                reason = ?end.reason,
                "connection ended"
            );
            if !self.code.lock().is_hooked() {
                continue;
            }
            let room = tokio::select! {
                room = room.clone().acquire_owned() => room,
                () = self.stop.cancelled() => {
                    let untold = ended.len() + 1;
                    warn!(app = %self.shared.name, untold, "stopped before all ends were told to `disconnected`");
                    return;
                }
            };
            let Ok(room) = room else { return };
            let app = self.clone();
            // The code of this moment: a hook for a stream that older code opened is the newer one's.
            let (code, token) = {
                let code = self.code.lock();
                (code.clone(), [self.calls.token(), code.token()])
            };
            let hooked = async move {
                app.run_hook(&code, end).await;
                drop((room, token));
            };
            self.lane.spawn(hooked).detach();
        }
    }

    async fn run_hook(&self, code: &Code, ended: Ended) {
        let span = error_span!(
            "disconnected",
            app = %self.shared.name,
            version = %code.label,
            connection = %ended.connection
        );
        let gone = Box::new(Disconnection {
            connection_id: ended.connection.to_string(),
            channels: ended.channels,
            reason: connections::CloseReason::from(ended.reason),
        });
        if let Err(failure) = code.call(Call::Disconnected(gone), &span).await {
            let text = self.shared.loggable(&format!("`disconnected` {failure}"));
            match failure.stopped {
                Some(_) => span.in_scope(|| warn!("{text}")),
                None => self.report(&span, &text),
            }
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

/// A request that waits for room.
struct Waiting<'a> {
    waiting: &'a AtomicUsize,
    /// How many wait, this one included.
    number: usize,
}

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        Self {
            number: waiting.fetch_add(1, Ordering::Relaxed) + 1,
            waiting,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
