//! An outlet: one connection, as its shard has it. It is all that an idle stream costs there.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    sync::Arc,
};

use mio::net::TcpStream;
use smallvec::SmallVec;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    super::{Hub, connection::CloseReason, frame::Frame},
    body::Feed,
    queue::{Queue, cost},
    wheel::{NEVER, Tick},
};

/// Frames that leave in one write.
const JOINED_FRAMES: usize = 128;
/// Writes to one socket before the others have their turn.
const ROUNDS: usize = 16;
/// What a client may say at a time after its request. It has nothing to say.
const UNASKED_BYTES: usize = 64 * 1024;

/// How the body of a response is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// In chunks (RFC 9112, section 7.1).
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A place among the listener's sockets. Dropping it gives it back.
pub type Seat = OwnedSemaphorePermit;

/// One connection.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) hub: Hub,
    /// The connection's number in its hub.
    pub(super) member: u32,
    /// The client's place among those admitted.
    pub(super) place: u32,
    pub(super) sink: Sink,
    /// What is to leave next, where nothing else waits: most events leave at once, and need no queue.
    next: Option<Arc<Frame>>,
    /// What waits, where `next` is not enough.
    waiting: Option<Box<Queue>>,
    /// Ticks without a byte before a ping; [`NEVER`] for none.
    ping: Tick,
    /// Ticks without an event before the connection is closed.
    inactivity: Tick,
    /// The tick at which it has lasted for long enough.
    expires: Tick,
    /// When something was handed over, or when the client began to take nothing.
    last_write: Tick,
    /// When an event was queued.
    last_event: Tick,
    /// The earliest tick for which it is in the wheel.
    pub(super) armed: Tick,
    /// Why the connection ended, if it has. What waits still leaves.
    pub(super) ended: Option<CloseReason>,
    /// Something that was to leave never will, and so nothing does that comes after it.
    pub(super) lost: bool,
    /// It is among those to be flushed.
    pub(super) dirty: bool,
    /// The socket takes nothing for now.
    pub(super) blocked: bool,
    /// Bytes that were reported as waiting.
    reported: u32,
}

/// Where frames go.
#[derive(Debug)]
pub(super) enum Sink {
    /// The response head is still on its way.
    Pending,
    /// To a socket, without the HTTP library.
    Socket {
        stream: TcpStream,
        framing: Framing,
        _seat: Seat,
    },
    /// Through the HTTP library.
    Body(Arc<Feed>),
    /// Nowhere any more.
    Gone,
}

/// When a connection is pinged and closed, in ticks; [`NEVER`] for what does not happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    pub(super) ping: Tick,
    pub(super) inactivity: Tick,
    pub(super) lifetime: Tick,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits for something that comes by itself.
    Waits,
    /// It can be written: the outlet has to be flushed.
    Ready,
    /// More would wait than may.
    Over,
}

/// What became of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing waits.
    All,
    /// The client takes no more for now.
    Blocked,
    /// It takes more, but others have their turn first.
    Some,
    /// The socket is broken.
    Broken,
}

// === impl Outlet ===

impl Outlet {
    pub(super) fn new(
        hub: Hub,
        member: u32,
        place: u32,
        held: bool,
        ticks: Ticks,
        now: Tick,
    ) -> Self {
        Self {
            hub,
            member,
            place,
            sink: Sink::Pending,
            next: None,
            waiting: held.then(|| Box::new(Queue::held())),
            ping: ticks.ping,
            inactivity: ticks.inactivity,
            expires: now.saturating_add(ticks.lifetime),
            last_write: now,
            last_event: now,
            armed: NEVER,
            ended: None,
            lost: false,
            dirty: false,
            blocked: false,
            reported: 0,
        }
    }

    /// Queues a frame.
    pub(super) fn push(&mut self, frame: &Arc<Frame>, now: Tick) -> Pushed {
        if !frame.is_ping() {
            self.last_event = now;
        }
        match &self.sink {
            _ if self.lost => return Pushed::Waits,
            Sink::Gone => return Pushed::Waits,
            Sink::Body(feed) => {
                self.last_write = now;
                return match feed.push(frame.clone()) {
                    true => Pushed::Waits,
                    false => Pushed::Over,
                };
            }
            Sink::Pending | Sink::Socket { .. } => {}
        }
        if self.waiting.is_none() && self.next.is_none() {
            self.next = Some(frame.clone());
        } else {
            let limit = self.hub.settings().queue_bytes;
            if !self.queue().push(frame.clone(), limit) {
                return Pushed::Over;
            }
        }
        self.state()
    }

    /// Queues what a client missed, or what ends its stream, without a limit: the history it comes from has one.
    pub(super) fn push_unlimited(
        &mut self,
        frames: impl IntoIterator<Item = Arc<Frame>>,
        now: Tick,
    ) -> Pushed {
        self.last_event = now;
        match &self.sink {
            _ if self.lost => Pushed::Waits,
            Sink::Gone => Pushed::Waits,
            Sink::Body(feed) => {
                feed.push_unlimited(frames);
                Pushed::Waits
            }
            Sink::Pending | Sink::Socket { .. } => {
                let queue = self.queue();
                for frame in frames {
                    queue.push_unlimited(frame);
                }
                self.state()
            }
        }
    }

    /// Lets what was held for a client that came back leave.
    pub(super) fn release(&mut self) -> Pushed {
        if let Sink::Body(feed) = &self.sink {
            feed.release();
        }
        if let Some(queue) = &mut self.waiting {
            queue.release();
        }
        self.state()
    }

    fn state(&self) -> Pushed {
        let held = self.waiting.as_ref().is_some_and(|queue| queue.is_held());
        match self.sink {
            Sink::Socket { .. } if !self.blocked && !held => Pushed::Ready,
            _ => Pushed::Waits,
        }
    }

    /// Whether it has a socket that may take something.
    pub(super) fn takes_more(&self) -> bool {
        matches!(self.sink, Sink::Socket { .. }) && !self.blocked
    }

    /// The queue, with what is next in it.
    fn queue(&mut self) -> &mut Queue {
        let next = self.next.take();
        let queue = self.waiting.get_or_insert_default();
        if let Some(next) = next {
            // One frame is always taken.
            queue.push(next, usize::MAX);
        }
        queue
    }

    /// What waits so far, for the feed that takes the place of it.
    pub(super) fn take_queue(&mut self) -> Queue {
        self.queue();
        self.waiting
            .take()
            .map_or_else(Queue::default, |queue| *queue)
    }

    /// Nothing of what waits is delivered.
    pub(super) fn clear(&mut self) {
        self.next = None;
        self.waiting = None;
    }

    /// Writes what waits to the socket, and adds the events that have left to `delivered`.
    pub(super) fn flush(&mut self, now: Tick, delivered: &mut u64) -> Flushed {
        let Sink::Socket {
            stream, framing, ..
        } = &mut self.sink
        else {
            return Flushed::All;
        };
        if self.waiting.is_none() {
            let Some(frame) = self.next.take() else {
                return Flushed::All;
            };
            let written = match write(stream, bytes(&frame, *framing)) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Flushed::Broken,
            };
            if written == bytes(&frame, *framing).len() {
                *delivered += u64::from(frame.is_event());
                self.last_write = now;
                return Flushed::All;
            }
            let queue = self.waiting.insert(Box::default());
            queue.push(frame, usize::MAX);
            queue.set_written(written);
        }
        for _ in 0..ROUNDS {
            let Some(queue) = &mut self.waiting else {
                return Flushed::All;
            };
            if queue.is_empty() && !queue.is_held() {
                self.waiting = None;
                return Flushed::All;
            }
            match write_first(stream, queue, *framing) {
                Ok(0) => return Flushed::All,
                Ok(written) => {
                    self.last_write = now;
                    *delivered += take_written(queue, *framing, written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.blocked {
                        self.blocked = true;
                        self.last_write = now;
                    }
                    return Flushed::Blocked;
                }
                Err(_) => return Flushed::Broken,
            }
        }
        Flushed::Some
    }

    /// Reads and forgets what the client says; false if it is gone, or says more than a client has to say.
    pub(super) fn hear(&mut self, scratch: &mut [u8]) -> bool {
        let Sink::Socket { stream, .. } = &mut self.sink else {
            return true;
        };
        let mut heard = 0;
        while heard < UNASKED_BYTES {
            match stream.read(scratch) {
                Ok(0) => return false,
                Ok(bytes) => heard += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Closes the socket after what was written.
    pub(super) fn hang_up(&mut self, scratch: &mut [u8]) {
        if let Sink::Socket { stream, .. } = &self.sink {
            // One that is closed while it has something unread is reset, and what was written last is lost.
            let _ = stream.shutdown(Shutdown::Write);
            self.hear(scratch);
        }
        self.sink = Sink::Gone;
    }

    /// Whether something waits.
    pub(super) fn has_waiting(&self) -> bool {
        match &self.sink {
            Sink::Body(feed) => !feed.is_empty(),
            _ => {
                self.next.is_some() || self.waiting.as_ref().is_some_and(|queue| !queue.is_empty())
            }
        }
    }

    /// Bytes that wait for a client that does not take them.
    pub(super) fn waiting_bytes(&self) -> usize {
        match &self.sink {
            Sink::Body(feed) => feed.bytes(),
            _ => self.queued_bytes(),
        }
    }

    fn queued_bytes(&self) -> usize {
        let queued = self.waiting.as_ref().map_or(0, |queue| queue.bytes());
        match (&self.sink, &self.next) {
            // It leaves at once where there is a socket.
            (Sink::Pending, Some(next)) => queued + cost(next),
            _ => queued,
        }
    }

    /// What is left to write: it changes with every byte that leaves.
    pub(super) fn left(&self) -> (usize, usize) {
        let queue = self.waiting.as_ref();
        queue.map_or((0, 0), |queue| (queue.bytes(), queue.ready().1))
    }

    /// Reports what waits. A feed does that itself.
    pub(super) fn report(&mut self) {
        let waiting = match &self.sink {
            Sink::Body(_) => 0,
            _ => u32::try_from(self.queued_bytes()).unwrap_or(u32::MAX),
        };
        if waiting != self.reported {
            self.hub
                .report_waiting(self.reported as usize, waiting as usize);
            self.reported = waiting;
        }
    }

    // === timers ===

    /// When the client is to be pinged.
    pub(super) fn ping_due(&self) -> Tick {
        match self.sink {
            Sink::Socket { .. } if self.blocked => NEVER,
            Sink::Socket { .. } | Sink::Body(_) if self.ended.is_none() => {
                self.last_write.saturating_add(self.ping)
            }
            _ => NEVER,
        }
    }

    /// A ping was sent, or would say nothing now.
    pub(super) fn put_off_ping(&mut self, now: Tick) {
        self.last_write = now;
    }

    /// When no event has come for too long.
    pub(super) fn inactivity_due(&self) -> Tick {
        match self.ended {
            None => self.last_event.saturating_add(self.inactivity),
            Some(_) => NEVER,
        }
    }

    /// When it has lasted for long enough.
    pub(super) fn lifetime_due(&self) -> Tick {
        match self.ended {
            None => self.expires,
            Some(_) => NEVER,
        }
    }

    /// When the client has taken nothing for too long.
    pub(super) fn stuck_due(&self, timeout: Tick) -> Tick {
        match self.blocked {
            true => self.last_write.saturating_add(timeout),
            false => NEVER,
        }
    }

    /// The first of them.
    pub(super) fn due(&self, write_timeout: Tick) -> Tick {
        self.ping_due()
            .min(self.inactivity_due())
            .min(self.lifetime_due())
            .min(self.stuck_due(write_timeout))
    }
}

fn bytes(frame: &Frame, framing: Framing) -> &[u8] {
    match framing {
        Framing::Chunked => frame.chunk(),
        Framing::Close => frame.block(),
    }
}

/// Writes the first of what waits in one piece; 0 if nothing may leave.
fn write_first(stream: &mut TcpStream, queue: &Queue, framing: Framing) -> io::Result<usize> {
    let (frames, offset) = queue.ready();
    let slices = frames.take(JOINED_FRAMES);
    let slices = slices.map(|frame| IoSlice::new(bytes(frame, framing)));
    let mut slices: SmallVec<[IoSlice<'_>; JOINED_FRAMES]> = slices.collect();
    let Some(first) = slices.first_mut() else {
        return Ok(0);
    };
    first.advance(offset);
    write_vectored(stream, &slices)
}

/// Takes what has left from the queue, and says how many events that are.
fn take_written(queue: &mut Queue, framing: Framing, written: usize) -> u64 {
    let mut left = queue.ready().1 + written;
    let mut events = 0;
    while let Some(length) = queue.first().map(|frame| bytes(frame, framing).len())
        && left >= length
    {
        left -= length;
        events += queue.pop().map_or(0, |frame| u64::from(frame.is_event()));
    }
    queue.set_written(left);
    events
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn write_vectored(stream: &mut TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match stream.write_vectored(slices) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
