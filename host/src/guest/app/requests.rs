//! Requests of an app: room for them, their handler, and what their clients are told of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Level, debug, enabled, warn};

use super::{App, Phase};
use crate::{
    event::{Data, Event},
    guest::{
        bindings::fanfare::sse::errors::Error,
        call::Call,
        code::{Code, SHUTTING_DOWN},
        error::sentence,
        limits::Limit,
        request::{Answer, Incoming, LOGGED, Request},
        scope::{Of, Scope},
    },
    hub::connection::CloseReason,
};

/// What is told, in development, of a handler that has upgraded its request and done nothing else.
const UNUSED: &str = "the handler returned, and the stream ended: it was registered with no channel, and nothing was sent \
                      to it; `publisher.register` it with a channel, or let the handler go on for as long as it has \
                      something to send";

impl App {
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
        let (request, answered) = Request::new(incoming);
        let app = self.clone();
        let handled = async move {
            app.run_handler(&code, request).await;
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
        self.shared.reach(Limit::Calls);
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

    async fn run_handler(&self, code: &Code, request: Arc<Request>) {
        let scope = Scope::new(&code.named, Of::Request(request.incoming.id));
        let outcome = code.call(Call::Handle(request.clone()), &scope).await;
        let answered = request.is_answered();
        let returned = matches!(outcome, Ok(Ok(())));
        let problem = match outcome {
            Ok(Ok(())) if answered => None,
            Ok(Ok(())) => Some(
                "the handler returned without answering the request or upgrading it".to_owned(),
            ),
            Ok(Err(_)) if request.was_answered_by_host() => None,
            // The client left while the handler was at work: nothing that anybody has to mend.
            Ok(Err(error @ (Error::Closed(_) | Error::NotFound(_)))) if request.is_gone() => {
                if enabled!(Level::DEBUG) {
                    let error = self.shared.loggable(&sentence(&error));
                    scope.log(|| debug!("the client left, and the handler answered {error}"));
                }
                None
            }
            Ok(Err(error)) => Some(format!("the handler answered {}", sentence(&error))),
            Err(failure) if let Some(why) = failure.stopped => {
                scope.log(|| warn!("the handler {failure}"));
                request.answer(Answer::Busy(why.into()));
                None
            }
            Err(failure) => Some(format!("the handler {failure}")),
        };
        if let Some(problem) = problem {
            let problem = self.shared.loggable(&problem);
            self.report(&scope, &problem);
            self.tell_client(&request, problem);
        }
        if let Some(connection) = request.connection() {
            // A call that was stopped did not get there.
            connection.release();
            if self.shared.hub.channels(&connection).is_empty() {
                if returned && self.development && connection.is_open() && !connection.was_used() {
                    scope.log(|| warn!("{UNUSED}"));
                    self.tell_client(&request, UNUSED.into());
                }
                // It hears nothing and nobody can send to it any more: the handle is gone with the call.
                self.shared.hub.close(&connection, CloseReason::Closed);
            }
        }
    }

    /// Tells a client what went wrong: in development all, in production where the log has it.
    fn tell_client(&self, request: &Request, problem: String) {
        let text = match self.development {
            true => problem,
            false => format!("{LOGGED} {}.", request.incoming.id),
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
