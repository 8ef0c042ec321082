//! Who hears channels at which node, where all that the nodes share is a log.
//!
//! # Layout
//!
//! - [`message`]: what a node writes.
//! - [`state`]: what follows from it: a state machine, the same on all nodes.
//! - [`replica`]: the state as this node has read it, and how far that can be trusted.
//! - [`members`]: what this node says of itself: [`Members`], the presence of a broker.
//!
//! # One order
//!
//! Nodes write what changes into a *presence log*, in which all messages have one order. Each node reads all of it, its
//! own messages included, and does the same with each message. So all nodes have the same roster, and agree which
//! message it was that occupied or vacated a channel. The node that wrote that message tells its hook: it is told once,
//! without locks.
//!
//! A node writes one message after another, each with a number that is greater by one. It goes on when it has read the
//! last one back, and until then writes the same one again: whoever has read a number passes by what has it, or a
//! smaller one.
//!
//! # What is kept
//!
//! The log is kept for a few minutes only ([`KEPT`]): every minute each node tells all its members anew, in a *round*. A
//! node that starts reads what is kept, and knows the others when it has read a round of each. Members that are not told
//! of in a round are dropped at its end, so that whatever went wrong before is right then. Who finds that numbers are
//! missing waits for the next round. A log that was deleted is no more than that: each node that finds nothing of its own
//! in it begins a round at once.
//!
//! # Nodes that die
//!
//! A node says every now and then that it lives. One that does not, for [`LEASE`](super::LEASE), is written off: the
//! first message that does so counts. It is written only by a node that has just read back something of its own, and
//! did so all the time before: then whatever the other one wrote would have been read too. A node that was written off
//! and lives takes a new name and tells all anew.

mod members;
mod message;
mod replica;
mod state;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub(super) use self::{members::Members, replica::Replica};
use super::BrokerError;

/// How long the log is to be kept: a few rounds.
pub(super) const KEPT: Duration = Duration::from_secs(240);

/// Where nodes write. What is read of it is told to the [`Replica`].
#[async_trait]
pub(super) trait PresenceLog: Send + Sync + 'static {
    /// Writes a message after all others. Where there is an error nobody may know whether it was written; it may come
    /// again then.
    async fn append(&self, message: Bytes) -> Result<(), BrokerError>;

    /// The largest message that it takes, in bytes.
    fn largest(&self) -> usize;

    /// The longest that anything may take.
    fn timeout(&self) -> Duration;
}

#[cfg(test)]
mod tests;
