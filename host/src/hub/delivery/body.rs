//! A stream that goes through the HTTP library: over TLS or HTTP/2, where a socket cannot be taken over.
//!
//! The shard feeds it and the library takes from it, each on a thread of its own, so it has a lock of its own.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    super::{Hub, connection::CloseReason, frame::Frame},
    Delivery,
    queue::Queue,
};

/// Frames that wait leave together, up to about so many bytes.
const JOINED_BYTES: usize = 64 * 1024;

/// The body of an event stream: encoded events, ready to be written. Dropping it says that the client is gone.
#[derive(Debug)]
pub struct Body {
    feed: Arc<Feed>,
    /// Dropped with the body.
    _delivery: Delivery,
}

/// What the shard and the library share.
#[derive(Debug)]
pub(in super::super) struct Feed {
    hub: Hub,
    /// Cancelled where the client does not read: a polite end would wait for it for ever.
    abort: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// What waits still leaves, then the body ends.
    ended: bool,
    /// The library, where it waits for something to do.
    waker: Option<Waker>,
}

// === impl Feed ===

impl Feed {
    pub(super) fn new(hub: Hub, abort: CancellationToken) -> Self {
        Self {
            hub,
            abort,
            state: Mutex::new(State {
                // Until the shard knows the feed, what comes meanwhile waits there.
                queue: Queue::held(),
                ended: false,
                waker: None,
            }),
        }
    }

    /// Takes the place of the queue that the shard had.
    pub(super) fn begin(&self, queue: Queue) {
        self.with(|state| state.queue = queue);
    }

    pub(super) fn push(&self, frame: Arc<Frame>) -> bool {
        let limit = self.hub.settings().queue_bytes;
        self.with(|state| state.queue.push(frame, limit))
    }

    pub(super) fn push_unlimited(&self, frames: impl IntoIterator<Item = Arc<Frame>>) {
        self.with(|state| {
            for frame in frames {
                state.queue.push_unlimited(frame);
            }
        });
    }

    pub(super) fn release(&self) {
        self.with(|state| state.queue.release());
    }

    /// Ends the body: after what waits, or at once for a client that is too slow or gone.
    pub(super) fn end(&self, reason: CloseReason) {
        self.with(|state| {
            state.ended = true;
            state.queue.release();
            if reason.is_abrupt() {
                state.queue.clear();
            }
        });
        if reason.is_abrupt() {
            self.abort.cancel();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().queue.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.state.lock().queue.bytes()
    }

    /// Changes the state, tells the library, and reports what waits.
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let before = state.queue.bytes();
        let result = change(&mut state);
        self.hub.report_waiting(before, state.queue.bytes());
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let before = state.queue.bytes();
        let mut delivered = 0;
        let mut take = |queue: &mut Queue, most: usize| {
            queue.first().filter(|frame| frame.len() <= most)?;
            let frame = queue.pop()?;
            delivered += u64::from(frame.is_event());
            Some(frame.plain())
        };
        let Some(first) = take(&mut state.queue, usize::MAX) else {
            if state.ended {
                return Poll::Ready(None);
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => state.waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        let mut out = first;
        if let Some(second) = take(&mut state.queue, JOINED_BYTES.saturating_sub(out.len())) {
            let mut joined = BytesMut::from(&out[..]);
            joined.extend_from_slice(&second);
            while let Some(next) = take(&mut state.queue, JOINED_BYTES.saturating_sub(joined.len()))
            {
                joined.extend_from_slice(&next);
            }
            out = joined.freeze();
        }
        self.hub.report_waiting(before, state.queue.bytes());
        self.hub.counters().add_delivered(delivered);
        Poll::Ready(Some(out))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.hub
            .report_waiting(self.state.get_mut().queue.bytes(), 0);
    }
}

// === impl Body ===

impl Body {
    pub(super) fn new(feed: Arc<Feed>, delivery: Delivery) -> Self {
        Self {
            feed,
            _delivery: delivery,
        }
    }
}

impl Stream for Body {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.feed.poll(context)
    }
}
