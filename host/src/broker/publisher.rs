//! A publisher: what a guest registers connections with and publishes through.

use std::{fmt, sync::Arc};

use thiserror::Error;
use tokio::sync::OnceCell;

use super::{Broker, BrokerError};
use crate::{
    event::Event,
    hub::{
        HubError, Published, Space,
        channel::{ChannelName, NameError},
        connection::Connection,
    },
};

/// The most connections that [`Publisher::presence`] names.
pub const PRESENCE_LIMIT: usize = 10_000;

/// A broker and the channels it delivers to. Handles share them.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    /// What it is, for messages: `in-memory`, `redis localhost:6379 news`, …
    name: String,
    space: Space,
    broker: Box<dyn Broker>,
    /// Set when the broker has started; a failed start may be tried again.
    started: OnceCell<()>,
}

/// Why a publisher did not do what it was asked.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PublisherError {
    /// It was not started.
    #[error("the publisher {0} was not started; call `start` first, best in the app's start hook")]
    NotStarted(String),
    /// The channel's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Publisher {
    /// A publisher through a broker that delivers to the space.
    pub fn new(name: String, space: Space, broker: Box<dyn Broker>) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                space,
                broker,
                started: OnceCell::new(),
            }),
        }
    }

    /// Starts the broker, once.
    pub async fn start(&self) -> Result<(), PublisherError> {
        self.shared
            .started
            .get_or_try_init(|| self.shared.broker.start())
            .await?;
        Ok(())
    }

    /// Lets a connection hear a channel.
    pub fn register(
        &self,
        connection: &Arc<Connection>,
        channel: &str,
    ) -> Result<(), PublisherError> {
        let space = self.started()?;
        Ok(space.register(connection, &ChannelName::new(channel)?)?)
    }

    /// Publishes an event on a channel.
    pub async fn publish(&self, channel: &str, event: Event) -> Result<Published, PublisherError> {
        self.started()?;
        let channel = ChannelName::new(channel)?;
        Ok(self.shared.broker.publish(&channel, event).await?)
    }

    /// A connection no longer hears a channel.
    pub fn remove(&self, connection: &str, channel: &str) -> Result<(), PublisherError> {
        let space = self.started()?;
        Ok(space.remove(connection, &ChannelName::new(channel)?)?)
    }

    /// How many connections of this node hear a channel.
    pub fn subscribers(&self, channel: &str) -> Result<u64, PublisherError> {
        let space = self.started()?;
        Ok(space.subscribers(&ChannelName::new(channel)?))
    }

    /// The ids of the connections of this node that hear a channel, sorted, at most [`PRESENCE_LIMIT`].
    pub async fn presence(&self, channel: &str) -> Result<Vec<String>, PublisherError> {
        let space = self.started()?;
        let channel = ChannelName::new(channel)?;
        Ok(space.presence(&channel, PRESENCE_LIMIT).await)
    }

    /// The newest events of a channel's history, oldest first.
    pub fn history(&self, channel: &str, limit: usize) -> Result<Vec<Event>, PublisherError> {
        let space = self.started()?;
        Ok(space.history(&ChannelName::new(channel)?, limit))
    }

    fn started(&self) -> Result<&Space, PublisherError> {
        match self.shared.started.initialized() {
            true => Ok(&self.shared.space),
            false => Err(PublisherError::NotStarted(self.shared.name.clone())),
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&self.shared.name).finish()
    }
}
