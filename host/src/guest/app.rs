//! An app: a guest deployed under a name, and the calls of its exports.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{timeout, timeout_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{Span, debug, error, error_span, info, warn};
use wasmtime::Store;

use super::{
    answers::Answers,
    bindings::{
        exports::fanfare::sse::handler,
        fanfare::sse::connections::{self, Disconnection},
    },
    call::{self, Failure},
    check::{self, Checked, GuestError},
    engine::Guests,
    error::sentence,
    request::{Answer, Incoming, Request, release_when_waiting},
    shared::Shared,
    state::State,
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
/// How often histories are looked at for events that have grown too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Calls of `disconnected` at a time: when a thousand clients leave at once, their hooks take turns.
const HOOKS_AT_A_TIME: usize = 16;

/// How long `start` and `disconnected` may take where the app has no limit of wall time: a handler may wait for its
/// client as long as it likes, but somebody waits for these.
const START_TIME: Duration = Duration::from_secs(60);
const HOOK_TIME: Duration = Duration::from_secs(30);

/// A deployed guest.
pub struct App {
    guests: Guests,
    guest: Checked,
    /// What its calls share.
    pub shared: Arc<Shared>,
    /// What its requests were answered with.
    pub answers: Answers,
    /// Whether clients may see what went wrong.
    development: bool,
    /// Room for calls of `handle`.
    room: Arc<Semaphore>,
    phase: Mutex<Phase>,
    /// The calls in flight, hooks included.
    calls: TaskTracker,
    /// Ends calls that run on after the drain, and the app's own tasks.
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

impl App {
    /// Compiles a guest and makes an app of it. Nothing of the guest runs before [`App::start`].
    pub fn load(
        guests: &Guests,
        component: &Path,
        shared: Shared,
        ended: EndedReceiver,
        development: bool,
    ) -> Result<Arc<Self>, GuestError> {
        let begun = Instant::now();
        let guest = check::load(&guests.engine, component)?;
        info!(
            app = shared.name,
            milliseconds = begun.elapsed().as_millis() as u64,
            "loaded {}",
            component.display()
        );
        let app = Arc::new(Self {
            guests: guests.clone(),
            guest,
            room: Arc::new(Semaphore::new(
                shared.limits.calls.min(Semaphore::MAX_PERMITS),
            )),
            shared: Arc::new(shared),
            answers: Answers::default(),
            development,
            phase: Mutex::new(Phase::Starting),
            calls: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        app.calls.spawn(app.clone().run_hooks(ended));
        tokio::spawn(expire(app.shared.clone(), app.stop.clone()));
        Ok(app)
    }

    /// Where it stands in its life.
    pub fn phase(&self) -> Phase {
        self.phase.lock().clone()
    }

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

    async fn try_start(&self) -> bool {
        let span = error_span!("start", app = %self.shared.name);
        let guest = self.guest.app.clone();
        let started = self
            .call(&span, Some(START_TIME), |store| {
                Box::pin(async move {
                    let app = guest.instantiate_async(&mut *store).await?;
                    app.fanfare_sse_lifecycle().call_start(store).await
                })
            })
            .await;
        let reason = match started {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("`start` answered {}", sentence(&error))),
            Err(failure) if failure.stopped => return false,
            Err(failure) => Some(format!("`start` {failure}")),
        };
        let reason = reason.map(|reason| self.shared.loggable(&reason));
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

    /// Has a request handled. Returns as soon as there is an answer; the handler may go on after it.
    pub async fn handle(self: &Arc<Self>, incoming: Incoming) -> Answer {
        let answer = self.answer(incoming).await;
        self.answers.count(&answer);
        answer
    }

    async fn answer(self: &Arc<Self>, incoming: Incoming) -> Answer {
        match self.phase() {
            Phase::Serving => {}
            Phase::Failed(reason) if self.development => return Answer::Busy(reason),
            Phase::Failed(_) | Phase::Starting => {
                return Answer::Busy("the app has not started".into());
            }
            Phase::Draining => return Answer::Busy("the node is shutting down".into()),
        }
        let room = self.room.clone().acquire_owned();
        let Ok(Ok(room)) = timeout(self.shared.limits.queue_time, room).await else {
            let calls = self.shared.limits.calls;
            return Answer::Busy(format!("the app's limit `calls` of {calls} is reached"));
        };
        let span = error_span!("request", app = %self.shared.name, request = %incoming.id);
        let (request, answered) = Request::new(incoming);
        let app = self.clone();
        self.calls.spawn(async move {
            app.run_handler(&span, request).await;
            drop(room);
        });
        let lost = || Answer::Failed("the request was lost in the host".into());
        answered.await.unwrap_or_else(|_| lost())
    }

    async fn run_handler(&self, span: &Span, request: Arc<Request>) {
        let (guest, handle) = (self.guest.app.clone(), request.clone());
        let outcome = self
            .call(span, None, |store| {
                Box::pin(async move {
                    let app = guest.instantiate_async(&mut *store).await?;
                    let resource = store.data_mut().table.push(handle.clone())?;
                    let ticked = store.data().ticked.clone();
                    let call = app.fanfare_sse_handler().call_handle(store, resource);
                    release_when_waiting(&handle, &ticked, call).await
                })
            })
            .await;
        let answered = request.is_answered();
        let problem = match outcome {
            Ok(Ok(())) if answered => None,
            Ok(Ok(())) => Some(
                "the handler returned without answering the request or upgrading it".to_owned(),
            ),
            Ok(Err(_)) if request.was_answered_by_host() => None,
            // The client left while the handler was at work: nothing that anybody has to mend.
            Ok(Err(error @ (handler::Error::Closed(_) | handler::Error::NotFound(_))))
                if request.is_gone() =>
            {
                let error = self.shared.loggable(&sentence(&error));
                span.in_scope(|| debug!("the client left, and the handler answered {error}"));
                None
            }
            Ok(Err(error)) => Some(format!("the handler answered {}", sentence(&error))),
            Err(failure) if failure.stopped => {
                span.in_scope(|| warn!("the handler {failure}"));
                request.answer(Answer::Busy("the node is shutting down".into()));
                None
            }
            Err(failure) => Some(format!("the handler {failure}")),
        };
        if let Some(problem) = problem {
            let problem = self.shared.loggable(&problem);
            span.in_scope(|| error!("{problem}"));
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

    /// Calls `disconnected` for every connection that ends, if the guest exports it.
    async fn run_hooks(self: Arc<Self>, mut ended: EndedReceiver) {
        let room = Arc::new(Semaphore::new(HOOKS_AT_A_TIME));
        while let Some(end) = ended.recv().await {
            debug!(
                app = %self.shared.name,
                connection = %end.connection,
                reason = ?end.reason,
                "connection ended"
            );
            if self.guest.disconnect.is_none() {
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
            self.calls.spawn(async move {
                app.run_hook(end).await;
                drop(room);
            });
        }
    }

    async fn run_hook(&self, ended: Ended) {
        let Some(guest) = self.guest.disconnect.clone() else {
            return;
        };
        let span =
            error_span!("disconnected", app = %self.shared.name, connection = %ended.connection);
        let disconnection = Disconnection {
            connection_id: ended.connection.to_string(),
            channels: ended.channels,
            reason: match ended.reason {
                CloseReason::ClientGone => connections::CloseReason::ClientGone,
                CloseReason::Closed => connections::CloseReason::Closed,
                CloseReason::Inactive => connections::CloseReason::Inactive,
                CloseReason::Expired => connections::CloseReason::Expired,
                CloseReason::Slow => connections::CloseReason::Slow,
                CloseReason::Shutdown => connections::CloseReason::Shutdown,
            },
        };
        let outcome = self
            .call(&span, Some(HOOK_TIME), |store| {
                Box::pin(async move {
                    let hooks = guest.instantiate_async(&mut *store).await?;
                    hooks
                        .fanfare_sse_disconnect_hook()
                        .call_disconnected(store, &disconnection)
                        .await
                })
            })
            .await;
        if let Err(failure) = outcome {
            let text = self.shared.loggable(&failure.to_string());
            span.in_scope(|| match failure.stopped {
                true => warn!("`disconnected` {text}"),
                false => error!("`disconnected` {text}"),
            });
        }
    }

    /// Runs a call until it returns, fails or the node stops waiting for it. Where the app has no limit of wall time,
    /// it may take as long as `otherwise` says.
    async fn call<R: Send + 'static>(
        &self,
        span: &Span,
        otherwise: Option<Duration>,
        call: impl for<'a> FnOnce(&'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<R>>
        + Send
        + 'static,
    ) -> Result<R, Failure> {
        let wall_time = match self.shared.limits.wall_time {
            Duration::ZERO => otherwise,
            wall_time => Some(wall_time),
        };
        let run = call::run(
            self.guests.clone(),
            self.shared.clone(),
            span.clone(),
            wall_time,
            call,
        );
        let task = AbortOnDropHandle::new(self.guests.threads.spawn(run));
        tokio::select! {
            result = task => result.unwrap_or_else(|error| Err(Failure::of_host(error))),
            () = self.stop.cancelled() => Err(Failure::stopped()),
        }
    }

    /// Closes all streams, tells their clients to come back within `reconnect`, and lets handlers finish until
    /// `deadline`. Requests that come meanwhile are answered as busy.
    pub async fn drain(&self, reconnect: Duration, deadline: tokio::time::Instant) {
        *self.phase.lock() = Phase::Draining;
        self.shared.hub.drain(reconnect);
        self.calls.close();
        let drained = timeout_at(deadline, self.calls.wait()).await.is_ok();
        self.stop.cancel();
        if !drained {
            // They see that they are stopped, and say so in the log.
            self.calls.wait().await;
        }
    }
}

async fn expire(shared: Arc<Shared>, stop: CancellationToken) {
    let mut every = tokio::time::interval(EXPIRE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => shared.hub.expire(Instant::now()),
        }
    }
}
