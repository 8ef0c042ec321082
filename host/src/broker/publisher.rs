//! A publisher: what a guest registers connections with and publishes through.

use std::{fmt, sync::Arc};

use thiserror::Error;
use tokio::sync::OnceCell;

use super::{BrokerError, feed::Feed};
use crate::{
    event::Event,
    hub::{
        HubError, Published, Space,
        channel::{ChannelName, NameError},
        connection::Connection,
        occupancy::Occupancies,
    },
};

/// The most connections that [`Publisher::presence`] names.
pub const PRESENCE_LIMIT: usize = 10_000;

/// Channels, and what carries events to those of other nodes. Handles share them.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    /// What it is, for messages: `in-memory`, `redis localhost:6379 news`, …
    name: String,
    space: Space,
    /// `None` where it is of this node alone, in memory.
    feed: Option<Feed>,
    occupancies: Arc<Occupancies>,
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
    /// A publisher of the channels of this space: of this node alone, or of all nodes that have the broker of the feed.
    pub fn new(name: String, space: Space, feed: Option<Feed>) -> Self {
        let occupancies = match &feed {
            Some(feed) => feed.occupancies().clone(),
            None => {
                let occupancies = Arc::<Occupancies>::default();
                space.tell_occupancy(occupancies.clone());
                occupancies
            }
        };
        Self {
            shared: Arc::new(Shared {
                name,
                space,
                feed,
                occupancies,
                started: OnceCell::new(),
            }),
        }
    }

    /// Starts the broker, once.
    pub async fn start(&self) -> Result<(), PublisherError> {
        let start = async || match &self.shared.feed {
            Some(feed) => feed.start().await,
            None => Ok(()),
        };
        self.shared.started.get_or_try_init(start).await?;
        Ok(())
    }

    /// Lets a connection hear a channel.
    pub async fn register(
        &self,
        connection: &Arc<Connection>,
        channel: &str,
    ) -> Result<(), PublisherError> {
        let space = self.started()?;
        let channel = ChannelName::new(channel)?;
        match &self.shared.feed {
            Some(feed) => feed.register(connection, &channel).await??,
            None => space.register(connection, &channel)?,
        }
        Ok(())
    }

    /// Channels that become occupied or vacated: on all nodes together where the broker can tell, else on this one.
    pub fn occupancies(&self) -> &Arc<Occupancies> {
        &self.shared.occupancies
    }

    /// Whether registering may wait.
    pub fn has_broker(&self) -> bool {
        self.shared.feed.is_some()
    }

    /// Publishes an event on a channel.
    pub async fn publish(&self, channel: &str, event: Event) -> Result<Published, PublisherError> {
        let space = self.started()?;
        let channel = ChannelName::new(channel)?;
        match &self.shared.feed {
            Some(feed) => Ok(feed.publish(&channel, &event).await?),
            None => {
                let published = space.publish(&channel, &event);
                space.room().await;
                Ok(published)
            }
        }
    }

    /// A connection no longer hears a channel.
    pub fn remove(&self, connection: &str, channel: &str) -> Result<(), PublisherError> {
        let space = self.started()?;
        Ok(space.remove(connection, &ChannelName::new(channel)?)?)
    }

    /// How many connections hear a channel: of all nodes, where the broker can tell.
    pub async fn subscribers(&self, channel: &str) -> Result<u64, PublisherError> {
        let space = self.started()?;
        let channel = ChannelName::new(channel)?;
        match &self.shared.feed {
            Some(feed) => Ok(feed.subscribers(&channel).await?),
            None => Ok(space.subscribers(&channel)),
        }
    }

    /// The ids of the connections that hear a channel, sorted, at most [`PRESENCE_LIMIT`]: of all nodes, where the broker
    /// can tell.
    pub async fn presence(&self, channel: &str) -> Result<Vec<String>, PublisherError> {
        let space = self.started()?;
        let channel = ChannelName::new(channel)?;
        match &self.shared.feed {
            Some(feed) => Ok(feed.presence(&channel, PRESENCE_LIMIT).await?),
            None => Ok(space.presence(&channel, PRESENCE_LIMIT).await),
        }
    }

    /// The newest events of a channel's history, oldest first.
    pub async fn history(&self, channel: &str, limit: usize) -> Result<Vec<Event>, PublisherError> {
        let space = self.started()?;
        let channel = ChannelName::new(channel)?;
        match &self.shared.feed {
            Some(feed) => Ok(feed.history(&channel, limit).await?),
            None => Ok(space.history(&channel, limit)),
        }
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
