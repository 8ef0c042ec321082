//! A connection: one client's stream, from the side that sends.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::event::{ID_BYTES, id_block};

/// What a waiting frame counts beside its bytes: its place in the queue.
const FRAME_COST: usize = 64;
/// Frames that wait leave together, up to about so many bytes.
const JOINED_BYTES: usize = 64 * 1024;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client went away, or the network did.
    ClientGone,
    /// A guest closed it, or removed it from its last channel.
    Closed,
    /// No event for as long as its inactivity timeout.
    Inactive,
    /// More waited for it than may.
    Slow,
    /// The node is shutting down.
    Shutdown,
}

/// When a quiet stream is pinged and when it is closed; `None` is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// After so long without a byte the client gets a comment.
    pub ping: Option<Duration>,
    /// After so long without an event the connection is closed.
    pub inactivity: Option<Duration>,
}

/// How a connection is opened.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// The last event that the client heard, as it says.
    pub last_event_id: Option<String>,
    /// When it is pinged and closed.
    pub timing: Timing,
    /// Cancelled when the socket is to be dropped without waiting for the client to read.
    pub abort: CancellationToken,
}

/// One client's stream.
#[derive(Debug)]
pub struct Connection {
    id: Arc<str>,
    last_event_id: Option<String>,
    /// Told when the client does not read: a polite end would wait for it for ever.
    abort: CancellationToken,
    queue: Mutex<Queue>,
}

/// What waits for the client.
#[derive(Debug)]
struct Queue {
    /// Frames with their sequence numbers, which are the order to hear them in.
    frames: VecDeque<(u64, Bytes)>,
    /// Nothing leaves yet: the client has come back, and what it missed is still being put together.
    held: bool,
    /// The newest event of a channel that was queued and its id, for a client that came back.
    newest: Option<(u64, Box<str>)>,
    /// Bytes that wait, with [`FRAME_COST`] for each frame.
    bytes: usize,
    /// Bytes that may wait.
    limit: usize,
    /// What a replay put in the queue on top of the limit, until the queue has been empty once: a client that
    /// catches up is not slow.
    replay: usize,
    /// Set once, at the end: what waits is still delivered, then the stream ends.
    end: Option<CloseReason>,
    /// The delivery, where it waits for something to do.
    waker: Option<Waker>,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(options: OpenOptions, limit: usize) -> Self {
        let last_event_id = options
            .last_event_id
            .filter(|id| !id.is_empty() && id.len() <= ID_BYTES);
        let held = last_event_id.is_some();
        Self {
            id: format!("{:032x}", rand::random::<u128>()).into(),
            last_event_id,
            abort: options.abort,
            queue: Mutex::new(Queue {
                frames: VecDeque::new(),
                held,
                newest: None,
                bytes: 0,
                limit,
                replay: 0,
                end: None,
                waker: None,
            }),
        }
    }

    /// Random, so that it is unique across nodes and restarts.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The last event that the client heard before it came back.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.queue.lock().end.is_none()
    }

    /// Why it ended, if it has.
    #[cfg(test)]
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.queue.lock().end
    }

    /// Lets a client that came back hear what was put together for it, in order. What its handler registers it for
    /// before this is merged; what it is registered for later comes after what it has heard by then.
    pub fn release(&self) {
        let mut queue = self.queue.lock();
        if queue.held {
            queue.release();
            queue.wake();
        }
    }

    /// Queues a frame of this sequence number; false if that would be more than may wait. A frame larger than all that
    /// may wait is taken when nothing else waits.
    pub(super) fn push(&self, sequence: u64, frame: Bytes) -> bool {
        self.queue.lock().push(sequence, frame)
    }

    /// Queues an event of a channel, as [`Connection::push`] does.
    pub(super) fn push_event(&self, sequence: u64, id: &str, frame: Bytes) -> bool {
        let mut queue = self.queue.lock();
        let queued = queue.push(sequence, frame);
        if queued && self.last_event_id.is_some() {
            queue.newest = Some((sequence, id.into()));
        }
        queued
    }

    /// Queues what a client missed, without a limit of its own: the history it comes from has one. `newest` is the id
    /// of the last one.
    ///
    /// After the release older events follow newer ones here. A block of nothing but an id then takes the client's
    /// place forward again.
    pub(super) fn push_replay(&self, frames: Vec<(u64, Bytes)>, newest: Option<String>) {
        let mut queue = self.queue.lock();
        let last = frames.last().map_or(0, |(sequence, _)| *sequence);
        for (sequence, frame) in frames {
            queue.push_unlimited(sequence, frame);
        }
        let Some(newest) = newest else {
            queue.wake();
            return;
        };
        let ahead = queue
            .newest
            .as_ref()
            .filter(|(sequence, _)| *sequence > last);
        match ahead.map(|(sequence, id)| (*sequence, id_block(id))) {
            Some((sequence, block)) if !queue.held => queue.push_unlimited(sequence, block),
            Some(_) => {}
            None => queue.newest = Some((last, newest.into())),
        }
        queue.wake();
    }

    /// Marks the end. The hub calls it once, after it has taken the connection out of everything.
    pub(super) fn end(&self, reason: CloseReason) {
        let mut queue = self.queue.lock();
        queue.end = Some(reason);
        queue.release();
        if matches!(reason, CloseReason::Slow | CloseReason::ClientGone) {
            queue.frames = VecDeque::new();
            queue.bytes = 0;
        }
        if reason == CloseReason::Slow {
            self.abort.cancel();
        }
        queue.wake();
    }

    /// What is to be written next: all that waits, up to [`JOINED_BYTES`] in one piece; `None` after the end.
    pub(super) fn poll_frames(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut queue = self.queue.lock();
        let Some(first) = queue.take(JOINED_BYTES, true) else {
            if queue.end.is_some() {
                return Poll::Ready(None);
            }
            match &mut queue.waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => queue.waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        let mut out = first;
        if let Some(second) = queue.take(JOINED_BYTES.saturating_sub(out.len()), false) {
            let mut joined = BytesMut::from(&out[..]);
            joined.extend_from_slice(&second);
            while let Some(next) = queue.take(JOINED_BYTES.saturating_sub(joined.len()), false) {
                joined.extend_from_slice(&next);
            }
            out = joined.freeze();
        }
        if queue.frames.is_empty() {
            queue.replay = 0;
        }
        Poll::Ready(Some(out))
    }
}

impl Queue {
    fn push(&mut self, sequence: u64, frame: Bytes) -> bool {
        let bytes = self.bytes + frame.len() + FRAME_COST;
        if bytes > self.limit + self.replay && !self.frames.is_empty() {
            return false;
        }
        self.bytes = bytes;
        self.frames.push_back((sequence, frame));
        self.wake();
        true
    }

    fn push_unlimited(&mut self, sequence: u64, frame: Bytes) {
        let cost = frame.len() + FRAME_COST;
        self.bytes += cost;
        self.replay += cost;
        self.frames.push_back((sequence, frame));
    }

    /// Takes the next frame, if there is one that may leave; unless it is `any`, only one of at most so many bytes.
    fn take(&mut self, bytes: usize, any: bool) -> Option<Bytes> {
        let (_, next) = self.frames.front().filter(|_| !self.held)?;
        if !any && next.len() > bytes {
            return None;
        }
        let (_, next) = self.frames.pop_front()?;
        self.bytes -= next.len() + FRAME_COST;
        Some(next)
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            // Stable, so that frames of one number stay as they were queued.
            self.frames
                .make_contiguous()
                .sort_by_key(|(sequence, _)| *sequence);
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
