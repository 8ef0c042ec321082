//! A shard: the connections that one thread delivers to.
//!
//! It owns them and its part of every channel, so nothing is locked between an event and the sockets. Its hubs tell it
//! what to do through its inbox, in the order of their locks: what was published before a registration, a removal or
//! an end comes before it here too. That is what makes the order of a channel the same everywhere.

mod overload;

use std::{mem, net, sync::Arc};

use mio::{Interest, Registry, Token, net::TcpStream};
use tracing::warn;

use super::{
    super::{connection::CloseReason, frame::Frame, slab::Pages},
    OutletId, Shared, Told,
    command::Command,
    group::Group,
    outlet::{Flushed, Framing, Outlet, Pushed, Seat, Sink},
    tally::Tally,
    wheel::{NEVER, Tick, Wheel},
};

/// Deliveries that are put together before any of them is written: frames for one connection leave together, and none
/// waits for long.
const TOGETHER: usize = 64 * 1024;
/// What is read at a time of what clients say unasked.
const SCRATCH_BYTES: usize = 16 * 1024;
/// What one thread owns.
#[derive(Debug)]
pub(super) struct Shard {
    index: u16,
    shared: Arc<Shared>,
    /// Where sockets are watched.
    registry: Registry,
    now: Tick,
    outlets: Pages<Outlet>,
    groups: Pages<Group>,
    wheel: Wheel,
    /// Outlets that have something to write.
    dirty: Vec<u32>,
    /// Connections that end because of what happened here; their hubs are told at the end of a turn.
    endings: Vec<(u32, CloseReason)>,
    /// Deliveries that were queued and not flushed.
    queued: usize,
    tally: Tally,
    ping: Arc<Frame>,
    last_chunk: Arc<Frame>,
    scratch: Vec<u8>,
}

impl Shard {
    pub(super) fn new(index: u16, shared: Arc<Shared>, registry: Registry) -> Self {
        Self {
            index,
            shared,
            registry,
            now: 0,
            outlets: Pages::new(),
            groups: Pages::new(),
            wheel: Wheel::new(),
            dirty: Vec::new(),
            endings: Vec::new(),
            queued: 0,
            tally: Tally::default(),
            ping: Frame::ping(),
            last_chunk: Frame::last_chunk(),
            scratch: vec![0; SCRATCH_BYTES],
        }
    }

    /// The next tick at which something is due.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.wheel.next()
    }

    /// Whether there is something to do at once.
    pub(super) fn is_busy(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How many outlets and groups there are.
    #[cfg(test)]
    pub(super) fn holds(&self) -> (usize, usize) {
        (self.outlets.len(), self.groups.len())
    }

    /// A socket is ready.
    pub(super) fn ready(&mut self, token: Token, readable: bool, writable: bool) {
        let number = token.0 as u32;
        // The socket of one that is gone, or of its successor: then this was for nothing and does no harm.
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        if readable && !outlet.hear(&mut self.scratch) {
            return self.gone(number, CloseReason::ClientGone);
        }
        if writable && mem::take(&mut outlet.blocked) {
            self.mark(number);
        }
    }

    /// Does what was told, writes, and sees what is due.
    pub(super) fn turn(&mut self, now: Tick, commands: &mut Vec<Told>) {
        self.now = now;
        for told in commands.drain(..) {
            self.obey(told.command);
            if self.queued >= TOGETHER {
                self.flush();
            }
        }
        let mut due = Vec::new();
        self.wheel
            .advance(now, |number, tick| due.push((number, tick)));
        for (number, tick) in due {
            self.look_at(number, tick);
        }
        self.flush();
        self.shed();
        self.tally.count();
        for (number, reason) in mem::take(&mut self.endings) {
            if let Some(outlet) = self.outlets.get(number) {
                let shard = self.index;
                let id = OutletId { shard, number };
                outlet.hub.end_of(outlet.member, id, reason);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open {
                outlet,
                hub,
                member,
                place,
                held,
                timing,
            } => {
                let opened = Outlet::new(hub, member, place, held, timing.ticks(), self.now);
                self.outlets.insert(outlet, opened);
                self.arm(outlet);
            }
            Command::TakeOver {
                outlet,
                stream,
                framing,
                seat,
            } => self.take_over(outlet, stream, framing, seat),
            Command::Feed { outlet, feed } => {
                let Some(known) = self.outlets.get_mut(outlet) else {
                    return;
                };
                feed.begin(known.take_queue());
                known.report();
                if let Some(reason) = known.ended {
                    feed.end(reason);
                }
                known.sink = Sink::Body(feed);
                self.arm(outlet);
            }
            Command::Gone { outlet } => self.gone(outlet, CloseReason::ClientGone),
            Command::Join { outlet, group } => match self.groups.get_mut(group) {
                Some(known) => known.insert(outlet),
                None => {
                    self.groups.insert(group, Group::new(outlet));
                }
            },
            Command::Leave { outlet, group } => self.leave(outlet, group),
            Command::Deliver { group, frame } => self.deliver(group, &frame),
            Command::Send { outlet, frame } => {
                self.push(outlet, |known, now| known.push(&frame, now));
            }
            Command::Replay { outlet, mut frames } => {
                self.push(outlet, |known, now| {
                    known.push_unlimited(frames.drain(..), now)
                });
            }
            Command::Release { outlet } => self.push(outlet, |known, _| known.release()),
            Command::End {
                outlet,
                reason,
                groups,
            } => {
                for group in groups {
                    self.leave(outlet, group);
                }
                self.end(outlet, reason);
            }
            Command::Who { group, reply } => {
                let mut members = Vec::new();
                if let Some(known) = self.groups.get(group) {
                    known.for_each(|number| {
                        members.extend(self.outlets.get(number).map(|outlet| outlet.member));
                    });
                }
                // Whoever asked may have given up.
                let _ = reply.send(members);
            }
            // The worker's.
            Command::Stop => {}
        }
    }

    fn take_over(&mut self, number: u32, stream: net::TcpStream, framing: Framing, seat: Seat) {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self
            .registry
            .register(&mut stream, Token(number as usize), interest)
        {
            warn!(%error, "cannot watch a socket; its stream is closed");
            return self.gone(number, CloseReason::ClientGone);
        }
        outlet.sink = Sink::Socket {
            stream,
            framing,
            _seat: seat,
        };
        match outlet.ended {
            Some(reason) => self.end(number, reason),
            None => {
                self.mark(number);
                self.arm(number);
            }
        }
    }

    fn leave(&mut self, outlet: u32, group: u32) {
        if let Some(known) = self.groups.get_mut(group) {
            known.remove(outlet);
            if known.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// Queues an event for everybody in a group.
    fn deliver(&mut self, group: u32, frame: &Arc<Frame>) {
        let Some(group) = self.groups.get(group) else {
            return;
        };
        let mut over = Vec::new();
        group.for_each(|number| {
            let Some(outlet) = self.outlets.get_mut(number) else {
                return;
            };
            self.queued += 1;
            match outlet.push(frame, self.now) {
                Pushed::Waits => outlet.report(),
                Pushed::Over => over.push(number),
                Pushed::Ready if outlet.dirty => {}
                Pushed::Ready => {
                    outlet.dirty = true;
                    self.dirty.push(number);
                }
            }
        });
        for number in over {
            self.push(number, |outlet, now| outlet.push(frame, now));
        }
    }

    /// Queues something for one connection. Too much waits only where it still does after the socket was asked.
    fn push(&mut self, number: u32, mut push: impl FnMut(&mut Outlet, Tick) -> Pushed) {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        self.queued += 1;
        let mut pushed = push(outlet, self.now);
        if pushed == Pushed::Over && matches!(outlet.sink, Sink::Socket { .. }) {
            // That it takes more again may not have been heard of yet.
            outlet.blocked = false;
            while self.write(number) == Flushed::Some {}
            let Some(outlet) = self.outlets.get_mut(number) else {
                return;
            };
            pushed = push(outlet, self.now);
        }
        match pushed {
            Pushed::Waits => self.report(number),
            Pushed::Over => self.slow(number),
            Pushed::Ready => self.mark(number),
        }
    }

    fn report(&mut self, number: u32) {
        if let Some(outlet) = self.outlets.get_mut(number) {
            outlet.report();
        }
    }

    /// An outlet has something to write.
    fn mark(&mut self, number: u32) {
        if let Some(outlet) = self.outlets.get_mut(number)
            && !mem::replace(&mut outlet.dirty, true)
        {
            self.dirty.push(number);
        }
    }

    fn flush(&mut self) {
        self.queued = 0;
        for number in mem::take(&mut self.dirty) {
            let Some(outlet) = self.outlets.get_mut(number) else {
                continue;
            };
            outlet.dirty = false;
            // What was noted may have been about its predecessor, and it may have no socket itself.
            if outlet.takes_more() {
                self.write(number);
            }
        }
    }

    /// Writes what waits for a connection to its socket.
    fn write(&mut self, number: u32) -> Flushed {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return Flushed::Broken;
        };
        let mut delivered = 0;
        let flushed = outlet.flush(self.now, &mut delivered);
        self.tally.add(&outlet.hub, delivered);
        outlet.report();
        match flushed {
            Flushed::All if outlet.ended.is_some() => {
                outlet.hang_up(&mut self.scratch);
                self.finish(number);
            }
            Flushed::All => {}
            Flushed::Blocked => self.arm(number),
            Flushed::Some => self.mark(number),
            Flushed::Broken => self.gone(number, CloseReason::ClientGone),
        }
        flushed
    }

    /// Whether a socket that took nothing takes something now: that it does may not have been heard of yet.
    fn moves(&mut self, number: u32) -> bool {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return true;
        };
        let before = outlet.left();
        outlet.blocked = false;
        self.write(number);
        let after = self.outlets.get(number).map(Outlet::left);
        after != Some(before)
    }

    // === ends ===

    /// A connection for which more waits than may.
    fn slow(&mut self, number: u32) {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        // What comes before the hub has heard of it would follow what is lost.
        outlet.lost = true;
        match &outlet.sink {
            // The library has the socket, and lets go of it when it is told.
            Sink::Body(feed) => feed.end(CloseReason::Slow),
            Sink::Pending => outlet.clear(),
            Sink::Socket { .. } => return self.gone(number, CloseReason::Slow),
            Sink::Gone => return,
        }
        outlet.report();
        self.endings.push((number, CloseReason::Slow));
    }

    /// There is nothing any more that a connection's frames could go to.
    fn gone(&mut self, number: u32, reason: CloseReason) {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        if matches!(outlet.sink, Sink::Gone) {
            return;
        }
        outlet.sink = Sink::Gone;
        outlet.clear();
        outlet.report();
        match outlet.ended {
            Some(_) => self.finish(number),
            None => self.endings.push((number, reason)),
        }
    }

    /// The hub has ended a connection: what waits still leaves, unless nobody takes it.
    fn end(&mut self, number: u32, reason: CloseReason) {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        outlet.ended = Some(reason);
        match &outlet.sink {
            Sink::Gone => return self.finish(number),
            Sink::Body(feed) => return feed.end(reason),
            Sink::Socket { .. } | Sink::Pending if reason.is_abrupt() => {
                outlet.clear();
                outlet.report();
                if matches!(outlet.sink, Sink::Pending) {
                    return;
                }
                outlet.sink = Sink::Gone;
                return self.finish(number);
            }
            // Once the socket is there, this is done again.
            Sink::Pending => {
                outlet.release();
                return;
            }
            Sink::Socket { framing, .. } => {
                let chunked = *framing == Framing::Chunked;
                outlet.release();
                if chunked {
                    outlet.push_unlimited([self.last_chunk.clone()], self.now);
                }
            }
        }
        self.mark(number);
        self.arm(number);
    }

    /// A connection has ended and its socket is gone: so is everything of it.
    fn finish(&mut self, number: u32) {
        if let Some(outlet) = self.outlets.remove(number) {
            self.shared.closed(self.index, number, outlet.place);
            outlet.hub.delivery_closed();
        }
    }

    // === timers ===

    /// Enters an outlet in the wheel, where it is not for a time as early.
    fn arm(&mut self, number: u32) {
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        let due = outlet.due(self.shared.write_timeout);
        if due < outlet.armed {
            outlet.armed = self.wheel.enter(number, due);
        }
    }

    /// The wheel has come to an outlet that was entered for this tick.
    fn look_at(&mut self, number: u32, tick: Tick) {
        let now = self.now;
        let write_timeout = self.shared.write_timeout;
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        if outlet.armed != tick {
            // It was entered for an earlier tick since, or this was another's.
            return;
        }
        outlet.armed = NEVER;
        if outlet.stuck_due(write_timeout) <= now && !self.moves(number) {
            return self.gone(number, CloseReason::ClientGone);
        }
        let Some(outlet) = self.outlets.get_mut(number) else {
            return;
        };
        if outlet.inactivity_due() <= now {
            self.endings.push((number, CloseReason::Inactive));
        } else if outlet.lifetime_due() <= now {
            self.endings.push((number, CloseReason::Expired));
        } else if outlet.ping_due() <= now {
            outlet.put_off_ping(now);
            // Behind something that waits, a ping says nothing.
            if !outlet.has_waiting() {
                let ping = self.ping.clone();
                self.push(number, |outlet, now| outlet.push(&ping, now));
            }
        }
        self.arm(number);
    }
}
