//! The connection to the servers, and what goes wrong with it.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Request, Statistics, Subscriber,
    client::RequestErrorKind,
    connection::State,
    jetstream::{
        self,
        consumer::{Consumer, pull},
        response::Response,
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{Settings, url::Login};
use crate::{broker::BrokerError, trust::Trust};

/// How often the server is asked whether it is still there, while nothing is heard of it. After three times without an
/// answer the connection is given up.
const PING: Duration = Duration::from_secs(5);
/// Messages that wait in the queue of one subscription. What is more is lost, which is noticed.
pub(super) const QUEUE: usize = 8192;
/// Commands that wait to be written, so that what is to be sent waits for the server and not for the library.
const COMMANDS: usize = 8192;
/// The longest wait before the next attempt to connect again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A connection, which is made again whenever it breaks.
pub(super) struct Link {
    client: Client,
    context: jetstream::Context,
    statistics: Arc<Statistics>,
    /// How often it broke.
    breaks: watch::Receiver<u64>,
    address: String,
    timeout: Duration,
}

/// What did not go well.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody keeps what is published on this subject: there is no such stream.
    Gone,
    /// The server says that it was not done, and why.
    Refused(jetstream::Error),
    /// It was not done.
    NotDone(BrokerError),
    /// Nobody can know whether it was done.
    Unknown(String),
}

// === impl Link ===

impl Link {
    /// Connects. To be called on the runtime that is to serve the connection.
    pub(super) async fn open(settings: &Settings, trust: &Trust) -> Result<Self, BrokerError> {
        let (url, limit) = (&settings.url, settings.timeout);
        let address = url.address();
        let (sender, breaks) = watch::channel(0);
        let sender = Arc::new(sender);
        let of = address.clone();
        // What is refused again and again is told once.
        let refused = Arc::new(Mutex::new(String::new()));
        let mut options = ConnectOptions::new()
            .name("fanfare")
            .connection_timeout(limit)
            .request_timeout(Some(limit))
            .ping_interval(PING)
            .subscription_capacity(QUEUE)
            .client_capacity(COMMANDS)
            .require_tls(url.is_tls())
            .reconnect_delay_callback(wait_before)
            .event_callback(move |event| {
                let sender = sender.clone();
                match event {
                    Event::Disconnected => sender.send_modify(|breaks| *breaks += 1),
                    Event::ServerError(error) => {
                        let error = error.to_string();
                        let before = std::mem::replace(&mut *refused.lock(), error.clone());
                        if error != before {
                            tracing::warn!(
                                address = of,
                                error,
                                "NATS refuses something; does the user lack a permission on fanfare.> or $JS.API.>?"
                            );
                        }
                    }
                    _ => {}
                }
                std::future::ready(())
            });
        // Without a file of authorities the library trusts those of the system by itself.
        if settings.ca_file.is_some() {
            let config = trust.config().await;
            let config = config.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
            options = options.tls_client_config(config.as_ref().clone());
        }
        options = match url.login() {
            Login::Nobody => options,
            Login::User(user, password) => {
                options.user_and_password(user.clone(), password.clone())
            }
            Login::Token(token) => options.token(token.clone()),
        };
        let servers: Vec<async_nats::ServerAddr> = url
            .servers()
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| {
                BrokerError::Unavailable(format!("{address} is no address of NATS: {error}"))
            })?;
        let client = match timeout(limit, options.connect(servers)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) if error.kind() == ConnectErrorKind::AuthorizationViolation => {
                return Err(BrokerError::Denied(format!(
                    "NATS at {address} refuses the login: check the user and password, or the token, of its URL"
                )));
            }
            Ok(Err(error)) => {
                return Err(BrokerError::Unavailable(format!(
                    "NATS at {address} cannot be reached: {error}"
                )));
            }
            Err(_) => {
                return Err(BrokerError::Unavailable(format!(
                    "NATS at {address} cannot be reached: it did not answer within {limit:?}"
                )));
            }
        };
        let mut context = jetstream::new(client.clone());
        context.set_timeout(limit);
        Ok(Self {
            statistics: client.statistics(),
            client,
            context,
            breaks,
            address,
            timeout: limit,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The number of the connection that there is or was last. A message in a queue came over this one or one before.
    pub(super) fn number(&self) -> u64 {
        self.statistics.connects.load(Ordering::Acquire)
    }

    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Has the server forget a consumer that is not read any more. Does not wait: if it fails, the server forgets it by
    /// itself.
    pub(super) fn forget(&self, consumer: &Consumer<pull::Config>, runtime: &Handle) {
        let context = self.context().clone();
        let info = consumer.cached_info();
        let (stream, name) = (info.stream_name.clone(), info.name.clone());
        runtime.spawn(async move {
            let _ = context.delete_consumer_from_stream(name, stream).await;
        });
    }

    /// Tells whenever the connection has broken.
    pub(super) fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.clone()
    }

    /// The largest message that the server takes, in bytes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether a stream of the server pushes in the order in which it stores. Before 2.9.16, one of a single server does
    /// both where it reads a connection, and what comes over two connections at once may change places in between.
    pub(super) fn pushes_in_order(&self) -> bool {
        self.client.is_server_compatible(2, 9, 16)
    }

    /// For requests that the library has words for, through [`Link::bounded`].
    pub(super) fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// A subject of this connection alone.
    pub(super) fn inbox(&self) -> String {
        self.client.new_inbox()
    }

    /// Hears a subject. What is sent after this comes after it.
    pub(super) async fn subscribe(&self, subject: String) -> Result<Subscriber, Failure> {
        self.bounded(async {
            let subscribed = self.client.subscribe(subject).await;
            subscribed.map_err(|error| self.failed("subscribing", &error))
        })
        .await
    }

    /// Asks the API of JetStream.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        subject: String,
        request: &serde_json::Value,
    ) -> Result<T, Failure> {
        let payload = Bytes::from(request.to_string());
        self.request(format!("$JS.API.{subject}"), None, payload)
            .await
    }

    /// Asks something, and reads the answer.
    pub(super) async fn request<T: DeserializeOwned>(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<T, Failure> {
        let bytes = payload.len() + headers.as_ref().map_or(0, header_bytes);
        let mut request = Request::new().payload(payload);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answer = self.bounded(async {
            let answer = self.client.send_request(subject, request).await;
            answer.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => Failure::Gone,
                RequestErrorKind::TimedOut => self.late(),
                RequestErrorKind::MaxPayloadExceeded => {
                    Failure::NotDone(BrokerError::TooLarge(format!(
                        "a message of {bytes} bytes is over the limit `max_payload` of {} bytes of NATS at {}; raise it in \
                         the server's configuration",
                        self.max_payload(),
                        self.address
                    )))
                }
                RequestErrorKind::InvalidSubject | RequestErrorKind::Other => {
                    self.failed("asking", &error)
                }
            })
        });
        let answer = answer.await?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(Failure::Refused(error)),
            Err(error) => Err(Failure::Unknown(format!(
                "NATS at {} gave an answer that cannot be read: {error}",
                self.address
            ))),
        }
    }

    /// Does something over the connection, unless it breaks, and not for too long.
    pub(super) async fn bounded<T>(
        &self,
        what: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut breaks = self.breaks.clone();
        breaks.mark_unchanged();
        if !self.is_up() {
            return Err(Failure::NotDone(BrokerError::Unavailable(format!(
                "the connection to NATS at {} is broken and will be made again as soon as it can be",
                self.address
            ))));
        }
        tokio::select! {
            done = timeout(self.timeout, what) => done.unwrap_or_else(|_| Err(self.late())),
            _ = breaks.changed() => Err(Failure::Unknown(format!(
                "the connection to NATS at {} broke before it answered",
                self.address
            ))),
        }
    }

    fn late(&self) -> Failure {
        Failure::Unknown(format!(
            "NATS at {} did not answer within {:?}",
            self.address, self.timeout
        ))
    }

    fn failed(&self, what: &str, error: &dyn std::fmt::Display) -> Failure {
        Failure::Unknown(format!("{what} NATS at {} failed: {error}", self.address))
    }

    /// The error of something that changed nothing, so that it does not matter whether it was done.
    pub(super) fn error(&self, what: &str, failure: Failure) -> BrokerError {
        let address = &self.address;
        match failure {
            Failure::Gone => BrokerError::Unavailable(format!(
                "NATS at {address} has nobody who answers {what}: is JetStream enabled there, for this account, and \
                 does its cluster have a quorum?"
            )),
            Failure::Refused(error) => {
                let text = format!("NATS at {address} refuses {what}: {error}");
                // The codes are those of HTTP; a 5xx passes by.
                match error.code() {
                    400..500 => BrokerError::Denied(text),
                    _ => BrokerError::Unavailable(text),
                }
            }
            Failure::NotDone(error) => error,
            Failure::Unknown(text) => BrokerError::Unavailable(text),
        }
    }
}

/// What headers take on the wire: a first line, a line for each, and an empty one.
fn header_bytes(headers: &HeaderMap) -> usize {
    let values = headers.iter().flat_map(|(name, values)| {
        let name = AsRef::<str>::as_ref(name).len();
        let lines = values.iter();
        lines.map(move |value| name + ": ".len() + value.as_str().len() + "\r\n".len())
    });
    "NATS/1.0\r\n\r\n".len() + values.sum::<usize>()
}

/// How long to wait before this attempt to connect again: longer and longer, and each node a little differently.
fn wait_before(attempt: usize) -> Duration {
    let doubled = Duration::from_millis(1 << attempt.clamp(1, 12));
    doubled
        .min(LONGEST_WAIT)
        .mul_f64(rand::random_range(0.5..1.0))
}

/// Waits until the connection breaks, for ever if there is none any more.
pub(super) async fn broke(breaks: &mut watch::Receiver<u64>) {
    if breaks.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
