//! How the end of a connection is told: to whoever runs the guest's hook, in the order of the ends.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use super::connection::{CloseReason, ConnectionId};

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its id.
    pub connection: ConnectionId,
    /// The channels that it heard at its end, sorted.
    pub channels: Vec<String>,
    /// Why it ended.
    pub reason: CloseReason,
}

/// The side of the hub. Telling never waits; the hub refuses connections while too many ends are untold.
#[derive(Debug)]
pub(super) struct EndedSender {
    sender: mpsc::UnboundedSender<Ended>,
    untold: Arc<AtomicUsize>,
}

/// The side that is told.
#[derive(Debug)]
pub struct EndedReceiver {
    receiver: mpsc::UnboundedReceiver<Ended>,
    untold: Arc<AtomicUsize>,
}

pub(super) fn channel() -> (EndedSender, EndedReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let untold = Arc::new(AtomicUsize::new(0));
    let told = untold.clone();
    (
        EndedSender { sender, untold },
        EndedReceiver {
            receiver,
            untold: told,
        },
    )
}

impl EndedSender {
    pub(super) fn tell(&self, ended: Ended) {
        // Counted first, so that the receiver never takes away what was not added yet.
        self.untold.fetch_add(1, Ordering::Relaxed);
        if self.sender.send(ended).is_err() {
            // Nobody listens any more: the app is gone, and there is no hook to run either.
            self.untold.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends that were not received yet.
    pub(super) fn untold(&self) -> usize {
        self.untold.load(Ordering::Relaxed)
    }
}

impl EndedReceiver {
    /// The next end; `None` once the hub is drained and all were received.
    pub async fn recv(&mut self) -> Option<Ended> {
        let ended = self.receiver.recv().await?;
        self.untold.fetch_sub(1, Ordering::Relaxed);
        Some(ended)
    }

    /// Ends that wait to be received.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}
