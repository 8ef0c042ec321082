//! A tally of events that have left: one count for many events costs nothing.

use std::mem;

use super::super::Hub;

/// Events of one hub that were not counted yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    hub: Option<Hub>,
    delivered: u64,
}

impl Tally {
    /// Notes events of a hub; those of another are counted first.
    pub(super) fn add(&mut self, hub: &Hub, delivered: u64) {
        if delivered == 0 {
            return;
        }
        if !self.hub.as_ref().is_some_and(|known| known.is(hub)) {
            self.count();
            self.hub = Some(hub.clone());
        }
        self.delivered += delivered;
    }

    /// Counts what was noted.
    pub(super) fn count(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.counters().add_delivered(mem::take(&mut self.delivered));
        }
    }
}
