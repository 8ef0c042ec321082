//! What clients need that come back: their places, and what was published before this node listened.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::timeout;

use super::{super::BrokerError, Core, ECHO, channel::Phase};
use crate::{
    event::Event,
    hub::{HubError, channel::ChannelName, connection::Connection, older::Older},
};

/// Events that are read at a time.
pub(super) const PAGE: usize = 500;
/// How often what a node has no room to keep is read for one client, where more is let go meanwhile.
const ATTEMPTS: usize = 10;

impl Core {
    /// The place on a channel of a client that heard this id last, as far as it is known. When this returns, the node has
    /// all that was published on the channel since then, as far as it is kept, and delivers nothing again that the client
    /// has heard up to there.
    pub(super) async fn returning(
        &self,
        channel: &ChannelName,
        id: &str,
    ) -> Result<Option<u64>, BrokerError> {
        let place = match self.space.place(channel, id) {
            Some(place) => Some(place),
            None => self.broker.place(channel, id).await?,
        };
        let Some(place) = place else { return Ok(None) };
        let late = |_| {
            BrokerError::Unavailable(
                "this node has not yet heard what the client heard on another one, because the broker is away or slow; \
                 try again later"
                    .into(),
            )
        };
        let reached = timeout(ECHO, self.reach(channel, place));
        if !reached.await.map_err(late)?? {
            return Ok(None);
        }
        self.load(channel, place).await?;
        Ok(Some(place))
    }

    /// Waits until this node has delivered all that was published on the channel up to a place. False if there is no such
    /// place yet.
    async fn reach(&self, channel: &ChannelName, place: u64) -> Result<bool, BrokerError> {
        let (mut live, mut complete) = (self.live.subscribe(), self.complete.subscribe());
        loop {
            // What was missed here may have been heard by the client elsewhere. It lasts as long as the feed.
            let _ = live.wait_for(|live| *live).await;
            let through = {
                let state = self.state.lock();
                let Some(channel) = state.channels.get(channel) else {
                    return Ok(true);
                };
                if channel.phase != Phase::Live && !*live.borrow() {
                    continue;
                }
                channel.through
            };
            if through.max(*complete.borrow()) >= place {
                return Ok(true);
            }
            // Another node was ahead of this one: what the client has heard there is still to come here.
            if self.broker.sync().await? < place {
                return Ok(false);
            }
            let _ = complete.wait_for(|complete| *complete >= place).await;
        }
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

    /// Lets a client that comes back hear the channel, after what it missed since its place: what this node has no room to
    /// keep of that is read from the broker.
    pub(super) async fn register_after(
        &self,
        connection: &Connection,
        channel: &ChannelName,
        place: u64,
    ) -> Result<Result<(), HubError>, BrokerError> {
        let mut older = Arc::new(Older::after(place));
        for _ in 0..ATTEMPTS {
            match self
                .space
                .register_after(connection, channel, place, &older)
            {
                Ok(true) => return Ok(Ok(())),
                Ok(false) => older = self.older(channel, place).await?,
                Err(error) => return Ok(Err(error)),
            }
        }
        // More is let go all the time than can be read: then there is a gap.
        Ok(self.space.register_at(connection, channel, Some(place)))
    }

    /// Reads what was published on a channel after a place.
    async fn older(&self, channel: &ChannelName, place: u64) -> Result<Arc<Older>, BrokerError> {
        let mut older = Older::after(place);
        let turn = self
            .state
            .lock()
            .channels
            .get(channel)
            .map(|channel| channel.loaded.clone());
        let Some(turn) = turn else {
            return Ok(Arc::new(older));
        };
        // One reads for all clients that come back at the same time.
        let _turn = turn.lock().await;
        let back = self.space.reaches_back_to(channel).unwrap_or(place);
        {
            let state = self.state.lock();
            let known = state
                .channels
                .get(channel)
                .and_then(|channel| channel.older.as_ref());
            if let Some(known) = known.filter(|known| known.covers(place, back)) {
                return Ok(known.clone());
            }
        }
        let (mut after, mut more) = (place, true);
        while more {
            let page = self.broker.read(channel, after, PAGE).await?;
            (after, more) = (page.through, page.more);
            // What was there before this is not after the last page.
            let through = if more { after } else { after.max(back) };
            older.extend(&self.space, &page.events, page.missing, through);
        }
        let older = Arc::new(older);
        if let Some(channel) = self.state.lock().channels.get_mut(channel) {
            channel.older = Some(older.clone());
        }
        Ok(older)
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
