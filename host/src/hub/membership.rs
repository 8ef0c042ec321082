//! Membership: who came to hear a channel of a space, and who no longer does, for a broker that tells other nodes.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{channel::ChannelName, connection::ConnectionId};

/// What changed since somebody last asked. Of what changed more than once, the last word is there.
#[derive(Debug, Default)]
pub struct Membership {
    pending: Mutex<HashMap<(ChannelName, ConnectionId), bool>>,
    told: Notify,
}

/// A connection that came to hear a channel, or that no longer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The channel.
    pub channel: ChannelName,
    /// The connection.
    pub connection: ConnectionId,
    /// Whether it hears the channel now.
    pub joined: bool,
}

impl Membership {
    /// A connection came to hear a channel.
    pub(super) fn joined(&self, channel: &ChannelName, connection: ConnectionId) {
        self.note(channel, connection, true);
    }

    pub(super) fn left(&self, channel: &ChannelName, connection: ConnectionId) {
        self.note(channel, connection, false);
    }

    fn note(&self, channel: &ChannelName, connection: ConnectionId, joined: bool) {
        let of = (channel.clone(), connection);
        self.pending.lock().insert(of, joined);
        self.told.notify_one();
    }

    /// Adds changes.
    pub fn extend(&self, changes: impl IntoIterator<Item = Change>) {
        let mut pending = self.pending.lock();
        for change in changes {
            pending.insert((change.channel, change.connection), change.joined);
        }
        drop(pending);
        self.told.notify_one();
    }

    /// Gives back changes that were taken: what was told of since is the last word.
    pub fn give_back(&self, changes: Vec<Change>) {
        let mut pending = self.pending.lock();
        for change in changes {
            let of = (change.channel, change.connection);
            pending.entry(of).or_insert(change.joined);
        }
        drop(pending);
        self.told.notify_one();
    }

    /// Waits for changes and takes them, in no particular order.
    pub async fn changes(&self) -> Vec<Change> {
        loop {
            let pending = std::mem::take(&mut *self.pending.lock());
            if !pending.is_empty() {
                let changes = pending.into_iter();
                let change = |((channel, connection), joined)| Change {
                    channel,
                    connection,
                    joined,
                };
                return changes.map(change).collect();
            }
            self.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_word_is_told() {
        let membership = Membership::default();
        let news = ChannelName::new("news").unwrap();
        let [a, b] = [ConnectionId::random(), ConnectionId::random()];
        membership.joined(&news, a);
        membership.joined(&news, b);
        membership.left(&news, a);
        let mut changes = membership.changes().await;
        changes.sort_by_key(|change| change.joined);
        let change = |connection, joined| Change {
            channel: news.clone(),
            connection,
            joined,
        };
        assert_eq!(changes, [change(a, false), change(b, true)]);
        membership.left(&news, b);
        assert_eq!(membership.changes().await, [change(b, false)]);
    }
}
