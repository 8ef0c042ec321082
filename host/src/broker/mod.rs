//! Brokers: what carries a publisher's events between nodes.
//!
//! # Layout
//!
//! - [`publisher`]: what a guest holds: a broker, and the part of the hub that it delivers to.
//! - [`memory`]: the broker of one node alone.
//! - [`redis`]: Redis pub/sub.
//!
//! # The way of an event
//!
//! [`Publisher::publish`](publisher::Publisher::publish) hands it to the broker, the broker carries it to every
//! node, and on each, the publishing one included, gives it to the [`Space`](crate::hub::Space) of the
//! publisher in the order in which the broker accepted it. So the order of a channel is the broker's order on
//! every node.

pub mod memory;
pub mod publisher;
pub mod redis;

use async_trait::async_trait;
use thiserror::Error;

use crate::{
    event::Event,
    hub::{Published, channel::ChannelName},
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
}

/// Carries events between nodes.
///
/// What a broker can do beyond this, such as keep a history or count across nodes, belongs in traits of their
/// own beside it.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Connects, and delivers from now on what any node publishes. Returns when both are so. Called again only
    /// after an error.
    async fn start(&self) -> Result<(), BrokerError>;

    /// Takes an event to all nodes. Returns when it is accepted and in the queues of this node's connections; an
    /// error means that it was not accepted. Never waits longer than the broker's timeout.
    async fn publish(&self, channel: &ChannelName, event: Event) -> Result<Published, BrokerError>;
}
