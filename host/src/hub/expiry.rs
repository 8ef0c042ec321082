//! Expiry: how the histories of a hub forget what has grown too old, or is too much for all of them together.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use super::{State, history::History, resume::Ids};

/// Histories that are looked at for old events while the lock is held once.
const EXPIRED_AT_A_TIME: usize = 1000;

impl State {
    /// Forgets what is too old in some of the histories that are due. True if there may be more.
    pub(super) fn expire(&mut self, now: Instant, age: Duration) -> bool {
        for _ in 0..EXPIRED_AT_A_TIME {
            match self.expiries.peek() {
                Some(Reverse((due, _))) if *due <= now => {
                    self.visit_oldest(age, |history, space, ids| {
                        history.expire(now, age, space, ids);
                    });
                }
                _ => {
                    // What a million channels took is not kept for ever.
                    if self.expiries.len() < self.expiries.capacity() / 8 {
                        self.expiries.shrink_to(self.expiries.len() * 2);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Forgets the oldest events of the hub until the histories are within their bound together.
    pub(super) fn trim(&mut self, limit: usize, age: Duration) {
        while self.history_cost > limit && !self.expiries.is_empty() {
            self.visit_oldest(age, |history, space, ids| history.evict(space, ids));
        }
    }

    /// Takes something from the history that is due first, and sees when it is due next.
    fn visit_oldest(&mut self, age: Duration, forget: impl FnOnce(&mut History, u32, &mut Ids)) {
        let Some(Reverse((_, number))) = self.expiries.pop() else {
            return;
        };
        let Some(channel) = self.channels.get_mut(number) else {
            return;
        };
        let before = channel.history.cost();
        forget(&mut channel.history, channel.space, &mut self.ids);
        self.history_cost -= before - channel.history.cost();
        match channel.history.due(age) {
            Some(next) => self.expiries.push(Reverse((next, number))),
            None => {
                channel.watched = false;
                self.forget_if_unused(number);
            }
        }
    }
}
