//! Reading what a broker keeps: to catch up with what was not pushed, and for clients that come back.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{
    super::BrokerError,
    Core, ECHO,
    channel::{Next, Phase},
};
use crate::{event::Event, hub::channel::ChannelName};

/// Events that are read at a time.
const PAGE: usize = 500;
/// After a read that failed, it is tried again after this time.
const RETRY: Duration = Duration::from_millis(200);

impl Core {
    /// Reads what was missed of a channel, which is behind, and goes on with what is pushed then.
    pub(super) fn catch_up(self: &Arc<Self>, channel: ChannelName) {
        let core = Arc::downgrade(self);
        self.runtime.spawn(catch_up(core, channel));
    }

    /// The place of an id in the order of the broker.
    pub(super) async fn place(
        &self,
        channel: &ChannelName,
        id: &str,
    ) -> Result<Option<u64>, BrokerError> {
        match self.space.place(channel, id) {
            Some(place) => Ok(Some(place)),
            None => self.broker.place(channel, id).await,
        }
    }

    /// Sees that this node has all that was published on the channel since a place, as far as it is kept, and that it
    /// does not deliver again what a client has heard up to there.
    pub(super) async fn reach(
        self: &Arc<Self>,
        channel: &ChannelName,
        place: u64,
    ) -> Result<(), BrokerError> {
        let waits = {
            let mut state = self.state.lock();
            let (broken, complete) = (state.broken, state.complete);
            let Some(entry) = state.channels.get_mut(channel) else {
                return Ok(());
            };
            let live = entry.phase == Phase::Live;
            let through = if live {
                entry.through.max(complete)
            } else {
                entry.through
            };
            // Another node was ahead of this one: what the client has heard there is still to come here.
            (place > through).then(|| {
                if live {
                    entry.phase = Phase::Behind;
                    if !broken {
                        self.catch_up(channel.clone());
                    }
                }
                entry.delivered(place)
            })
        };
        if let Some(Err(receiver)) = waits {
            timeout(ECHO, receiver).await.map_err(|_| {
                BrokerError::Unavailable(
                    "this node has not yet heard what the client heard on another one, because the broker is away or \
                     slow; try again later"
                        .into(),
                )
            })?
            .ok();
        }
        self.load(channel, place).await
    }

    /// Puts what was published before this node listened in front of what it keeps of the channel, unless it reaches
    /// back to the place already.
    async fn load(&self, channel: &ChannelName, place: u64) -> Result<(), BrokerError> {
        let reaches = || self.space.reaches_back_to(channel);
        if reaches().is_none_or(|back| back <= place) {
            return Ok(());
        }
        let loaded = {
            let state = self.state.lock();
            match state.channels.get(channel) {
                Some(channel) => channel.loaded.clone(),
                None => return Ok(()),
            }
        };
        // One reads for all clients that come back at the same time.
        let mut loaded = loaded.lock().await;
        if *loaded {
            return Ok(());
        }
        let Some(back) = reaches() else { return Ok(()) };
        let (mut after, mut missing, mut events) = (0, 0, VecDeque::new());
        let most = self.space.history_events();
        loop {
            let page = self.broker.read(channel, after, PAGE).await?;
            // Where something is missing in between, what is before it is of no use.
            if page.missing > 0 {
                missing = page.missing;
                events.clear();
            }
            let older = page.events.into_iter();
            events.extend(older.filter(|placed| placed.position <= back));
            while events.len() > most {
                if let Some(forgotten) = events.pop_front() {
                    missing = forgotten.position;
                }
            }
            after = page.through;
            if !page.more || after >= back {
                break;
            }
        }
        let missing = missing.min(back);
        *loaded = self
            .space
            .prepend(channel, events.make_contiguous(), missing, back);
        Ok(())
    }

    /// The newest events that are kept of a channel, oldest first.
    pub(super) async fn history(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<Event>, BrokerError> {
        let (mut after, mut events) = (0, VecDeque::new());
        loop {
            let page = self.broker.read(channel, after, PAGE).await?;
            events.extend(page.events.into_iter().map(|placed| placed.event));
            let surplus = events.len().saturating_sub(limit);
            events.drain(..surplus);
            after = page.through;
            if !page.more {
                return Ok(events.into());
            }
        }
    }
}

async fn catch_up(core: Weak<Core>, channel: ChannelName) {
    loop {
        let Some(core) = core.upgrade() else { return };
        let Ok(reader) = core.readers.acquire().await else {
            return;
        };
        let (after, breaks) = {
            let state = core.state.lock();
            match state.channels.get(&channel) {
                // Whoever says that the push is back begins anew.
                Some(entry) if entry.phase == Phase::Behind && !state.broken => {
                    (entry.through, state.breaks)
                }
                _ => return,
            }
        };
        match core.broker.read(&channel, after, PAGE).await {
            Ok(page) => {
                let mut state = core.state.lock();
                if state.breaks != breaks {
                    // What is held now does not follow on what was read before the break.
                    return;
                }
                let Some(entry) = state.channels.get_mut(&channel) else {
                    return;
                };
                if entry.phase != Phase::Behind
                    || entry.read(&page, &core.listeners(&channel)) == Next::Nothing
                {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(channel = channel.as_str(), %error, "what was missed cannot be read yet");
                drop(reader);
                sleep(RETRY).await;
            }
        }
        core.space.room().await;
    }
}
