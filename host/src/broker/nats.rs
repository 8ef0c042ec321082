//! NATS JetStream, as a broker of many nodes.
//!
//! # Layout
//!
//! - [`Nats`]: the broker.
//! - [`url`]: where the servers are and how to log in.
//! - [`link`]: the connection, and what goes wrong with it.
//! - [`names`]: what a log is called on the server.
//! - [`log`]: what is kept as a log of events; publishing.
//! - [`stream`]: the stream of a log: found, made and set up.
//! - [`read`]: reading what is kept of it.
//! - [`receiver`]: what is pushed, and how a break is noticed.
//! - [`taken`]: one message of it.
//! - [`merged`]: many subscriptions in one order.
//! - [`presence`]: who hears channels at which node.
//!
//! # What is where
//!
//! A publisher is a log of events, and a log is one stream, so that all its events have one order: their sequences.
//! Events of a channel are published on `fanfare.<log>.event.<channel>`, where letters, digits, `_` and `-` of the names
//! stand for themselves and all other bytes are escaped as in URLs. The stream keeps so many of each subject, for so
//! long, and knows for just as long which ids it has seen. Whatever it stores it pushes on
//! `fanfare.<log>.pushed.event.<channel>` (`republish`), with the sequence before it on the channel. A node subscribes
//! to the channels that its clients hear, and receives nothing else.
//!
//! A single server older than 2.9.16 may push two events in another order than it stores them in. So there a second stream
//! takes everything from the first one, in order, and pushes it in its place. It keeps next to nothing.
//!
//! The name of a stream ends with a number, which its first position comes after, and with a name at random, which is in
//! the ids that it gives. Both are new with every stream. So positions grow even where somebody deletes the stream: then
//! a new one is made, what was kept is told as a gap, and an id of the old one is told apart.
//!
//! What other programs publish on the subject of a channel is an event too, with what they publish as its data, if it
//! is text in UTF-8. The rest is skipped with a line in the log. An event that cannot be read, because a node of another
//! version published it or its data is over the app's limit, is told as a gap.
//!
//! # Who hears channels
//!
//! Nodes say so on `fanfare.<log>.presence`, which a stream of its own keeps for some minutes,
//! `fanfare-<log>-presence-log`: the log of a [`roster`](super::roster). Where the server refuses that stream, events are
//! carried all the same.
//!
//! # What this broker does not do
//!
//! - The place of a guest's own id on another channel than the one it is looked for on is found only in logs that keep no
//!   more than 10,000 events: there is no index, so all of them are looked at, for one id at a time.
//! - In a cluster, what the leader of a stream stored but had not yet pushed when it died is pushed by nobody. A node
//!   reads it when the next event of that channel comes, but it may tell that of another channel before.

mod link;
mod log;
mod merged;
mod names;
mod presence;
mod read;
mod receiver;
mod stream;
mod taken;
mod url;

use std::{fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_nats::jetstream::ErrorCode;
use async_trait::async_trait;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::task::AbortOnDropHandle;

pub use self::url::{BadUrl, NatsUrl};
use self::{
    link::{Failure, Link},
    log::Log,
    presence::{PresenceReader, PresenceStream},
    receiver::{Receiver, Requests},
};
use super::{
    Accepted, Broker, BrokerError, Page, Presence, Retention, feed::Sink, roster::Members,
    started::Started,
};
use crate::{
    event::Event,
    hub::channel::ChannelName,
    trust::{BadAuthorities, Trust},
};

/// Where the servers are, and how they are spoken to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers, and how to log in.
    pub url: NatsUrl,
    /// Certificates of authorities, in PEM, that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// How long a server may take for anything.
    pub timeout: Duration,
    /// How many servers of a cluster keep each event, at least 1.
    pub replicas: usize,
}

/// Carries a publisher's events over NATS servers with JetStream, version 2.9 or later.
pub struct Nats {
    settings: Settings,
    trust: Arc<Trust>,
    /// The name of the log.
    name: String,
    retention: Retention,
    runtime: Handle,
    running: Started<Running>,
}

/// What there is once it was started.
struct Running {
    log: Arc<Log>,
    requests: Requests,
    members: Members,
    _receiver: AbortOnDropHandle<()>,
    _presence: AbortOnDropHandle<()>,
}

// === impl Nats ===

impl Nats {
    /// A broker over the log of this name at these servers. It connects when it is started. Its tasks run on this
    /// runtime.
    ///
    /// # Errors
    ///
    /// Where the file of authorities holds none.
    pub fn new(
        settings: Settings,
        name: String,
        retention: Retention,
        runtime: Handle,
    ) -> Result<Self, BadAuthorities> {
        let trust = Arc::new(Trust::new(settings.ca_file.as_deref())?);
        Ok(Self {
            settings,
            trust,
            name,
            retention,
            runtime,
            running: Started::not_yet(),
        })
    }

    /// Connects, and begins to hear.
    fn connect(&self, sink: Sink) -> impl Future<Output = Result<Running, BrokerError>> + use<> {
        let (settings, trust) = (self.settings.clone(), self.trust.clone());
        let (name, retention) = (self.name.clone(), self.retention);
        let runtime = self.runtime.clone();
        async move {
            let link = Link::open(&settings, &trust).await?;
            let log = Arc::new(Log::new(
                link,
                &name,
                retention,
                settings.replicas,
                sink.event_data(),
                runtime.clone(),
            ));
            let attached = log.attached().await;
            attached.map_err(|failure| log.link.error("making the stream of the log", failure))?;
            let (receiver, requests) = Receiver::open(log.clone(), sink).await?;
            let (presence, replica) = PresenceReader::new(log.clone());
            let members = Members::new(Box::new(PresenceStream(log.clone())), replica);
            Ok(Running {
                log,
                requests,
                members,
                _receiver: AbortOnDropHandle::new(runtime.spawn(receiver.run())),
                _presence: AbortOnDropHandle::new(runtime.spawn(presence.run())),
            })
        }
    }

    /// Does something, but not for longer than the timeout, which has this for a reason.
    async fn bounded<T>(
        &self,
        what: impl Future<Output = Result<T, BrokerError>>,
        reason: &str,
    ) -> Result<T, BrokerError> {
        let limit = self.settings.timeout;
        timeout(limit, what).await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(format!(
                "NATS at {} did not do everything within {limit:?}{reason}",
                self.settings.url.address()
            )))
        })
    }
}

impl Running {
    /// Asks for something that the log knows; again where its stream turns out to be another one by now.
    async fn ask<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        what: &str,
        ask: impl Fn() -> F,
    ) -> Result<T, BrokerError> {
        let answer = match ask().await {
            Err(Failure::Refused(error)) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                self.log.forget();
                ask().await
            }
            answer => answer,
        };
        answer.map_err(|failure| self.log.link.error(what, failure))
    }
}

#[async_trait]
impl Broker for Nats {
    async fn start(&self, sink: Sink) -> Result<(), BrokerError> {
        let connecting = AbortOnDropHandle::new(self.runtime.spawn(self.connect(sink)));
        let connecting = async {
            connecting.await.unwrap_or_else(|_| {
                Err(BrokerError::Unavailable(
                    "connecting to NATS was given up, because the node is shutting down".into(),
                ))
            })
        };
        let running = self.bounded(connecting, "").await?;
        self.running.set(running);
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError> {
        let running = self.running.get()?;
        self.bounded(
            running.log.publish(channel, event),
            "; nobody can know whether the event was accepted. It can be published again under the same id",
        )
        .await
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        self.running.get()?.requests.subscribe(channel).await
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        if let Ok(running) = self.running.get() {
            running.requests.unsubscribe(channel);
        }
    }

    async fn sync(&self) -> Result<u64, BrokerError> {
        self.running.get()?.requests.sync().await
    }

    async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        let running = self.running.get()?;
        let read = || running.log.read(channel, after, limit);
        self.bounded(running.ask("reading", read), "").await
    }

    fn presence(&self) -> Option<&dyn Presence> {
        Some(&self.running.peek()?.members)
    }

    async fn place(&self, channel: &ChannelName, id: &str) -> Result<Option<u64>, BrokerError> {
        let running = self.running.get()?;
        let place = || running.log.place(channel, id);
        self.bounded(running.ask("looking for an id", place), "")
            .await
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("url", &self.settings.url)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
