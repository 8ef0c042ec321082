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
            // However much changes, and cannot be told.
            biased;
            _ = renew.tick() => Vec::new(),
            changes = pending.changes() => changes,
        };
        let Some(core) = core.upgrade() else { return };
        match core.announce(&changes).await {
            // What is told of now is no more than what has changed: it is told again, and tried again if need be.
            Ok(true) => pending.give_back(core.space.members()),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "other nodes cannot be told yet who hears which channel");
                pending.give_back(changes);
                drop(core);
                sleep(RETRY).await;
            }
        }
    }
}

impl Core {
    /// Tells of changes; of none means that this node lives. True if it is to tell of all its members.
    async fn announce(&self, changes: &[Change]) -> Result<bool, BrokerError> {
        let Some(presence) = self.broker.presence() else {
            return Ok(false);
        };
        let mut forgotten = false;
        if changes.is_empty() {
            forgotten |= self.heard(presence.renew().await?)?;
        }
        for changes in changes.chunks(CHANGES) {
            forgotten |= self.heard(presence.tell(changes).await?)?;
        }
        // Others have forgotten this node, or it is new to them: first it says that it lives, by another name maybe.
        let mut again = forgotten;
        while again {
            let renewed = presence.renew().await;
            again = match renewed.and_then(|told| self.heard(told)) {
                Ok(again) => again,
                // It has to tell of all its members all the same.
                Err(error) => {
                    tracing::debug!(%error, "other nodes cannot be told yet that this one lives");
                    break;
                }
            };
        }
        Ok(forgotten)
    }

    /// Whether this node was forgotten.
    fn heard(&self, told: Told) -> Result<bool, BrokerError> {
        for (channel, occupied) in told.occupancy {
            self.occupancies.note(channel, occupied);
        }
        match told.failed {
            Some(error) => Err(error),
            None => Ok(told.forgotten),
        }
    }
}
