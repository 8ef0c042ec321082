//! The thread of a shard.

use std::{
    collections::VecDeque,
    io, process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};
use tracing::error;

use super::{Shared, Told, command::Command, shard::Shard, wheel::TICK};

/// The token of the waker; sockets have the numbers of their outlets.
pub(super) const WAKE: Token = Token(usize::MAX);
/// Sockets that are looked at in one turn.
const EVENTS: usize = 1024;

/// What is done in one turn at most, as the backlog counts it: between turns sockets, timers and overload have theirs,
/// and publishers that wait go on.
const TURN_COST: usize = 64 * 1024;
/// Commands for which memory is kept.
const KEPT_COMMANDS: usize = 1024;

/// A shard and what wakes it.
#[derive(Debug)]
pub(in super::super) struct Worker {
    index: u16,
    shared: Arc<Shared>,
    poll: Poll,
    events: Events,
    shard: Shard,
    /// What was told and is not done yet.
    commands: VecDeque<Told>,
    /// What was told last, and then what is done in one turn.
    told: Vec<Told>,
}

impl Worker {
    pub(super) fn new(index: u16, shared: Arc<Shared>, poll: Poll) -> io::Result<Self> {
        let registry = poll.registry().try_clone()?;
        Ok(Self {
            index,
            shard: Shard::new(index, shared.clone(), registry),
            shared,
            poll,
            events: Events::with_capacity(EVENTS),
            commands: VecDeque::new(),
            told: Vec::new(),
        })
    }

    pub(super) fn index(&self) -> u16 {
        self.index
    }

    /// Delivers until the node ends.
    pub(super) fn run(mut self) {
        let _abort = AbortOnPanic;
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
        let timeout = match at_once || self.is_busy() || !inbox.sleep() {
            true => Some(Duration::ZERO),
            false => self.until_next_tick(),
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
        for event in &self.events {
            if event.token() != WAKE {
                let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                self.shard
                    .ready(event.token(), readable, event.is_writable());
            }
        }
    }

    /// Does what was told and what is due; false once the node ends.
    pub(in super::super) fn work(&mut self, now: Option<Instant>) -> bool {
        let inbox = &self.shared.shards[self.index as usize].inbox;
        if self.commands.is_empty() {
            inbox.take(&mut self.told);
            self.commands.extend(self.told.drain(..));
        }
        let mut done = 0;
        while done < TURN_COST
            && let Some(told) = self.commands.pop_front()
        {
            done += told.cost;
            self.told.push(told);
        }
        let mut commands = self.told.iter();
        let stop = commands.any(|told| matches!(told.command, Command::Stop));
        let tick = self.shared.tick(now.unwrap_or_else(Instant::now));
        self.shard.turn(tick, &mut self.told);
        self.shared.done(self.index, done);
        if self.commands.is_empty() {
            // What a storm took is not kept.
            self.commands.shrink_to(KEPT_COMMANDS);
            self.told.shrink_to(KEPT_COMMANDS);
        }
        !stop
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
        self.shard.holds()
    }

    fn is_busy(&self) -> bool {
        self.shard.is_busy() || !self.commands.is_empty()
    }

    fn until_next_tick(&self) -> Option<Duration> {
        let next = TICK.checked_mul(self.shard.next_tick()?)?;
        Some(next.saturating_sub(self.shared.began.elapsed()))
    }
}

/// A node of which a part delivers nothing is worse than one that is started again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            error!("a thread that delivers has failed; the node ends");
            process::abort();
        }
    }
}
