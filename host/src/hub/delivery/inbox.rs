//! The hand-over to a shard: what its hubs tell it, in the order in which they do.
//!
//! Whoever tells something finds out whether the shard sleeps and must be woken. Both sides look under one lock, so a
//! shard never falls asleep on something that was told.

use super::sync::Mutex;

/// Things for one receiver.
#[derive(Debug)]
pub(super) struct Inbox<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    things: Vec<T>,
    /// The receiver waits to be woken. Cleared by the first that is told of it.
    asleep: bool,
}

impl<T> Inbox<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                things: Vec::new(),
                asleep: false,
            }),
        }
    }

    /// Adds one. True if the receiver must be woken, which is told once.
    #[must_use]
    pub(super) fn push(&self, thing: T) -> bool {
        let mut state = self.state.lock();
        state.things.push(thing);
        std::mem::take(&mut state.asleep)
    }

    /// Takes all that there is, into a vector that is empty; its memory is used for what comes next.
    pub(super) fn take(&self, into: &mut Vec<T>) {
        let mut state = self.state.lock();
        std::mem::swap(&mut state.things, into);
    }

    /// Says that the receiver is about to sleep; false if it must not, because there is something.
    #[must_use]
    pub(super) fn sleep(&self) -> bool {
        let mut state = self.state.lock();
        state.asleep = state.things.is_empty();
        state.asleep
    }

    /// Says that the receiver is awake, whoever woke it.
    pub(super) fn awake(&self) {
        self.state.lock().asleep = false;
    }
}
