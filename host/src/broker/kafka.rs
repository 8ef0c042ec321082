//! Kafka, as a broker of many nodes.
//!
//! # Layout
//!
//! - [`Kafka`]: the broker; [`Settings`]: where it is.
//! - `topic`: the topic of a log, its name and how it has to be.
//! - `record`: what a record of it says.
//! - `cut`, `merge`: one order over several partitions.
//! - `index`: what a node keeps of it: positions, ids, duplicates, history.
//! - `reader`: what reads it, on a thread of its own.
//! - `sender`: what puts records into it.
//! - `ends`: how far it goes.
//! - `shared`: what the reader and those who publish and ask share.
//! - `presence`: who hears channels at which node.
//! - `client`: the clients of the library, what they say and what their errors mean.
//!
//! # What is where
//!
//! A publisher is a topic. The key of a record is the channel, its value the data, so that what other programs produce is
//! delivered as well. Where the topic has one partition, offsets are positions.
//!
//! # Several partitions
//!
//! Kafka knows an order only within a partition, and a client that hears several channels has one place for all of them. So
//! nodes write down the order over several partitions, in a topic of its own, `<topic>.order`: it holds *cuts*, each of which
//! says what comes next of every partition, and every node merges what it reads as they say. What counts, and which place a
//! record has, follows from the order topic alone (`merge`), so positions are the same on every node; above this nobody knows
//! of it. The node that wrote the newest cut writes the next one at once when there is something to order, and every other
//! one only where it does not (`reader::several`). A cut tells the times of the last records that it takes, so that whoever
//! finds others in their place knows that it reads another log.
//!
//! An event goes through Kafka twice before it is heard. Records that no cut can take yet, as those after an open
//! transaction, hold up their partition and no other one.
//!
//! # Every node reads all of it
//!
//! In Kafka nobody can read only the records of some keys, or find those of one. So each node reads the whole topic, and
//! keeps the newest events of every channel in memory, heard or not: that is its history, and how it finds ids. What
//! that may take is bounded by the retention and by [`Settings::memory`]; what is over it goes first where it is oldest,
//! and is told as a gap. A node that starts reads back what is kept before it is ready.
//!
//! # Accepted once
//!
//! Kafka does not look at ids. An event is published by producing it and reading it back: the first record of a channel
//! with an id is the event, on every node, and those after it are duplicates that nobody delivers. While another program
//! has a transaction open in a partition, nothing after it can be read there, and so nothing published either.
//!
//! # What a broken connection costs
//!
//! Nothing is lost by it: the reader goes on at its offset. It says that the push broke all the same, because only then
//! is it seen whether the topic still holds the same log: the record that was read last must be there as it was.
//!
//! # Who hears channels
//!
//! Nodes say so in a topic of its own, `<topic>.presence`, which is kept for some minutes: the log of a
//! [`roster`](super::roster). Where the cluster refuses that topic, events are carried all the same.

mod client;
mod cut;
mod ends;
mod index;
mod merge;
mod presence;
mod reader;
mod record;
mod sender;
mod shared;
mod topic;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use self::{
    client::Clients,
    ends::Ends,
    index::Index,
    reader::{Progress, Reader},
    sender::Sender,
    shared::{Shared, now},
};
use super::{
    Accepted, Broker, BrokerError, Page, Presence, Retention, feed::Sink, roster::Members,
    started::Started,
};
use crate::{event::Event, hub::channel::ChannelName};

/// Where a Kafka cluster is, and how to use it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Some of its servers, each as `host:port`; the others are learnt from these.
    pub servers: Vec<String>,
    /// The topics of logs.
    pub topic: Topic,
    /// How many partitions a topic is given that has to be made, 1 to 1000. One that is there is taken as it is.
    pub partitions: usize,
    /// Who the node is there. Without one it says nothing of that.
    pub login: Option<Login>,
    /// Speaks TLS.
    pub tls: Option<Tls>,
    /// The longest that the cluster may take for anything.
    pub timeout: Duration,
    /// The memory that the events may take which a node keeps of a log, in bytes.
    pub memory: usize,
}

/// The topics of logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// Each log has a topic of its own, whose name begins with this.
    Prefixed(String),
    /// This one, whatever the log: for a topic that others use as well.
    Named(String),
}

/// Who a node is.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// How it says so.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// How a node says who it is (SASL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password as it is, which only TLS keeps secret.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

/// How TLS is spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// A file of certificates of authorities in PEM that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Carries a publisher's events over a Kafka cluster.
pub struct Kafka {
    settings: Settings,
    names: Names,
    retention: Retention,
    runtime: Handle,
    running: Started<Running>,
}

/// What a log is called.
#[derive(Clone)]
struct Names {
    /// Here: `<app>:<sync channel>`.
    log: String,
    /// At Kafka.
    topic: String,
}

/// What there is once it was started.
struct Running {
    clients: Arc<Clients>,
    sender: Arc<Sender>,
    shared: Arc<Shared>,
    sink: Sink,
    ends: Ends,
    members: Members,
    /// Ends the readers.
    _stop: Stop,
}

/// Ends the readers when it is dropped.
struct Stop(Arc<AtomicBool>);

// === impl Kafka ===

impl Kafka {
    /// A broker over the log of this name, `<app>:<sync channel>`, at this cluster. It connects when it is started. What
    /// waits is run on this runtime.
    pub fn new(settings: Settings, log: &str, retention: Retention, runtime: Handle) -> Self {
        Self {
            names: Names {
                log: log.to_owned(),
                topic: topic::name(&settings.topic, log),
            },
            settings,
            retention,
            runtime,
            running: Started::not_yet(),
        }
    }

    /// Makes the clients, and has a thread read the log. Returns when it was read. Blocks.
    fn open(
        settings: Settings,
        names: Names,
        retention: Retention,
        runtime: Handle,
        sink: Sink,
        opened: oneshot::Sender<Result<Running, BrokerError>>,
        stop: Stop,
    ) {
        let attached = || {
            let memory = settings.memory;
            let Names { log, topic } = names;
            let clients = Arc::new(Clients::new(settings.clone(), sink.event_data()));
            let consumer = Arc::new(clients.consumer()?);
            let sender = Arc::new(Sender::new(clients.clone(), topic.clone())?);
            let shared = Arc::new(Shared::new(Index::new(retention, memory, 0)));
            let mut reader = Reader {
                clients: clients.clone(),
                consumer: consumer.clone(),
                sender: sender.clone(),
                topic: topic.clone(),
                partitions: settings.partitions,
                retention,
                memory,
                shared: shared.clone(),
                sink: sink.clone(),
                runtime: runtime.clone(),
                stop: stop.0.clone(),
                progress: Progress::default(),
                several: None,
            };
            reader.attach()?;
            let members = presence::open(settings, &topic, &log, runtime.clone(), stop.0.clone())?;
            let ends = Ends::new(clients.clone(), &consumer, topic, shared.clone(), &runtime);
            let running = Running {
                clients,
                sender,
                shared,
                sink,
                ends,
                members,
                _stop: stop,
            };
            Ok((running, reader))
        };
        match attached() {
            Ok((running, reader)) => {
                // Where nobody waits for it any more, it is dropped, and the reader ends.
                let _ = opened.send(Ok(running));
                reader.run();
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        }
    }
}

#[async_trait]
impl Broker for Kafka {
    /// Takes as long as it takes to read back what is kept; the timeout is for each answer of the cluster.
    async fn start(&self, sink: Sink) -> Result<(), BrokerError> {
        if self.running.get().is_ok() {
            // It comes back by itself.
            return Ok(());
        }
        let (sender, opened) = oneshot::channel();
        let stop = Stop(Arc::default());
        let (settings, names, retention) =
            (self.settings.clone(), self.names.clone(), self.retention);
        let runtime = self.runtime.clone();
        let open = move || Self::open(settings, names, retention, runtime, sink, sender, stop);
        let spawned = thread::Builder::new()
            .name("kafka-reader".into())
            .spawn(open);
        if let Err(error) = spawned {
            return Err(BrokerError::Unavailable(format!(
                "a thread that reads the log cannot be started: {error}"
            )));
        }
        let running = opened.await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(
                "the thread that reads the log has ended; the log of the node says why".into(),
            ))
        })?;
        self.running.set(running);
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError> {
        self.running.get()?.publish(channel, event).await
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        let running = self.running.get()?;
        let mut state = running.shared.lock();
        state.heard.insert(channel.clone());
        Ok(state.newest())
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        if let Ok(running) = self.running.get() {
            running.shared.lock().heard.remove(channel);
        }
    }

    async fn sync(&self) -> Result<u64, BrokerError> {
        self.running.get()?.sync().await
    }

    async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        let running = self.running.get()?;
        running.catch_up().await?;
        let state = running.shared.lock();
        Ok(state.index.page(channel, after, limit, now()))
    }

    fn presence(&self) -> Option<&dyn Presence> {
        Some(&self.running.peek()?.members)
    }

    async fn place(&self, channel: &ChannelName, id: &str) -> Result<Option<u64>, BrokerError> {
        let running = self.running.get()?;
        let find = || running.shared.lock().index.find(channel, id);
        if let Some(position) = find() {
            return Ok(Some(position));
        }
        // Another node may be ahead of this one.
        running.catch_up().await?;
        Ok(find())
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("servers", &self.settings.servers)
            .field("topic", &self.names.topic)
            .finish_non_exhaustive()
    }
}

// === impl Running ===

impl Running {
    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError> {
        let until = Instant::now() + self.clients.timeout();
        let mut echo = self.shared.expect();
        let headers = record::event_headers(echo.origin, event);
        let key = Some(channel.as_str());
        let mut delivery = self.sender.send(key, Some(record::value(event)), headers)?;
        let mut acknowledged = None;
        loop {
            let waiting = acknowledged.is_none();
            let step = async {
                tokio::select! {
                    biased;
                    // Only the reader answers, and it always does.
                    Ok(accepted) = &mut echo.read => Ok(Some(accepted)),
                    delivered = &mut delivery, if waiting => match delivered {
                        Ok(Ok(delivery)) => {
                            self.shared.acknowledged(delivery.partition);
                            acknowledged = Some(delivery.offset);
                            Ok(None)
                        }
                        Ok(Err((error, _))) => {
                            Err(self.sender.failed(&error, event.data_bytes()))
                        }
                        Err(_) => Err(self.sender.unknown("the producer was made anew")),
                    },
                    else => std::future::pending().await,
                }
            };
            match timeout_at(until, step).await {
                Ok(Ok(Some(accepted))) => return Ok(accepted),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return self.unread(event, acknowledged),
            }
        }
    }

    /// An event was not read back in time.
    fn unread(&self, event: &Event, acknowledged: Option<i64>) -> Result<Accepted, BrokerError> {
        let Some(offset) = acknowledged else {
            let timeout = self.clients.timeout();
            let why = format!("it was not acknowledged within {timeout:?}");
            return Err(self.sender.unknown(&why));
        };
        if self.shared.partitions() > 1 {
            return Err(self.clients.unavailable(
                "the event was accepted and is delivered, but its place in the order of all partitions is not known yet; \
                 do not publish it again, but under the same id, to learn that",
            ));
        }
        let state = self.shared.lock();
        match (event.id(), state.index.epoch(), u64::try_from(offset)) {
            (None, Some(epoch), Ok(offset)) => {
                let position = state.index.position_of(offset);
                Ok(Accepted {
                    id: format!("{epoch}-{position}"),
                    position,
                    duplicate: false,
                })
            }
            _ => Err(self.clients.unavailable(
                "the event was accepted and cannot be read yet, so it is not known whether another one with its id was \
                 there before; publish it again under the same id to learn that",
            )),
        }
    }

    /// Has read all that was accepted before this. Returns the position that was told then.
    async fn catch_up(&self) -> Result<u64, BrokerError> {
        let reached = async {
            let offsets = self.ends.next_offsets().await?;
            Ok(self.shared.reach(&offsets).await)
        };
        let reached = timeout(self.clients.timeout(), reached).await;
        reached.unwrap_or_else(|_| {
            Err(self
                .clients
                .unavailable("the node is behind what was published; try again later"))
        })
    }

    async fn sync(&self) -> Result<u64, BrokerError> {
        if self.shared.partitions() > 1 {
            // It follows from the order, which has to be there first.
            let position = self.catch_up().await?;
            self.sink.complete(position);
            return Ok(position);
        }
        let offsets = self.ends.next_offsets().await?;
        let offset = offsets.first().copied().unwrap_or(0);
        let (wanted, told) = {
            let index = &self.shared.lock().index;
            let position = |offset: u64| {
                offset
                    .checked_sub(1)
                    .map_or(0, |last| index.position_of(last))
            };
            (position(offset), position(self.shared.read_through()))
        };
        // Where the push was broken, nobody listened when it was told.
        if told >= wanted {
            self.sink.complete(told);
        }
        Ok(wanted)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// === impl Login ===

impl Mechanism {
    /// Its name at Kafka.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}
