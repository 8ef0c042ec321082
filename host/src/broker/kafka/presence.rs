//! The presence log: a topic of its own, in which nodes say who hears channels.
//!
//! Its clients are its own too: whatever goes wrong with it, events are carried all the same.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use tokio::runtime::Handle;

use super::{
    super::{
        BrokerError,
        roster::{KEPT, Members, PresenceLog, Replica},
    },
    Settings,
    client::{Clients, Consumer, code, passes},
    sender::{PARTITION, Sender},
    topic::{self, Wanted},
};

/// How long to wait for a message before something else is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The first wait and the longest before the log is read anew. What a server refuses it refuses again.
const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];
/// After so long what went wrong before is of no interest.
const LASTED: Duration = Duration::from_secs(10);

/// Where nodes say who hears channels.
struct PresenceTopic {
    clients: Arc<Clients>,
    sender: Sender,
    topic: String,
    /// The name of the log, which is the key of its messages: a topic may carry the events of several apps, and each has
    /// connections of its own.
    log: String,
}

/// Reads it, on a thread of its own.
struct PresenceReader {
    topic: Arc<PresenceTopic>,
    consumer: Consumer,
    replica: Arc<Replica>,
    runtime: Handle,
    /// Set when it is to end.
    stop: Arc<AtomicBool>,
}

/// Begins to read who hears channels of a log with this topic, until it is to stop.
pub(super) fn open(
    settings: Settings,
    topic: &str,
    log: &str,
    runtime: Handle,
    stop: Arc<AtomicBool>,
) -> Result<Members, BrokerError> {
    // What they hear of errors is theirs alone.
    let clients = Arc::new(Clients::new(settings, 0));
    let topic = topic::presence(topic);
    let replica = Arc::new(Replica::new(format!(
        "the topic {topic} of Kafka at {}",
        clients.servers()
    )));
    let topic = Arc::new(PresenceTopic {
        sender: Sender::new(clients.clone(), topic.clone())?,
        clients,
        topic,
        log: log.to_owned(),
    });
    let reader = PresenceReader {
        consumer: topic.clients.consumer()?,
        topic: topic.clone(),
        replica: replica.clone(),
        runtime,
        stop,
    };
    let spawned = thread::Builder::new()
        .name("kafka-presence".into())
        .spawn(move || reader.run());
    if let Err(error) = spawned {
        replica.broke(&format!(
            "a thread that reads it cannot be started: {error}"
        ));
    }
    Ok(Members::new(Box::new(topic), replica))
}

impl PresenceReader {
    /// Reads until it is to stop.
    fn run(self) {
        let [first, longest] = WAITS;
        let mut wait = first;
        loop {
            let since = Instant::now();
            let Err(error) = self.read() else { return };
            self.replica.broke(&self.explained(error));
            if since.elapsed() > LASTED {
                wait = first;
            }
            let until = Instant::now() + wait.mul_f64(rand::random_range(0.5..1.0));
            wait = longest.min(2 * wait);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                if self.stopped() {
                    return;
                }
                thread::sleep(left.min(LOOK));
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Reads all that is kept, and all that comes.
    fn read(&self) -> Result<(), BrokerError> {
        let clients = &self.topic.clients;
        let topic = &self.topic.topic;
        let failed =
            |error: KafkaError| clients.error(&format!("reading the topic {topic} failed"), &error);
        clients.forget_said();
        self.consumer.unassign().map_err(failed)?;
        let wanted = Wanted {
            topic,
            partitions: 1,
            one: true,
            kept: KEPT,
        };
        topic::open(clients, &self.consumer, &wanted, &self.runtime)?;
        let mut assigned = TopicPartitionList::new();
        assigned
            .add_partition_offset(topic, PARTITION, Offset::Offset(self.start()?))
            .and_then(|()| self.consumer.assign(&assigned))
            .map_err(failed)?;
        while !self.stopped() {
            match self.consumer.poll(LOOK) {
                None => {}
                Some(Ok(message)) if message.key() == Some(self.topic.log.as_bytes()) => {
                    self.replica.read(message.payload().unwrap_or_default());
                }
                // Another app says something there too.
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => self.replica.caught_up(),
                Some(Err(error)) => match code(&error) {
                    Some(Code::AllBrokersDown) => {}
                    Some(code) if passes(code) => {}
                    _ => return Err(failed(error)),
                },
            }
        }
        Ok(())
    }

    /// The offset to begin with: what is older than the log is kept may be there still.
    fn start(&self) -> Result<i64, BrokerError> {
        let (clients, topic) = (&self.topic.clients, &self.topic.topic);
        let failed = |error: KafkaError| {
            clients.error(&format!("the topic {topic} cannot be looked up"), &error)
        };
        let limit = clients.timeout();
        let ends = self.consumer.fetch_watermarks(topic, PARTITION, limit);
        let (low, high) = ends.map_err(failed)?;
        let found = topic::first_since(clients, &self.consumer, topic, 1, KEPT)?;
        let found = found.into_iter().next().flatten();
        // Where nothing is as new as that, this node's clock may be ahead.
        let found = found.and_then(|found| i64::try_from(found).ok());
        Ok(found.unwrap_or(low).clamp(low, high))
    }

    /// Why nothing is read, and what it takes.
    fn explained(&self, error: BrokerError) -> String {
        format!(
            "{error}; the user has to be allowed to create, describe, read and write the topic {}, or it has to be there: \
             with one partition, and `retention.ms={}`",
            self.topic.topic,
            KEPT.as_millis()
        )
    }
}

#[async_trait]
impl PresenceLog for Arc<PresenceTopic> {
    async fn append(&self, message: Bytes) -> Result<(), BrokerError> {
        let sent = self.sender.send_plain(&self.log, &message).await;
        sent.map_err(|error| {
            let what = format!("writing to the topic {} failed", self.topic);
            self.clients.error(&what, &error)
        })
    }

    fn largest(&self) -> usize {
        // A topic takes twice as much unless it is set to less, and no message has to be as large.
        512 * 1024
    }

    fn timeout(&self) -> Duration {
        self.clients.timeout()
    }
}
