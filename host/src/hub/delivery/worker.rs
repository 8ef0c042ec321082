//! The thread of a shard.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};
use parking_lot::Mutex;
use tracing::error;

use super::{
    Shared,
    shard::Shard,
    wheel::TICK,
    work::{AbortOnPanic, Work},
};

/// The token of the waker; sockets have the numbers of their outlets.
pub(super) const WAKE: Token = Token(usize::MAX);
/// Sockets that are looked at in one turn.
const EVENTS: usize = 1024;

/// A shard and what wakes it.
#[derive(Debug)]
pub(in super::super) struct Worker {
    index: u16,
    shared: Arc<Shared>,
    poll: Poll,
    events: Events,
    work: Arc<Mutex<Work>>,
}

impl Worker {
    pub(super) fn new(index: u16, shared: Arc<Shared>, poll: Poll) -> io::Result<Self> {
        let registry = poll.registry().try_clone()?;
        let shard = Shard::new(index, shared.clone(), registry);
        Ok(Self {
            index,
            work: Arc::new(Mutex::new(Work::new(index, shared.clone(), shard))),
            shared,
            poll,
            events: Events::with_capacity(EVENTS),
        })
    }

    pub(super) fn index(&self) -> u16 {
        self.index
    }

    /// Delivers until the node ends.
    pub(super) fn run(mut self) {
        let _abort = AbortOnPanic;
        // From now on others may do some of it.
        let work = &self.shared.shards[self.index as usize].work;
        let _ = work.set(Arc::downgrade(&self.work));
        while self.turn(None) {}
    }

    /// Waits for something to do, and does it; false once the node ends. With a time of its own it waits for nothing.
    pub(in super::super) fn turn(&mut self, now: Option<Instant>) -> bool {
        self.watch(now.is_some());
        self.work(now)
    }

    /// Looks at the sockets, and waits for one of them or to be told something where there is nothing else to do.
    pub(in super::super) fn watch(&mut self, at_once: bool) {
        let inbox = &self.shared.shards[self.index as usize].inbox;
        let timeout = {
            // While it is looked at, nobody else may change when something is due.
            let work = self.work.lock();
            match at_once || work.is_busy() || !inbox.sleep() {
                true => Some(Duration::ZERO),
                false => work.until_next_tick(),
            }
        };
        let polled = self.poll.poll(&mut self.events, timeout);
        inbox.awake();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                // What can be wrong here is wrong for good; the others go on.
                error!(%error, "cannot wait for sockets");
                thread::sleep(TICK);
            }
            _ => {}
        }
        let mut work = self.work.lock();
        for event in &self.events {
            if event.token() != WAKE {
                work.ready(event);
            }
        }
    }

    /// Does what was told and what is due; false once the node ends.
    pub(in super::super) fn work(&mut self, now: Option<Instant>) -> bool {
        let mut work = self.work.lock();
        work.turn(now);
        !work.is_over()
    }

    /// Whether it was told something that it has not done.
    #[cfg(test)]
    pub(in super::super) fn has_more(&self) -> bool {
        let backlog = &self.shared.shards[self.index as usize].backlog;
        backlog.load(std::sync::atomic::Ordering::Relaxed) > 0
    }

    /// How many outlets and groups its shard has.
    #[cfg(test)]
    pub(in super::super) fn holds(&self) -> (usize, usize) {
        self.work.lock().holds()
    }
}
