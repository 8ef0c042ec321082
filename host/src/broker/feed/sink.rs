//! Where a broker tells what it pushes.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{super::Pushed, Core};
use crate::hub::channel::ChannelName;

/// Where a broker tells what it pushes. It does not keep the feed alive.
#[derive(Clone)]
pub struct Sink {
    core: Weak<Core>,
}

impl Sink {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::downgrade(core),
        }
    }

    /// The largest data of an event that is taken, in bytes.
    pub fn event_data(&self) -> usize {
        let core = self.core.upgrade();
        core.map_or(0, |core| core.space.event_data())
    }

    /// An event of a channel was pushed. Those of one channel are to be told in the order of their positions.
    pub fn pushed(&self, channel: &ChannelName, pushed: Pushed) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let mut state = core.state.lock();
        let complete = *core.complete.borrow();
        let Some(entry) = state.channels.get_mut(channel) else {
            return;
        };
        if !entry.take(pushed, complete, &core.listeners(channel)) {
            core.fall_behind(&mut state);
        }
    }

    /// All that was published up to this position, on whatever channel that is subscribed to, was pushed.
    pub fn complete(&self, position: u64) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let state = core.state.lock();
        if !state.broken {
            core.complete.send_if_modified(|complete| {
                let later = position > *complete;
                *complete = position.max(*complete);
                later
            });
        }
    }

    /// Events may be lost from now on, or were just now.
    pub fn broke(&self) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let mut state = core.state.lock();
        let state = &mut *state;
        state.broken = true;
        core.live.send_replace(false);
        state.breaks += 1;
        let complete = *core.complete.borrow();
        for channel in state.channels.values_mut() {
            channel.broke(complete);
        }
    }

    /// From now on everything is pushed again, on all channels that are subscribed to.
    pub fn back(&self) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let mut state = core.state.lock();
        state.broken = false;
        core.fall_behind(&mut state);
    }

    /// What was pushed on a channel at this position is an event that this node cannot read: clients are told of a gap.
    pub fn unreadable(&self, channel: &ChannelName, position: u64) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let mut state = core.state.lock();
        if let Some(entry) = state.channels.get_mut(channel)
            && entry.is_news(position)
        {
            core.space.gap(channel, position);
        }
    }

    /// The broker has lost events up to this position, maybe of any channel: clients are told of a gap.
    pub fn lost(&self, position: u64) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let mut state = core.state.lock();
        for (name, channel) in &mut state.channels {
            // Whoever has read since then was told by that.
            if channel.is_news(position) {
                core.space.gap(name, position);
            }
        }
    }

    /// Waits until what was pushed before is on its way, where a node has more to deliver than it can.
    pub async fn room(&self) {
        if let Some(core) = self.core.upgrade() {
            core.space.room().await;
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}
