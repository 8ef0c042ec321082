//! What is counted of an app's hub.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::connection::CloseReason;

/// Counts since the hub was made.
#[derive(Debug, Default)]
pub(super) struct Counters {
    published: AtomicU64,
    duplicates: AtomicU64,
    delivered: AtomicU64,
    resumed: AtomicU64,
    gaps: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
    queued_bytes: AtomicUsize,
}

/// What there is at a time, and what there has been since the hub was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Open connections.
    pub connections: usize,
    /// Channels that somebody hears or that have a history.
    pub channels: usize,
    /// Bytes that wait for clients that do not take them, with what it costs to keep them.
    pub queued_bytes: usize,
    /// Bytes that all histories cost.
    pub history_bytes: usize,
    /// Events that were published and were no duplicates.
    pub published: u64,
    /// Events that were not published because their channel had their id already.
    pub duplicates: u64,
    /// Events that were handed to sockets, once for each connection.
    pub delivered: u64,
    /// Channels that a client which came back went on with where it was.
    pub resumed: u64,
    /// Gaps that clients were told of.
    pub gaps: u64,
    /// Connections that have ended, for each reason.
    pub closed: [(CloseReason, u64); CloseReason::ALL.len()],
}

impl Counters {
    pub(super) fn add_published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_delivered(&self, events: u64) {
        self.delivered.fetch_add(events, Ordering::Relaxed);
    }

    pub(super) fn add_resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_gaps(&self, gaps: u64) {
        self.gaps.fetch_add(gaps, Ordering::Relaxed);
    }

    pub(super) fn add_closed(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Less is added by wrapping.
    pub(super) fn add_queued(&self, bytes: usize) {
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn figures(
        &self,
        connections: usize,
        channels: usize,
        history_bytes: usize,
    ) -> Figures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            connections,
            channels,
            queued_bytes: self.queued_bytes.load(Ordering::Relaxed),
            history_bytes,
            published: count(&self.published),
            duplicates: count(&self.duplicates),
            delivered: count(&self.delivered),
            resumed: count(&self.resumed),
            gaps: count(&self.gaps),
            closed: CloseReason::ALL.map(|reason| (reason, count(&self.closed[reason as usize]))),
        }
    }
}
