//! Catching up with what was missed: on all channels together, so that it is delivered in one order.
//!
//! Where there is more than is read at a time, only what is surely complete is delivered, up to a horizon, and then more is
//! read: no channel runs ahead of another.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use super::{
    super::{BrokerError, Page},
    Core, State,
    channel::Phase,
    returning::PAGE,
};
use crate::hub::{carried::Placed, channel::ChannelName};

/// Channels that are read at a time.
const READERS: usize = 64;
/// Bytes that are read before they are delivered.
const BYTES: usize = 64 << 20;
/// What an event counts beside its data.
const EVENT_COST: usize = 256;
/// After something that failed, it is tried again after this time.
pub(super) const RETRY: Duration = Duration::from_millis(100);
/// A channel that cannot be read so often, while the broker is there, is given up: then a gap is told.
const ATTEMPTS: u32 = 50;
/// How long the push may take to tell how far it is.
const SYNC: Duration = Duration::from_secs(1);

/// What was read of the channels that are behind.
struct Read {
    /// What was read of each, but for the events.
    channels: Vec<(ChannelName, Page)>,
    /// The events, with the places of their channels in that list.
    events: Vec<(usize, Placed)>,
    /// Their bytes.
    bytes: usize,
    /// Everything up to this position was read, of every channel.
    horizon: u64,
}

impl Core {
    /// Something was missed: holds everything back until it was read.
    pub(super) fn fall_behind(self: &Arc<Self>, state: &mut State) {
        for channel in state.channels.values_mut() {
            channel.fall_behind();
        }
        self.live.send_replace(false);
        if !state.broken && !std::mem::replace(&mut state.catching_up, true) {
            self.runtime.spawn(catch_up(Arc::downgrade(self)));
        }
    }

    /// The channels that are behind, with the positions that they were delivered up to, and how often the push had
    /// broken by then. `None` where there is nothing to do: then whoever asked is done.
    fn behind(&self) -> Option<(Vec<(ChannelName, u64)>, u64)> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let behind: Vec<_> = match state.broken {
            // Whoever says that the push is back begins anew.
            true => Vec::new(),
            false => {
                let channels = state.channels.iter_mut();
                let behind = channels.filter(|(_, channel)| channel.phase == Phase::Behind);
                behind
                    .map(|(name, channel)| (name.clone(), channel.begin_reading()))
                    .collect()
            }
        };
        state.catching_up = !behind.is_empty();
        if !state.catching_up && !state.broken {
            self.live.send_replace(true);
        }
        state.catching_up.then_some((behind, state.breaks))
    }

    /// Reads what is kept of channels after these positions, and waits until all that it can hold was pushed.
    async fn read_behind(
        &self,
        behind: Vec<(ChannelName, u64)>,
        failures: &mut HashMap<ChannelName, u32>,
    ) -> Result<Read, BrokerError> {
        let reads = behind.into_iter().map(|(channel, after)| async move {
            let page = self.broker.read(&channel, after, PAGE).await;
            (channel, page)
        });
        let mut reads = stream::iter(reads).buffer_unordered(READERS);
        let (mut read, mut failed) = (Read::new(), Vec::new());
        while let Some((channel, page)) = reads.next().await {
            match page {
                Ok(page) => {
                    failures.remove(&channel);
                    read.add(channel, page);
                }
                Err(error) => failed.push((channel, error)),
            }
        }
        // Of what was read, some may not have been pushed yet, and something before it on another channel neither.
        let position = self.synced().await?;
        // The broker is there: it is they that cannot be read.
        let mut again = None;
        for (channel, error) in failed {
            let times = failures.entry(channel.clone()).or_default();
            *times += 1;
            if *times < ATTEMPTS {
                again = Some(error);
                continue;
            }
            tracing::error!(
                channel = channel.as_str(),
                %error,
                "what was missed of a channel cannot be read; its clients are told of a gap"
            );
            let page = Page {
                missing: position,
                through: position,
                ..Page::default()
            };
            read.add(channel, page);
        }
        match again {
            Some(error) => Err(error),
            None => Ok(read),
        }
    }

    /// Waits until the push has told all that was published before this, and returns up to where.
    async fn synced(&self) -> Result<u64, BrokerError> {
        let mut complete = self.complete.subscribe();
        let position = self.broker.sync().await?;
        let synced = complete.wait_for(|complete| *complete >= position);
        match timeout(SYNC, synced).await {
            Ok(_) => Ok(position),
            Err(_) => Err(BrokerError::Unavailable("the push is late".into())),
        }
    }

    /// Delivers what was read, and what was pushed meanwhile if nothing is missing between the two, in order.
    fn deliver_missed(&self, read: Read, breaks: u64) {
        let mut state = self.state.lock();
        if state.breaks != breaks {
            // What is held now does not follow on what was read before the break.
            return;
        }
        let Read {
            channels,
            mut events,
            mut horizon,
            ..
        } = read;
        for (name, page) in &channels {
            if let Some(channel) = state.channels.get_mut(name) {
                if page.missing > channel.through && channel.is_news(page.missing) {
                    self.space.gap(name, page.missing);
                }
                if !channel.follows_on(page.through) {
                    horizon = horizon.min(page.through);
                }
            }
        }
        let mut missed: Vec<_> = events
            .drain(..)
            .filter(|(_, placed)| placed.position <= horizon)
            .map(|(number, placed)| (number, placed.position, Some(placed)))
            .collect();
        let all = horizon == u64::MAX;
        if all {
            for (number, (name, page)) in channels.iter().enumerate() {
                let held = state
                    .channels
                    .get_mut(name)
                    .map(|channel| channel.take_held());
                let held = held.into_iter().flatten();
                let held = held.filter(|pushed| pushed.position > page.through);
                missed.extend(held.map(|pushed| (number, pushed.position, pushed.placed)));
            }
        }
        missed.sort_by_key(|(_, position, _)| *position);
        for (number, position, placed) in &missed {
            let (name, _) = &channels[*number];
            if let Some(channel) = state.channels.get_mut(name) {
                channel.deliver_missed(*position, placed.as_ref(), &self.listeners(name));
            }
        }
        for (name, page) in &channels {
            if let Some(channel) = state.channels.get_mut(name) {
                channel.caught_up(page.through.min(horizon));
                if all && channel.phase == Phase::Behind {
                    channel.phase = Phase::Live;
                }
            }
        }
    }
}

impl Read {
    fn new() -> Self {
        Self {
            channels: Vec::new(),
            events: Vec::new(),
            bytes: 0,
            horizon: u64::MAX,
        }
    }

    fn add(&mut self, channel: ChannelName, mut page: Page) {
        if page.more {
            self.horizon = self.horizon.min(page.through);
        }
        let number = self.channels.len();
        for placed in page.events.drain(..) {
            self.bytes += cost(&placed);
            self.events.push((number, placed));
        }
        self.channels.push((channel, page));
        if self.bytes > BYTES {
            self.drop_newest();
        }
    }

    /// Lets go of the newest events, which are read again.
    fn drop_newest(&mut self) {
        self.events.sort_by_key(|(_, placed)| placed.position);
        while self.bytes > BYTES / 4 * 3
            && self.events.len() > 1
            && let Some((_, placed)) = self.events.pop()
        {
            self.bytes -= cost(&placed);
            self.horizon = self.horizon.min(placed.position - 1);
        }
    }
}

/// Reads and delivers until no channel is behind.
async fn catch_up(core: Weak<Core>) {
    let mut failures = HashMap::new();
    loop {
        let Some(core) = core.upgrade() else { return };
        let Some((behind, breaks)) = core.behind() else {
            return;
        };
        match core.read_behind(behind, &mut failures).await {
            Ok(read) => core.deliver_missed(read, breaks),
            Err(error) => {
                tracing::debug!(%error, "what was missed cannot be read yet");
                sleep(RETRY).await;
            }
        }
        core.space.room().await;
    }
}

fn cost(placed: &Placed) -> usize {
    placed.event.data_bytes() + EVENT_COST
}
