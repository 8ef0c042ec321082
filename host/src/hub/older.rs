//! Older events of a channel than those that a node keeps, for clients that come back: its broker has them still.

use std::sync::Arc;

use super::{Settings, Space, carried::Placed, frame::Frame, history::History};

/// Events of a channel that were read from its broker, after a position and up to another one.
#[derive(Debug)]
pub struct Older {
    /// Oldest first, and so in the order of their positions.
    frames: Vec<Arc<Frame>>,
    /// Bytes of all of them.
    bytes: usize,
    after: u64,
    /// Events up to this position may have been published and are not here.
    missing: u64,
    through: u64,
}

impl Older {
    /// None yet, after this position.
    pub fn after(position: u64) -> Self {
        Self {
            frames: Vec::new(),
            bytes: 0,
            after: position,
            missing: 0,
            through: position,
        }
    }

    /// Whether all events after one position and up to another one are here, as far as the broker has them.
    pub fn covers(&self, after: u64, through: u64) -> bool {
        // Whoever comes back from before what is missing is told of the same gap.
        let has_begun = self.after <= after || after < self.missing;
        has_begun && through <= self.through
    }

    /// Adds what was read next, oldest first, up to a position. Events up to `missing` may have been published and are not
    /// among it. There are no more than a channel of this space may keep: past that the oldest are let go.
    pub fn extend(&mut self, space: &Space, events: &[Placed], missing: u64, through: u64) {
        let Settings {
            history_events,
            history_bytes,
            ..
        } = *space.hub.settings();
        for placed in events {
            let frame = placed.frame();
            self.bytes += frame.len();
            self.frames.push(frame);
        }
        self.missing = self.missing.max(missing);
        self.through = self.through.max(through);
        let mut surplus = self.frames.len().saturating_sub(history_events);
        let mut bytes = self.bytes;
        for (index, frame) in self.frames.iter().enumerate() {
            if index >= surplus && bytes <= history_bytes {
                break;
            }
            bytes -= frame.len();
            surplus = surplus.max(index + 1);
            self.missing = self.missing.max(frame.sequence);
        }
        self.bytes = bytes;
        self.frames.drain(..surplus);
    }

    /// Whether nothing is missing between these and what a history keeps.
    pub(super) fn reach(&self, history: &History) -> bool {
        history.evicted_through() <= self.through
    }

    /// Events up to this position may have been published, and are neither here nor in a history that these reach.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// Those after a position that a history has seen and does not keep, or may not keep, oldest first.
    pub(super) fn before<'a>(
        &'a self,
        history: &History,
        place: u64,
    ) -> impl Iterator<Item = &'a Arc<Frame>> + use<'a> {
        // Later ones are in it, or yet to come.
        let last = history.evicted_through().min(history.seen_through());
        let frames = self.frames.iter();
        frames.filter(move |frame| place < frame.sequence && frame.sequence <= last)
    }
}
