//! What waits for one client, in order and in bounds.

use std::{collections::VecDeque, sync::Arc};

use super::super::frame::Frame;

/// What a waiting frame counts beside its bytes: its place in the queue.
pub(super) const FRAME_COST: usize = 64;

/// Frames that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Arc<Frame>>,
    /// Bytes of the first frame that have left already.
    written: usize,
    /// Bytes that wait, with [`FRAME_COST`] for each frame.
    bytes: usize,
    /// What a replay put here on top of the limit, until the queue has been empty once: a client that catches up is
    /// not slow.
    replay: usize,
    /// Nothing leaves yet: the client has come back, and what it missed is still being put together.
    held: bool,
}

impl Queue {
    /// A queue of which nothing leaves before [`Queue::release`].
    pub(super) fn held() -> Self {
        Self {
            held: true,
            ..Self::default()
        }
    }

    /// Adds a frame; false if that would be more than `limit` bytes. A frame larger than all that may wait is taken
    /// where nothing else waits.
    pub(super) fn push(&mut self, frame: Arc<Frame>, limit: usize) -> bool {
        let bytes = self.bytes + cost(&frame);
        if bytes > limit.saturating_add(self.replay) && !self.frames.is_empty() {
            return false;
        }
        self.bytes = bytes;
        self.frames.push_back(frame);
        true
    }

    /// Adds a frame of a replay, or the host's last words.
    pub(super) fn push_unlimited(&mut self, frame: Arc<Frame>) {
        let cost = cost(&frame);
        self.bytes += cost;
        self.replay += cost;
        self.frames.push_back(frame);
    }

    /// Lets what was held leave, in order.
    pub(super) fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            // Stable, so that frames of one number stay as they were queued.
            self.frames
                .make_contiguous()
                .sort_by_key(|frame| frame.sequence);
        }
    }

    /// Frames that may leave now, the first one first, and how much of the first has left.
    pub(super) fn ready(&self) -> (impl ExactSizeIterator<Item = &Arc<Frame>>, usize) {
        let frames = if self.held { 0 } else { self.frames.len() };
        (self.frames.range(..frames), self.written)
    }

    /// The first frame, if it may leave.
    pub(super) fn first(&self) -> Option<&Arc<Frame>> {
        self.ready().0.next()
    }

    /// Takes the first frame, if it may leave.
    pub(super) fn pop(&mut self) -> Option<Arc<Frame>> {
        if self.held {
            return None;
        }
        let frame = self.frames.pop_front()?;
        self.bytes -= cost(&frame);
        self.written = 0;
        if self.frames.is_empty() {
            self.replay = 0;
        }
        Some(frame)
    }

    /// Notes that so much of the first frame has left.
    pub(super) fn set_written(&mut self, bytes: usize) {
        self.written = bytes;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Bytes that wait, with [`FRAME_COST`] for each frame.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What a frame counts where it waits.
pub(super) fn cost(frame: &Frame) -> usize {
    frame.len() + FRAME_COST
}
