//! The hub's lock, and the way from under it to the shards.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use parking_lot::MutexGuard;

use super::{
    Hub, State,
    channel::Left,
    connection::End,
    delivery::{self, Engine, OutletId, Wakes, command::Command},
    frame::Frame,
};

/// Tells shards what to do, and remembers which of them must be woken for it.
pub(super) struct Post {
    pub(super) engine: Engine,
    wakes: Wakes,
    /// Whether what they were told may be done here, instead of waking them.
    at_once: bool,
    /// Ends that somebody may wait for.
    pub(super) ends: Vec<Arc<End>>,
}

/// The lock. When it is let go, those who were told something are woken: not before, so that nobody waits for it who
/// was woken by it.
pub(super) struct Locked<'a> {
    state: Option<MutexGuard<'a, State>>,
    hub: &'a Hub,
}

// === impl Post ===

impl Post {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            wakes: Wakes::default(),
            at_once: false,
            ends: Vec::new(),
        }
    }

    /// Tells a shard something.
    pub(super) fn tell(&mut self, shard: u16, command: Command) {
        self.engine.tell(shard, command, 0, &mut self.wakes);
    }

    /// Tells a shard to deliver so many bytes to so many connections.
    pub(super) fn deliver(&mut self, shard: u16, command: Command, connections: u32, bytes: usize) {
        let cost = delivery::cost(connections, bytes);
        self.engine.tell(shard, command, cost, &mut self.wakes);
    }

    /// What shards are told under this lock is done by this thread where it is little, after the lock.
    pub(super) fn at_once(&mut self) {
        self.at_once = true;
    }

    /// Sends a frame to one connection.
    pub(super) fn send(&mut self, outlet: OutletId, frame: Arc<Frame>) {
        let bytes = frame.len();
        let command = Command::Send {
            outlet: outlet.number,
            frame,
        };
        self.deliver(outlet.shard, command, 1, bytes);
    }

    /// The shard was told that somebody has left.
    pub(super) fn left(&mut self, left: &Left) {
        if left.empty {
            self.engine.give_group(left.shard, left.group);
        }
    }
}

// === impl Locked ===

impl<'a> Locked<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        Self {
            state: Some(hub.shared.state.lock()),
            hub,
        }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state
            .as_ref()
            .expect("the lock is held until the drop")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state
            .as_mut()
            .expect("the lock is held until the drop")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(mut state) = self.state.take() {
            let mut wakes = std::mem::take(&mut state.post.wakes);
            let ends = std::mem::take(&mut state.post.ends);
            let at_once = std::mem::take(&mut state.post.at_once);
            drop(state);
            let engine = &self.hub.shared.engine;
            match at_once {
                true => engine.work_or_wake(&mut wakes),
                false => engine.wake(&mut wakes),
            }
            for end in ends {
                end.tell();
            }
        }
    }
}
