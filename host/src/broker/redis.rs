//! Redis, as a broker of many nodes.
//!
//! # Layout
//!
//! - [`Redis`]: the broker.
//! - [`log`]: what is kept on the server, and the scripts that change and read it in one step each.
//! - [`presence`]: who hears channels at which node.
//! - [`receiver`]: the connection that events are pushed over.
//!
//! # What is where
//!
//! A publisher is a log of events. All of its keys have the name of the log in braces, so that in a cluster they are on
//! one server: the order of a publisher's events is one server's, and different publishers may be on different ones. For
//! each channel there is a list of its newest events and a Redis channel that they are pushed over, to the nodes that
//! listen. Publishing is one script: accepted, kept and pushed are one step.
//!
//! The push is `PUBLISH`, which forgets what it cannot deliver. What it lost is read from the list: see
//! [`feed`](super::feed).

mod log;
mod presence;
mod receiver;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use self::{
    log::Log,
    presence::Members,
    receiver::{Receiver, Requests},
};
use super::{
    Accepted, Broker, BrokerError, Page, Presence, Retention, feed::Sink, started::Started,
};
use crate::{
    event::Event,
    hub::channel::ChannelName,
    redis_pool::{RedisError, RedisPool, RedisUrl},
};

/// Carries a publisher's events over a Redis server.
pub struct Redis {
    pool: Arc<RedisPool>,
    url: RedisUrl,
    /// The name of the log.
    name: String,
    retention: Retention,
    running: Started<Running>,
}

/// What there is once it was started.
struct Running {
    log: Arc<Log>,
    /// The largest data of an event, in bytes.
    event_data: usize,
    /// The Redis channel of this node alone.
    own: String,
    requests: Requests,
    members: Members,
    _receiver: AbortOnDropHandle<()>,
}

/// The newest position that this node has seen.
#[derive(Debug, Default)]
struct Newest(AtomicU64);

// === impl Redis ===

impl Redis {
    /// A broker over the log of this name at this server. It connects when it is started.
    pub fn new(pool: Arc<RedisPool>, url: RedisUrl, name: String, retention: Retention) -> Self {
        Self {
            pool,
            url: url.for_key(&name),
            name,
            retention,
            running: Started::not_yet(),
        }
    }
}

#[async_trait]
impl Broker for Redis {
    async fn start(&self, sink: Sink) -> Result<(), BrokerError> {
        let client = self.pool.connect(&self.url).await?;
        let runtime = client.runtime().clone();
        let log = Arc::new(Log::new(client, self.name.clone(), self.retention));
        log.attach().await?;
        let event_data = sink.event_data();
        let own = log.own_channel();
        let (receiver, requests) = Receiver::open(log.clone(), own.clone(), sink).await?;
        let _receiver = AbortOnDropHandle::new(runtime.spawn(receiver.run()));
        self.running.set(Running {
            members: Members::new(log.clone()),
            log,
            event_data,
            own,
            requests,
            _receiver,
        });
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError> {
        let running = self.running.get()?;
        let accepted = running.log.publish(channel, event).await;
        accepted.map_err(|error| match error {
            RedisError::Limited(text) => BrokerError::TooLarge(text),
            error => error.into(),
        })
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        let running = self.running.get()?;
        running.requests.subscribe(channel).await?;
        Ok(running.log.newest_position().await?)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        if let Ok(running) = self.running.get() {
            running.requests.unsubscribe(channel);
        }
    }

    async fn sync(&self) -> Result<u64, BrokerError> {
        let running = self.running.get()?;
        Ok(running.log.tell(&running.own).await?)
    }

    async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        let running = self.running.get()?;
        let page = running.log.read(channel, after, limit, running.event_data);
        Ok(page.await?)
    }

    fn presence(&self) -> Option<&dyn Presence> {
        Some(&self.running.peek()?.members)
    }

    async fn place(&self, channel: &ChannelName, id: &str) -> Result<Option<u64>, BrokerError> {
        Ok(self.running.get()?.log.place(channel, id).await?)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.url)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Newest {
    fn saw(&self, position: u64) {
        self.0.fetch_max(position, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<RedisError> for BrokerError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Denied(text) => Self::Denied(text),
            RedisError::Invalid(text)
            | RedisError::Unavailable(text)
            | RedisError::Limited(text)
            | RedisError::Other(text) => Self::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests;
