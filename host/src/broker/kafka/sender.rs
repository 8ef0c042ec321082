//! What puts records into the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use parking_lot::Mutex;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::OwnedHeaders,
    producer::{DeliveryFuture, FutureRecord, Producer as _},
};

use super::{
    super::BrokerError,
    client::{BATCH_BYTES, Clients, Producing, code},
};

/// The partition of a topic that has but one.
pub(super) const PARTITION: i32 = 0;
/// Nobody knows how large a record may be.
const UNKNOWN: usize = usize::MAX;

/// Puts records into the log. Many may be under way at a time; they are acknowledged by all replicas that are in sync,
/// and the library's own retries put none there twice.
pub(super) struct Sender {
    clients: Arc<Clients>,
    topic: String,
    /// The largest record that the topic takes, in bytes, as far as that is known.
    largest: AtomicUsize,
    /// Which partition a record is put into follows from its key, as with Java's clients; else it is [`PARTITION`].
    spread: AtomicBool,
    /// Records are sent one by one: the topic took less than was sent together, and nobody knows what it takes.
    alone: AtomicBool,
    producer: Mutex<Producing>,
}

impl Sender {
    pub(super) fn new(clients: Arc<Clients>, topic: String) -> Result<Self, BrokerError> {
        let producer = Mutex::new(clients.producer(BATCH_BYTES)?);
        Ok(Self {
            clients,
            topic,
            largest: AtomicUsize::new(UNKNOWN),
            spread: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            producer,
        })
    }

    /// The topic takes no larger records than this. The limit is one of what is sent together as well.
    pub(super) fn bound(&self, largest: usize) -> Result<(), BrokerError> {
        let was_alone = self.alone.swap(false, Ordering::Relaxed);
        let before = self.largest.load(Ordering::Relaxed);
        if was_alone || before.min(BATCH_BYTES) != largest.min(BATCH_BYTES) {
            let new = self.clients.producer(largest.min(BATCH_BYTES))?;
            drop_elsewhere(std::mem::replace(&mut *self.producer.lock(), new));
        }
        self.largest.store(largest, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the topic has several partitions.
    pub(super) fn spread(&self, several: bool) {
        self.spread.store(several, Ordering::Relaxed);
    }

    /// Sends a record. An error means that it was not accepted. Does not wait.
    pub(super) fn send(
        &self,
        key: Option<&str>,
        value: Option<&str>,
        headers: OwnedHeaders,
    ) -> Result<DeliveryFuture, BrokerError> {
        let mut record: FutureRecord<'_, str, str> = FutureRecord::to(&self.topic).headers(headers);
        let spread = self.spread.load(Ordering::Relaxed);
        record.partition = (!spread).then_some(PARTITION);
        record.key = key;
        record.payload = value;
        let bytes = value.map_or(0, str::len);
        let sent = self.producer.lock().send_result(record);
        sent.map_err(|(error, _)| self.failed(&error, bytes))
    }

    /// Sends what is no event, and waits until it is accepted. An error may mean that nobody knows whether it was.
    pub(super) async fn send_plain(&self, key: &str, value: &[u8]) -> Result<(), KafkaError> {
        let record = FutureRecord::to(&self.topic).partition(PARTITION);
        let sent = self
            .producer
            .lock()
            .send_result(record.key(key).payload(value));
        let sent = match sent {
            Ok(delivery) => match delivery.await {
                Ok(delivered) => delivered.map(drop).map_err(|(error, _)| error),
                // The producer was made anew.
                Err(_) => Err(KafkaError::Canceled),
            },
            Err((error, _)) => Err(error),
        };
        if sent.is_err() {
            self.renew();
        }
        sent
    }

    /// Why a record with so many bytes of data was not accepted, or nobody knows whether it was.
    pub(super) fn failed(&self, error: &KafkaError, bytes: usize) -> BrokerError {
        self.renew();
        match code(error) {
            Some(Code::QueueFull) => self.clients.unavailable(
                "too much waits to be sent already; the event was not accepted, publish it again later",
            ),
            Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
                let limit = match self.largest.load(Ordering::Relaxed) {
                    // It may have been the others that it was sent with.
                    UNKNOWN if bytes < BATCH_BYTES / 2 => {
                        self.send_alone();
                        return self.clients.unavailable(
                            "more was sent together than the topic takes, which is not known, because the user may not \
                             describe its configuration; the event was not accepted, publish it again: from now on \
                             each is sent by itself",
                        );
                    }
                    UNKNOWN => String::new(),
                    largest => format!(" of {largest} bytes"),
                };
                BrokerError::TooLarge(format!(
                    "an event of {bytes} bytes is, with what belongs to it, over the limit `max.message.bytes`{limit} of \
                     the topic {} of Kafka at {}; raise it there",
                    self.topic,
                    self.clients.servers()
                ))
            }
            // Only what was refused for sure.
            Some(
                Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidTopic
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::InvalidRequiredAcks
                | Code::PolicyViolation
                | Code::UnsupportedForMessageFormat,
            ) => {
                let what = format!("publishing to the topic {} was refused", self.topic);
                self.clients.error(&what, error)
            }
            _ => self.unknown(&error.to_string()),
        }
    }

    /// Nobody knows whether a record was accepted.
    pub(super) fn unknown(&self, why: &str) -> BrokerError {
        self.clients.unavailable(format!(
            "it is not known whether the event was accepted ({why}); it can be published again under the same id, and is \
             heard once all the same"
        ))
    }

    fn new_producer(&self) -> Result<Producing, BrokerError> {
        let together = match self.alone.load(Ordering::Relaxed) {
            true => 1,
            false => self.largest.load(Ordering::Relaxed).min(BATCH_BYTES),
        };
        self.clients.producer(together)
    }

    /// Sends records one by one from now on.
    fn send_alone(&self) {
        if self.alone.swap(true, Ordering::Relaxed) {
            return;
        }
        match self.new_producer() {
            Ok(new) => drop_elsewhere(std::mem::replace(&mut *self.producer.lock(), new)),
            Err(error) => {
                tracing::warn!(%error, "the producer cannot be made anew yet");
                self.alone.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Makes the producer anew where it has failed for good: it can, when what it knows of its own records and what the
    /// server knows do not fit together any more.
    fn renew(&self) {
        let mut producer = self.producer.lock();
        let Some((code, reason)) = producer.client().fatal_error() else {
            return;
        };
        tracing::warn!(topic = self.topic, %code, reason, "the producer has failed and is made anew");
        match self.new_producer() {
            // Dropping it waits for its thread.
            Ok(new) => drop_elsewhere(std::mem::replace(&mut *producer, new)),
            Err(error) => tracing::warn!(%error, "the producer cannot be made anew yet"),
        }
    }
}

/// Drops what takes its time to be dropped.
fn drop_elsewhere<T: Send + 'static>(dropped: T) {
    let name = "kafka-closing".into();
    // Where there is no thread left it is dropped here.
    let _ = thread::Builder::new()
        .name(name)
        .spawn(move || drop(dropped));
}
