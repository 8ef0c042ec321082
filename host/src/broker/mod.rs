//! Brokers: what carries a publisher's events between nodes and keeps them for clients that come back.
//!
//! # Layout
//!
//! - [`publisher`]: what a guest holds: the part of the hub that it delivers to, and a broker, unless it is of one
//!   node in memory.
//! - [`feed`]: what a node does with what a broker pushes: the channels that it listens to, order, and what it missed.
//! - [`payload`]: how an event is kept at a broker; [`ids`]: the ids that brokers give.
//! - [`started`]: what a broker has once it was started.
//! - [`roster`]: who hears channels at which node, for brokers whose nodes share a log: NATS and Kafka.
//! - [`redis`](mod@redis): the broker over Redis.
//! - [`durable`]: the broker over a file, of one node.
//! - [`nats`]: the broker over NATS JetStream.
//! - [`postgres`]: the broker over PostgreSQL.
//! - `kafka`: the broker over Kafka, with the feature `kafka`.
//!
//! # The way of an event
//!
//! [`Publisher::publish`](publisher::Publisher::publish) hands it to the broker. The broker accepts it in one step: it
//! gives it a position, keeps it and pushes it to the nodes that listen to its channel, the publishing one included.
//! There the [`feed`] delivers it to the [`Space`](crate::hub::Space) of the publisher, in the order of positions. So
//! the order of a channel is the broker's order on every node, and so is the place of a client that comes back.
//!
//! # What is lost on the way
//!
//! The push may lose anything at any time: a connection breaks, a server takes over from another. What is kept may not.
//! So a node reads what it missed, after every break and wherever an event says that there was another one before it,
//! and goes on with what is pushed then. What is not kept any more is told to clients as a gap.

pub mod durable;
pub mod feed;
mod ids;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod nats;
mod payload;
pub mod postgres;
pub mod publisher;
pub mod redis;
mod roster;
mod started;

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use self::feed::Sink;
use crate::{
    event::Event,
    hub::{carried::Placed, channel::ChannelName, membership::Change},
};

/// Why a broker did not do what it was asked.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum BrokerError {
    /// It cannot be reached now.
    #[error("{0}")]
    Unavailable(String),
    /// It refused the credentials or the operation.
    #[error("{0}")]
    Denied(String),
    /// The event is larger than it takes, however often it is tried. It says how large, the limit and whose it is.
    #[error("{0}")]
    TooLarge(String),
}

/// What a broker keeps of each channel. It may keep more, but never for longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events of a channel, at least 1.
    pub events: usize,
    /// How long an event is kept.
    pub age: Duration,
}

/// Carries the events of one publisher between nodes, and keeps them.
///
/// Nothing here waits for longer than the timeout of the broker, and then it is [`BrokerError::Unavailable`].
///
/// What a broker can do beyond this is in traits of their own.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Connects. Returns when events can be published and channels subscribed to. Called again only after
    /// an error, or where nobody waited for its end.
    async fn start(&self, sink: Sink) -> Result<(), BrokerError>;

    /// Accepts an event. Where one with the same id was published on the channel before, and is still kept, it is not
    /// published again. An error means that it was not accepted; where nobody can know, the error says so, and the
    /// event can be published again under the same id.
    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError>;

    /// Pushes the events of a channel to the sink from now on, in the order of their positions together with those of
    /// all other channels, until [`Broker::unsubscribe`]. Returns a position: all
    /// later ones of the channel are pushed, or the sink is told that the push broke. A broker whose push is broken
    /// subscribes again by itself to all that it was subscribed to.
    async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError>;

    /// Pushes them no longer. Does not wait; a call of [`Broker::subscribe`] after this comes after this.
    fn unsubscribe(&self, channel: &ChannelName);

    /// Has the push tell how far it is. Returns a position that the newest event had: unless the push breaks,
    /// [`Sink::complete`] is told of it, or of a later one, as soon as all up to there was pushed.
    async fn sync(&self) -> Result<u64, BrokerError>;

    /// Reads the events of a channel after a position, oldest first, at most `limit` of them, which is at least 1.
    async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, BrokerError>;

    /// Who hears channels at other nodes, where the broker can tell.
    fn presence(&self) -> Option<&dyn Presence> {
        None
    }

    /// The position of the event with an id, as far as it can be known: of the channel itself, or of another one of the
    /// publisher if there is just one event with that id.
    async fn place(&self, channel: &ChannelName, id: &str) -> Result<Option<u64>, BrokerError>;
}

/// How long a node that does not say so any more is taken for alive.
pub const LEASE: Duration = Duration::from_secs(10);

/// Tells who hears channels, across nodes. As [`Broker`], nothing here waits for longer than the timeout of the broker.
#[async_trait]
pub trait Presence: Send + Sync {
    /// Says that this node lives, for [`LEASE`]; nodes that have not said so for longer are forgotten.
    async fn renew(&self) -> Result<Told, BrokerError>;

    /// Tells of connections of this node that came to hear channels or no longer do, at most 1000. What was told before
    /// may be told again.
    async fn tell(&self, changes: &[Change]) -> Result<Told, BrokerError>;

    /// How many connections of other nodes hear a channel.
    async fn others(&self, channel: &ChannelName) -> Result<u64, BrokerError>;

    /// The ids of connections of other nodes that hear a channel, at most so many, in no particular order.
    async fn other_members(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<String>, BrokerError>;
}

/// What a broker says when it is told of members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Others have taken this node for dead meanwhile: it is to say again that it lives, and to tell of all its members.
    pub forgotten: bool,
    /// Channels that became occupied by this, or vacated, on all nodes together. No other node is told of it.
    pub occupancy: Vec<(ChannelName, bool)>,
    /// Why not all of it could be told, if so.
    pub failed: Option<BrokerError>,
}

/// An event that a broker accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id: its own, or the one it was given.
    pub id: String,
    /// Its place in the order of the broker, which is never 0.
    pub position: u64,
    /// It was accepted before.
    pub duplicate: bool,
}

/// An event as a broker pushes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its place in the order of the broker.
    pub position: u64,
    /// The position of the event before it on the channel, or a later one before its own. `None` where the broker does
    /// not know it and would have said that the push broke if one was lost.
    pub previous: Option<u64>,
    /// The event; `None` where what was published cannot be read.
    pub placed: Option<Placed>,
}

/// Events that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first, in the order of their positions.
    pub events: Vec<Placed>,
    /// Events after the position that was asked for and up to this one may have been published and are not kept any
    /// more; 0 if there is none.
    pub missing: u64,
    /// All that is kept of the channel up to this position is here, or was before what was asked for.
    pub through: u64,
    /// There is more after that.
    pub more: bool,
}
