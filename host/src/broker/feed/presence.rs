//! Telling other nodes who hears which channel here.

use std::sync::{Arc, Weak};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    super::{BrokerError, LEASE, Told},
    Core,
    missed::RETRY,
};
use crate::hub::membership::{Change, Membership};

/// Changes that are told at a time.
const CHANGES: usize = 1000;

/// Tells of changes, and that this node lives, for ever.
pub(super) async fn announce(core: Weak<Core>, pending: Arc<Membership>) {
    // Two may be late before others take the node for dead.
    let mut renew = interval(LEASE / 3);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changes = tokio::select! {
            changes = pending.changes() => changes,
            _ = renew.tick() => Vec::new(),
        };
        let Some(core) = core.upgrade() else { return };
        if let Err(error) = core.announce(&changes).await {
            tracing::debug!(%error, "other nodes cannot be told yet who hears which channel");
            pending.give_back(changes);
            drop(core);
            sleep(RETRY).await;
        }
    }
}

impl Core {
    /// Tells of changes; of none means that this node lives.
    async fn announce(&self, changes: &[Change]) -> Result<(), BrokerError> {
        let Some(presence) = self.broker.presence() else {
            return Ok(());
        };
        let mut forgotten = false;
        if changes.is_empty() {
            forgotten |= self.heard(presence.renew().await?);
        }
        for changes in changes.chunks(CHANGES) {
            forgotten |= self.heard(presence.tell(changes).await?);
        }
        if forgotten {
            // Others have forgotten this node, or it is new to them.
            self.heard(presence.renew().await?);
            for members in self.space.members().chunks(CHANGES) {
                self.heard(presence.tell(members).await?);
            }
        }
        Ok(())
    }

    /// Whether this node was forgotten.
    fn heard(&self, told: Told) -> bool {
        for (channel, occupied) in told.occupancy {
            self.occupancies.note(channel, occupied);
        }
        told.forgotten
    }
}
