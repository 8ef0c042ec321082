//! A request on its way through a guest, and its answer.

use std::{
    fmt,
    future::poll_fn,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, header};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{error::HostError, headers::Headers, origin::Cors, state::Held, threads};
use crate::hub::{connection::Connection, delivery::Delivery};

/// Names a request in the log, and to its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// One that no other request has, in all likelihood.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A request for an app, its body read.
#[derive(Debug)]
pub struct Incoming {
    /// Its id in the log.
    pub id: RequestId,
    /// Its method.
    pub method: Method,
    /// The path below the app's route, with a slash in front.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
    /// Where it comes from.
    pub client: IpAddr,
    /// The host and port it was sent to, which is the origin of the app's own pages but for the scheme.
    pub authority: Option<String>,
    /// Room for the body in what the bodies of all requests may take.
    pub room: Option<OwnedSemaphorePermit>,
}

/// How the text of a failure begins that says no more than under which request the log has more.
pub const LOGGED: &str = "The app failed. The log has more under request";

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// A complete response.
    Response(http::Response<Bytes>),
    /// An event stream.
    Stream {
        /// Who may read it.
        cors: Cors,
        /// What is written to it.
        delivery: Delivery,
    },
    /// Refused for now. A client that asked for an event stream is told to come back.
    Busy(String),
    /// The guest failed before it answered. The text is for the developer, not for the world.
    Failed(String),
}

/// What a guest holds of a request; the host holds another, to see what became of it.
pub type RequestHandle = Arc<Request>;

/// A request, and whether it has been answered.
#[derive(Debug)]
pub struct Request {
    /// What came in.
    pub incoming: Incoming,
    /// Taken by whoever answers first.
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    /// The connection that the request became.
    connection: Mutex<Option<Arc<Connection>>>,
    /// Set where the host has answered by itself: a preflight, a foreign origin, a limit.
    by_host: AtomicBool,
}

impl Request {
    /// A request, and where its answer arrives.
    pub fn new(incoming: Incoming) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let request = Self {
            incoming,
            answer: Mutex::new(Some(answer)),
            connection: Mutex::default(),
            by_host: AtomicBool::new(false),
        };
        (Arc::new(request), answered)
    }

    /// Whether an answer was given.
    pub fn is_answered(&self) -> bool {
        self.answer.lock().is_none()
    }

    /// Whether nobody waits for an answer any more: the client is gone.
    pub fn is_abandoned(&self) -> bool {
        let answer = self.answer.lock();
        answer.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Whether the client is gone, or its stream has ended.
    pub fn is_gone(&self) -> bool {
        let connection = self.connection.lock();
        let ended = connection
            .as_ref()
            .is_some_and(|connection| !connection.is_open());
        ended || self.is_abandoned()
    }

    /// `invalid` if an answer was given.
    pub fn check_unanswered(&self) -> Result<(), HostError> {
        match self.is_answered() {
            false => Ok(()),
            true if self.connection.lock().is_some() => Err(HostError::invalid(
                "the request was upgraded to an event stream already",
            )),
            true => Err(HostError::invalid("the request was answered already")),
        }
    }

    /// Answers. False if there was an answer already, or nobody waits for one: then the client is gone.
    pub fn answer(&self, answer: Answer) -> bool {
        let sender = self.answer.lock().take();
        sender.is_some_and(|sender| sender.send(answer).is_ok())
    }

    /// Notes the connection that the request became.
    pub fn set_connection(&self, connection: Arc<Connection>) {
        *self.connection.lock() = Some(connection);
    }

    /// The connection that the request became.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.lock().clone()
    }

    /// Answers in the place of the guest.
    pub fn answer_by_host(&self, answer: Answer) {
        self.by_host.store(true, Ordering::Relaxed);
        self.answer(answer);
    }

    /// Whether the host has answered: then an error of the handler is nothing to report.
    pub fn was_answered_by_host(&self) -> bool {
        self.by_host.load(Ordering::Relaxed)
    }
}

/// Runs a guest, and lets the connections that it opens go on their way when it first waits: until then their clients'
/// missed events are put together. A tick is no wait: registering may go on after it.
pub async fn release_when_waiting<F: Future + Unpin>(held: &Held, mut guest: F) -> F::Output {
    let output = poll_fn(|context| {
        let poll = Pin::new(&mut guest).poll(context);
        if poll.is_ready() || !threads::has_ticked() {
            release(held);
        }
        poll
    });
    output.await
}

/// Lets connections hear what their clients missed.
pub fn release(held: &Held) {
    // Releasing takes the lock of the hub.
    let held = std::mem::take(&mut *held.lock());
    for connection in held {
        connection.release();
    }
}

impl Incoming {
    /// The last event that the client heard: the header beats the query parameter, as in other hubs.
    pub fn last_event_id(&self) -> Option<String> {
        let header = self
            .headers
            .get("last-event-id")
            .map(|value| String::from_utf8_lossy(value).into_owned());
        header.or_else(|| {
            let query = self.query.as_deref()?;
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs
                .find(|(name, _)| name == "last-event-id")
                .map(|(_, value)| value.into_owned())
        })
    }

    /// Whether this is a CORS preflight (Fetch standard, "CORS-preflight request").
    pub fn is_preflight(&self) -> bool {
        self.method == Method::OPTIONS
            && self.headers.contains(header::ORIGIN)
            && self.headers.contains(header::ACCESS_CONTROL_REQUEST_METHOD)
    }
}
