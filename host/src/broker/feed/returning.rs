//! What clients need that come back: their places, and what was published before this node listened.

use std::collections::VecDeque;

use tokio::time::timeout;

use super::{super::BrokerError, Core, ECHO};
use crate::{event::Event, hub::channel::ChannelName};

/// Events that are read at a time.
pub(super) const PAGE: usize = 500;

impl Core {
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
    pub(super) async fn reach(&self, channel: &ChannelName, place: u64) -> Result<(), BrokerError> {
        let mut complete = self.complete.subscribe();
        let through = {
            let state = self.state.lock();
            state.channels.get(channel).map(|channel| channel.through)
        };
        // Another node was ahead of this one: what the client has heard there is still to come here.
        if through.is_some_and(|through| through < place) && *complete.borrow() < place {
            let reached = async {
                self.broker.sync().await?;
                // It lasts as long as the feed.
                let _ = complete.wait_for(|complete| *complete >= place).await;
                Ok(())
            };
            timeout(ECHO, reached).await.unwrap_or_else(|_| {
                Err(BrokerError::Unavailable(
                    "this node has not yet heard what the client heard on another one, because the broker is away or \
                     slow; try again later"
                        .into(),
                ))
            })?;
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
