//! The work of a shard: what it was told and has not done. Its thread does it, or, where it is little and the thread
//! sleeps, whoever told it.

use std::{
    collections::VecDeque,
    process,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use mio::event::Event;
use tracing::error;

use super::{
    LITTLE, Shared, Told,
    command::Command,
    shard::Shard,
    wheel::{TICK, Tick},
};

/// What is done in one turn at most, as the backlog counts it: between turns sockets, timers and overload have theirs,
/// and publishers that wait go on.
const TURN_COST: usize = 64 * 1024;
/// Who tells a shard something does it only where there was nothing to do for so long. What comes in quick succession
/// is put together by the thread: frames for one connection leave in one write.
const QUIET: Duration = Duration::from_micros(100);
/// Commands for which memory is kept.
const KEPT_COMMANDS: usize = 1024;

/// A shard, and what it was told.
#[derive(Debug)]
pub(super) struct Work {
    index: u16,
    shared: Arc<Shared>,
    shard: Shard,
    /// What was told and is not done yet.
    commands: VecDeque<Told>,
    /// What was told last, and then what is done in one turn.
    told: Vec<Told>,
    /// When the last turn began.
    last: Instant,
    /// The node ends.
    is_over: bool,
}

impl Work {
    pub(super) fn new(index: u16, shared: Arc<Shared>, shard: Shard) -> Self {
        Self {
            index,
            shared,
            shard,
            commands: VecDeque::new(),
            told: Vec::new(),
            last: Instant::now(),
            is_over: false,
        }
    }

    /// A socket is ready.
    pub(super) fn ready(&mut self, event: &Event) {
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        self.shard
            .ready(event.token(), readable, event.is_writable());
    }

    /// Does what was told and what is due.
    pub(super) fn turn(&mut self, now: Option<Instant>) {
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
        self.is_over |= commands.any(|told| matches!(told.command, Command::Stop));
        self.last = now.unwrap_or_else(Instant::now);
        let tick = self.shared.tick(self.last);
        self.shard.turn(tick, &mut self.told);
        self.shared.done(self.index, done);
        if self.commands.is_empty() {
            // What a storm took is not kept.
            self.commands.shrink_to(KEPT_COMMANDS);
            self.told.shrink_to(KEPT_COMMANDS);
        }
    }

    /// Does what was told to a shard whose thread sleeps. True if the thread can sleep on, as it did.
    pub(super) fn turn_while_asleep(&mut self) -> bool {
        let now = Instant::now();
        let handle = &self.shared.shards[self.index as usize];
        let due = self.next_tick();
        // Timers are the thread's, and so is what is much.
        if now.duration_since(self.last) < QUIET
            || due.is_some_and(|due| due <= self.shared.tick(now))
            || handle.backlog.load(Ordering::Relaxed) > LITTLE
        {
            return false;
        }
        let _abort = AbortOnPanic;
        self.turn(None);
        let comes_earlier = match (self.next_tick(), due) {
            (Some(next), Some(due)) => next < due,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        let handle = &self.shared.shards[self.index as usize];
        !self.is_over && !self.is_busy() && !comes_earlier && handle.inbox.sleep()
    }

    /// Whether the node ends.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether there is something to do at once.
    pub(super) fn is_busy(&self) -> bool {
        self.shard.is_busy() || !self.commands.is_empty()
    }

    /// How long until something is due; `None` if nothing is.
    pub(super) fn until_next_tick(&self) -> Option<Duration> {
        let next = TICK.checked_mul(self.next_tick()?)?;
        Some(next.saturating_sub(self.shared.began.elapsed()))
    }

    fn next_tick(&self) -> Option<Tick> {
        self.shard.next_tick()
    }

    /// How many outlets and groups there are.
    #[cfg(test)]
    pub(super) fn holds(&self) -> (usize, usize) {
        self.shard.holds()
    }
}

/// A node of which a part delivers nothing is worse than one that is started again.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            error!("a thread that delivers has failed; the node ends");
            process::abort();
        }
    }
}
