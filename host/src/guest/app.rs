//! An app: a guest deployed under a name, and the calls of its exports.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Span, debug, error, info, info_span, warn};
use wasmtime::{Engine, Store};

use super::{
    bindings::{
        exports::fanfare::sse::handler,
        fanfare::sse::connections::{self, Disconnection},
    },
    call::{self, Failure},
    check::{self, Checked, GuestError},
    error::sentence,
    request::{Answer, Incoming, Request},
    shared::Shared,
    state::State,
};
use crate::{
    event::{Data, Event},
    hub::{Ended, connection::CloseReason},
};

/// How long after a failed start the next one is tried: at first, and at most.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often histories are looked at for events that have grown too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Calls of `disconnected` at a time: when a thousand clients leave at once, their hooks take turns.
const HOOKS_AT_A_TIME: usize = 16;

/// A deployed guest.
pub struct App {
    engine: Engine,
    guest: Checked,
    /// What its calls share.
    pub shared: Arc<Shared>,
    /// Whether clients may see what went wrong.
    development: bool,
    /// Room for calls of `handle`.
    room: Arc<Semaphore>,
    /// Why the app does not serve: `None` once `start` has succeeded.
    waiting: Mutex<Option<String>>,
    /// The calls in flight, hooks included.
    calls: TaskTracker,
    /// Ends calls that run on after the drain, and the app's own tasks.
    stop: CancellationToken,
}

impl App {
    /// Compiles a guest and makes an app of it. Nothing of the guest runs before [`App::start`].
    pub fn load(
        engine: &Engine,
        component: &Path,
        shared: Shared,
        ended: mpsc::UnboundedReceiver<Ended>,
        development: bool,
    ) -> Result<Arc<Self>, GuestError> {
        let begun = Instant::now();
        let guest = check::load(engine, component)?;
        info!(
            app = shared.name,
            milliseconds = begun.elapsed().as_millis() as u64,
            "loaded {}",
            component.display()
        );
        let app = Arc::new(Self {
            engine: engine.clone(),
            guest,
            room: Arc::new(Semaphore::new(
                shared.limits.calls.min(Semaphore::MAX_PERMITS),
            )),
            shared: Arc::new(shared),
            development,
            waiting: Mutex::new(Some("the app has not started yet".into())),
            calls: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        app.calls.spawn(app.clone().run_hooks(ended));
        tokio::spawn(expire(app.shared.clone(), app.stop.clone()));
        Ok(app)
    }

    /// Why the app does not serve, if it does not.
    pub fn waiting(&self) -> Option<String> {
        self.waiting.lock().clone()
    }

    /// Calls the server hook. If that fails, goes on trying in the background and returns all the same.
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
        let span = info_span!("start", app = %self.shared.name);
        let guest = self.guest.app.clone();
        let started = self
            .call(&span, |store| {
                Box::pin(async move {
                    let app = guest.instantiate_async(&mut *store).await?;
                    app.fanfare_sse_lifecycle().call_start(store).await
                })
            })
            .await;
        let reason = match started {
            Ok(Ok(())) => {
                *self.waiting.lock() = None;
                return true;
            }
            Ok(Err(error)) => format!("`start` answered {}", sentence(&error)),
            Err(failure) => format!("`start` {failure}"),
        };
        span.in_scope(|| {
            error!(
                "{reason}; it will be called again, and the app does not serve until it succeeds"
            )
        });
        *self.waiting.lock() = Some(match self.development {
            true => reason,
            false => "the app has not started".into(),
        });
        false
    }

    /// Has a request handled. Returns as soon as there is an answer; the handler may go on after it.
    pub async fn handle(self: &Arc<Self>, incoming: Incoming) -> Answer {
        if let Some(reason) = self.waiting() {
            return Answer::Busy(reason);
        }
        let room = timeout(
            self.shared.limits.queue_time,
            self.room.clone().acquire_owned(),
        )
        .await;
        let Ok(Ok(room)) = room else {
            let calls = self.shared.limits.calls;
            return Answer::Busy(format!("the app's limit `calls` of {calls} is reached"));
        };
        let span = info_span!("request", app = %self.shared.name, request = %incoming.id);
        let (request, answered) = Request::new(incoming);
        let app = self.clone();
        self.calls.spawn(async move {
            app.run_handler(&span, request).await;
            drop(room);
        });
        // The sender is dropped unused only when the task is gone: the node is shutting down.
        answered
            .await
            .unwrap_or_else(|_| Answer::Busy("the node is shutting down".into()))
    }

    async fn run_handler(&self, span: &Span, request: Arc<Request>) {
        let (guest, handle) = (self.guest.app.clone(), request.clone());
        let outcome = self
            .call(span, |store| {
                Box::pin(async move {
                    let app = guest.instantiate_async(&mut *store).await?;
                    let request = store.data_mut().table.push(handle)?;
                    app.fanfare_sse_handler().call_handle(store, request).await
                })
            })
            .await;
        let answered = request.is_answered();
        let problem = match outcome {
            Ok(Ok(())) if answered => None,
            Ok(Ok(())) => Some(
                "the handler returned without answering the request or upgrading it".to_owned(),
            ),
            Ok(Err(_)) if request.was_preflight() => None,
            // The client left while the handler was at work: nothing that anybody has to mend.
            Ok(Err(handler::Error::Closed(text))) if answered => {
                span.in_scope(|| debug!("the handler answered closed: {text}"));
                None
            }
            Ok(Err(error)) => Some(format!("the handler answered {}", sentence(&error))),
            Err(failure) => Some(format!("the handler {failure}")),
        };
        if let Some(problem) = problem {
            span.in_scope(|| error!("{problem}"));
            self.tell_client(&request, problem);
        }
        if let Some(connection) = request.connection()
            && self.shared.hub.channels(&connection).is_empty()
        {
            // It hears nothing and nobody can send to it any more: the handle is gone with the call.
            self.shared.hub.close(&connection, CloseReason::Closed);
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
    async fn run_hooks(self: Arc<Self>, mut ended: mpsc::UnboundedReceiver<Ended>) {
        let room = Arc::new(Semaphore::new(HOOKS_AT_A_TIME));
        while let Some(ended) = ended.recv().await {
            debug!(app = %self.shared.name, connection = %ended.connection, reason = ?ended.reason, "connection ended");
            if self.guest.disconnect.is_none() {
                continue;
            }
            let Ok(room) = room.clone().acquire_owned().await else {
                return;
            };
            let app = self.clone();
            self.calls.spawn(async move {
                app.run_hook(ended).await;
                drop(room);
            });
        }
    }

    async fn run_hook(&self, ended: Ended) {
        let Some(guest) = self.guest.disconnect.clone() else {
            return;
        };
        let span =
            info_span!("disconnected", app = %self.shared.name, connection = %ended.connection);
        let disconnection = Disconnection {
            connection_id: ended.connection.to_string(),
            channels: ended.channels,
            reason: match ended.reason {
                CloseReason::ClientGone => connections::CloseReason::ClientGone,
                CloseReason::Closed => connections::CloseReason::Closed,
                CloseReason::Inactive => connections::CloseReason::Inactive,
                CloseReason::Slow => connections::CloseReason::Slow,
                CloseReason::Shutdown => connections::CloseReason::Shutdown,
            },
        };
        let outcome = self
            .call(&span, |store| {
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
            span.in_scope(|| error!("`disconnected` {failure}"));
        }
    }

    /// Runs a call until it returns, fails or the node stops waiting for it.
    async fn call<R: Send>(
        &self,
        span: &Span,
        call: impl for<'a> FnOnce(&'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<R>>,
    ) -> Result<R, Failure> {
        let run = call::run(&self.engine, &self.shared, span.clone(), call);
        tokio::select! {
            result = run => result,
            () = self.stop.cancelled() => Err(Failure {
                reason: "was still running when the node stopped".into(),
                details: None,
                stderr: Vec::new(),
            }),
        }
    }

    /// Closes all streams, tells their clients to come back within `reconnect`, and lets handlers finish until
    /// `deadline`. Requests that come meanwhile are answered as busy.
    pub async fn drain(&self, reconnect: Duration, deadline: tokio::time::Instant) {
        *self.waiting.lock() = Some("the node is shutting down".into());
        let most = u32::try_from(reconnect.as_millis())
            .unwrap_or(u32::MAX)
            .max(1);
        self.shared.hub.drain(|| rand::random_range(0..most));
        self.calls.close();
        if tokio::time::timeout_at(deadline, self.calls.wait())
            .await
            .is_err()
        {
            warn!(app = %self.shared.name, calls = self.calls.len(), "handlers still run; they are stopped");
        }
        self.stop.cancel();
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
