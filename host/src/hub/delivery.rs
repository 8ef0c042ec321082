//! Delivery: a connection from the side of its socket. It is a stream of bytes, ready to be written.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Hub,
    connection::{CloseReason, Connection, Timing},
};
use crate::event::PING;

/// What belongs to the socket. Dropping it says that the client is gone.
#[derive(Debug)]
pub struct Delivery {
    hub: Hub,
    connection: Arc<Connection>,
    timing: Timing,
    /// When the last byte was handed over, a ping or an event.
    last_write: Instant,
    /// When the last event was handed over.
    last_event: Instant,
    /// Runs until the next ping or the inactivity timeout, whichever is first, as of when it was set: events
    /// push both away without touching it, and it is set anew when it fires.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Delivery {
    pub(super) fn new(hub: Hub, connection: Arc<Connection>, timing: Timing) -> Self {
        let now = Instant::now();
        Self {
            hub,
            connection,
            timing,
            last_write: now,
            last_event: now,
            timer: None,
        }
    }

    /// The connection that this delivers to.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn ping_due(&self) -> Option<Instant> {
        due(self.last_write, self.timing.ping)
    }

    fn inactivity_due(&self) -> Option<Instant> {
        due(self.last_event, self.timing.inactivity)
    }

    fn next_due(&self) -> Option<Instant> {
        self.ping_due()
            .into_iter()
            .chain(self.inactivity_due())
            .min()
    }
}

fn due(since: Instant, after: Option<Duration>) -> Option<Instant> {
    // A sum past the end of time is never, too.
    since.checked_add(after?)
}

impl Stream for Delivery {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        loop {
            if let Poll::Ready(frames) = this.connection.poll_frames(context) {
                if frames.is_some() {
                    this.last_event = Instant::now();
                    this.last_write = this.last_event;
                }
                return Poll::Ready(frames);
            }
            // Made here and not with the delivery: a guest's thread makes that, and a timer belongs to the runtime that
            // it was made on.
            let timer = match &mut this.timer {
                Some(timer) => timer,
                None => match this.next_due() {
                    Some(due) => this.timer.insert(Box::pin(sleep_until(due))),
                    None => return Poll::Pending,
                },
            };
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if this.inactivity_due().is_some_and(|due| due <= now) {
                this.hub.close(&this.connection, CloseReason::Inactive);
                continue;
            }
            let ping = this.ping_due().is_some_and(|due| due <= now);
            if ping {
                this.last_write = now;
            }
            if let (Some(next), Some(timer)) = (this.next_due(), &mut this.timer) {
                timer.as_mut().reset(next);
            }
            if ping {
                return Poll::Ready(Some(PING));
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.hub.delivery_dropped(&self.connection);
    }
}
