//! The presence log: a stream of its own, in which nodes say who hears channels.
//!
//! Each node reads it with a consumer of its own, which the server forgets when it is not used. Whatever breaks, the node
//! reads all that is kept anew.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_nats::{
    StatusCode, Subscriber,
    jetstream::{
        self, ErrorCode,
        consumer::{
            AckPolicy, Consumer,
            pull::{BatchConfig, Config},
        },
        publish::PublishAck,
        stream::ConsumerErrorKind,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use super::{
    super::{
        BrokerError,
        roster::{KEPT, PresenceLog, Replica},
    },
    link::{Failure, broke},
    log::Log,
    stream::{is_there, nanos_of, object},
};

/// What the stream keeps at most, in bytes: some rounds of a million members.
const BYTES: u64 = 128 << 20;
/// Messages that the server sends at a time.
const BATCH: usize = 250;
/// After this time the server is asked again.
const ASKED: Duration = Duration::from_secs(30);
/// How often the server says that there is nothing. After two such times of silence it is asked anew.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// After this time the server forgets a consumer that nobody uses.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// The first wait and the longest before the log is read anew, while the connection works. What a server refuses it
/// refuses again, and says so in its log.
const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// Where nodes say who hears channels.
pub(super) struct PresenceStream(pub(super) Arc<Log>);

/// Reads it.
pub(super) struct PresenceReader {
    log: Arc<Log>,
    stream: String,
    replica: Arc<Replica>,
}

/// What of a stream is of interest here.
#[derive(Deserialize)]
struct Info {
    config: Map<String, Value>,
}

/// A consumer, which is deleted when it is dropped.
struct Reading<'a> {
    log: &'a Log,
    consumer: Consumer<Config>,
}

impl PresenceReader {
    pub(super) fn new(log: Arc<Log>) -> (Self, Arc<Replica>) {
        let stream = log.names.presence_stream();
        let called = format!("the stream {stream} of NATS at {}", log.link.address());
        let replica = Arc::new(Replica::new(called));
        let reader = Self {
            log,
            stream,
            replica: replica.clone(),
        };
        (reader, replica)
    }

    /// Reads for ever.
    pub(super) async fn run(self) {
        let [first, longest] = WAITS;
        let mut breaks = self.log.link.breaks();
        let mut wait = first;
        loop {
            breaks.mark_unchanged();
            let failure = tokio::select! {
                Err(failure) = self.read(&mut wait) => Some(failure),
                () = broke(&mut breaks) => None,
            };
            match failure {
                Some(failure) => {
                    self.replica.broke(&self.explained(failure));
                    tokio::select! {
                        () = sleep(wait.mul_f64(rand::random_range(0.5..1.0))) => {}
                        () = broke(&mut breaks) => {}
                    }
                    wait = longest.min(2 * wait);
                }
                None => self.replica.broke(&format!(
                    "the connection to NATS at {} broke",
                    self.log.link.address()
                )),
            }
            // The connection is made again by itself.
            while !self.log.link.is_up() {
                sleep(first).await;
                wait = first;
            }
        }
    }

    /// Reads all there is, and all that comes.
    async fn read(&self, wait: &mut Duration) -> Result<Infallible, Failure> {
        let link = &self.log.link;
        self.see_stream().await?;
        let reading = self.begin().await?;
        let mut expected = 1;
        if reading.consumer.cached_info().num_pending == 0 {
            self.replica.caught_up();
        }
        loop {
            // Each time by another name: what was asked for before is over.
            let inbox = link.inbox();
            let mut messages = link.subscribe(inbox.clone()).await?;
            let batch = BatchConfig {
                batch: BATCH,
                expires: Some(ASKED),
                idle_heartbeat: HEARTBEAT,
                ..BatchConfig::default()
            };
            let asked = reading.consumer.request_batch(batch, inbox.into()).await;
            asked.map_err(|error| self.failed("asking", &error))?;
            self.take(&mut messages, &mut expected).await?;
            *wait = WAITS[0];
        }
    }

    /// Takes what was asked for.
    async fn take(&self, messages: &mut Subscriber, expected: &mut u64) -> Result<(), Failure> {
        for _ in 0..BATCH {
            let message = loop {
                let next = timeout(2 * HEARTBEAT, messages.next()).await;
                let next = next.map_err(|late| self.failed("the next message", &late))?;
                let Some(message) = next else {
                    return Err(self.failed("the next message", &"the connection is closed"));
                };
                let Some(status) = message.status else {
                    break message;
                };
                let over = [StatusCode::TIMEOUT, StatusCode::NOT_FOUND].contains(&status);
                if !over && status != StatusCode::IDLE_HEARTBEAT {
                    let reason = message.description.as_deref().unwrap_or_default();
                    return Err(self.failed("the next message", &format!("{status} {reason}")));
                }
                // There is nothing, or not any more.
                self.replica.caught_up();
                if over {
                    return Ok(());
                }
            };
            let message = jetstream::Message {
                message,
                context: self.log.link.context().clone(),
            };
            let info = message.info();
            let info = info.map_err(|error| self.failed("a message", &error))?;
            if info.consumer_sequence != *expected {
                return Err(self.failed("a message", &"another one before it was lost"));
            }
            *expected += 1;
            self.replica.read(&message.payload);
            if info.pending == 0 {
                self.replica.caught_up();
            }
        }
        Ok(())
    }

    /// Sees that there is the stream, and that it is as it is to be.
    async fn see_stream(&self) -> Result<(), Failure> {
        let log = &*self.log;
        let settings = [
            ("subjects", json!([log.names.presence()])),
            ("max_age", json!(nanos_of(KEPT))),
            ("max_bytes", json!(BYTES)),
            ("num_replicas", json!(log.replicas.max(1))),
        ];
        let info = format!("STREAM.INFO.{}", self.stream);
        match log.link.api::<Info>(info, &json!({})).await {
            Ok(Info { mut config }) => {
                let mut changed = false;
                for (name, value) in settings {
                    changed |= config.insert(name.into(), value.clone()) != Some(value);
                }
                match changed {
                    true => log.change("UPDATE", config).await,
                    false => Ok(()),
                }
            }
            Err(Failure::Refused(error)) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                let mut config = object(json!({
                    "name": self.stream,
                    "retention": "limits",
                    "storage": "file",
                    "discard": "old",
                }));
                config.extend(settings.map(|(name, value)| (name.to_owned(), value)));
                match log.change("CREATE", config).await {
                    // Another node was faster, or another stream has the subject.
                    Err(Failure::Refused(error)) if is_there(&error) => {
                        let info = format!("STREAM.INFO.{}", self.stream);
                        let made = log.link.api::<Info>(info, &json!({})).await;
                        made.map(drop).map_err(|_| Failure::Refused(error))
                    }
                    made => made,
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// A consumer that begins with the oldest message.
    async fn begin(&self) -> Result<Reading<'_>, Failure> {
        let config = Config {
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let link = &self.log.link;
        let consumer = link.bounded(async {
            let made = link.context();
            let made = made.create_consumer_on_stream(config, &self.stream).await;
            made.map_err(|error| match error.kind() {
                ConsumerErrorKind::JetStream(error) => Failure::Refused(error),
                _ => self.failed("a consumer", &error),
            })
        });
        Ok(Reading {
            log: &self.log,
            consumer: consumer.await?,
        })
    }

    fn failed(&self, at: &str, error: &dyn std::fmt::Display) -> Failure {
        Failure::Unknown(format!(
            "reading the stream {} of NATS at {} failed at {at}: {error}",
            self.stream,
            self.log.link.address()
        ))
    }

    /// Why nothing is read, and what it takes.
    fn explained(&self, failure: Failure) -> String {
        let what = format!("reading the stream {}", self.stream);
        let error = self.log.link.error(&what, failure);
        format!(
            "{error}; the user has to be allowed to use the subjects fanfare.>, $JS.API.> and _INBOX.>, and the account to \
             have one more stream of up to {} MiB",
            BYTES >> 20
        )
    }
}

#[async_trait]
impl PresenceLog for PresenceStream {
    async fn append(&self, message: Bytes) -> Result<(), BrokerError> {
        let link = &self.0.link;
        let subject = self.0.names.presence();
        let put = link.request::<PublishAck>(subject, None, message).await;
        put.map_err(|failure| link.error("saying who hears channels", failure))?;
        Ok(())
    }

    fn largest(&self) -> usize {
        self.0.link.max_payload()
    }

    fn timeout(&self) -> Duration {
        self.0.link.timeout()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.log.link.forget(&self.consumer, &self.log.runtime);
    }
}
