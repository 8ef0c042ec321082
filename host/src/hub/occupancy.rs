//! Occupancy: which channels somebody began to hear, and which nobody hears any more.

use std::collections::{HashMap, hash_map::Entry};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::channel::ChannelName;

/// What changed since somebody last asked. What was undone meanwhile is not there, so that it is never more than there are
/// channels, however slow whoever asks is.
#[derive(Debug, Default)]
pub struct Occupancies {
    pending: Mutex<HashMap<ChannelName, bool>>,
    told: Notify,
}

impl Occupancies {
    /// The channel became occupied, or vacated.
    pub fn note(&self, channel: ChannelName, occupied: bool) {
        match self.pending.lock().entry(channel) {
            Entry::Occupied(entry) if *entry.get() != occupied => {
                entry.remove();
                return;
            }
            // It is told again.
            Entry::Occupied(_) => return,
            Entry::Vacant(entry) => entry.insert(occupied),
        };
        self.told.notify_one();
    }

    /// Waits for changes and takes them: each channel once, and whether it is occupied.
    pub async fn changes(&self) -> Vec<(ChannelName, bool)> {
        loop {
            let pending = std::mem::take(&mut *self.pending.lock());
            if !pending.is_empty() {
                return pending.into_iter().collect();
            }
            self.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_undone_is_not_told() {
        let occupancies = Occupancies::default();
        let name = |name| ChannelName::new(name).unwrap();
        occupancies.note(name("a"), true);
        occupancies.note(name("b"), true);
        occupancies.note(name("a"), false);
        occupancies.note(name("b"), true);
        assert_eq!(occupancies.changes().await, [(name("b"), true)]);
        occupancies.note(name("b"), false);
        assert_eq!(occupancies.changes().await, [(name("b"), false)]);
    }
}
