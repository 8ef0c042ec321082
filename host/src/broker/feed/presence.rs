//! Telling other nodes who hears which channel here.

use std::sync::{Arc, Weak};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    super::{BrokerError, LEASE},
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
        let mut alive = match changes.is_empty() {
            true => presence.renew().await?,
            false => true,
        };
        for changes in changes.chunks(CHANGES) {
            alive &= presence.tell(changes).await?;
        }
        if !alive {
            // Others have forgotten this node, or it is new to them.
            presence.renew().await?;
            presence.renew().await?;
            for members in self.space.members().chunks(CHANGES) {
                presence.tell(members).await?;
            }
        }
        Ok(())
    }
}
