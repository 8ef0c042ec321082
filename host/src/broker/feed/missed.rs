//! Catching up with what was missed: on all channels together, so that it is delivered in one order.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use super::{
    super::{BrokerError, Page, Pushed},
    Core, State,
    channel::Phase,
    returning::PAGE,
};
use crate::hub::channel::ChannelName;

/// Channels that are read at a time.
const READERS: usize = 64;
/// Bytes that are read before they are delivered. A node that missed more delivers it in parts, each in order.
const BYTES: usize = 16 << 20;
/// What an event counts beside its data.
const EVENT_COST: usize = 256;
/// After something that failed, it is tried again after this time.
pub(super) const RETRY: Duration = Duration::from_millis(100);
/// How long the push may take to tell how far it is.
const SYNC: Duration = Duration::from_secs(1);

/// What was read of a channel after what had been delivered.
struct Read {
    channel: ChannelName,
    page: Page,
}

impl Core {
    /// Something was missed: holds everything back until it was read.
    pub(super) fn fall_behind(self: &Arc<Self>, state: &mut State) {
        for channel in state.channels.values_mut() {
            channel.fall_behind();
        }
        if !state.broken && !std::mem::replace(&mut state.catching_up, true) {
            self.runtime.spawn(catch_up(Arc::downgrade(self)));
        }
    }

    /// The channels that are behind, with the positions that they were delivered up to, and how often the push had
    /// broken by then. `None` where there is nothing to do: then whoever asked is done.
    fn behind(&self) -> Option<(Vec<(ChannelName, u64)>, u64)> {
        let mut state = self.state.lock();
        let behind: Vec<_> = match state.broken {
            // Whoever says that the push is back begins anew.
            true => Vec::new(),
            false => {
                let channels = state.channels.iter();
                let behind = channels.filter(|(_, channel)| channel.phase == Phase::Behind);
                behind
                    .map(|(name, channel)| (name.clone(), channel.through))
                    .collect()
            }
        };
        state.catching_up = !behind.is_empty();
        state.catching_up.then_some((behind, state.breaks))
    }

    /// Reads all that is kept of channels after these positions, but for what is too much.
    async fn read_behind(&self, behind: Vec<(ChannelName, u64)>) -> Result<Vec<Read>, BrokerError> {
        let reads = behind.into_iter().map(|(channel, after)| async move {
            let page = self.read_all(&channel, after).await?;
            Ok::<_, BrokerError>(Read { channel, page })
        });
        let mut reads = stream::iter(reads).buffer_unordered(READERS);
        let (mut all, mut bytes) = (Vec::new(), 0);
        while let Some(read) = reads.next().await {
            let read = read?;
            bytes += cost(&read.page);
            all.push(read);
            if bytes > BYTES {
                break;
            }
        }
        Ok(all)
    }

    async fn read_all(&self, channel: &ChannelName, after: u64) -> Result<Page, BrokerError> {
        let mut all = self.broker.read(channel, after, PAGE).await?;
        while all.more && cost(&all) < BYTES {
            let page = self.broker.read(channel, all.through, PAGE).await?;
            if page.missing > 0 {
                // It was too slow: what was read before is delivered, and then the gap is told.
                break;
            }
            all.events.extend(page.events);
            all.through = page.through;
            all.more = page.more;
        }
        Ok(all)
    }

    /// Waits until the push has told all that was published before this.
    async fn synced(&self) -> Result<(), BrokerError> {
        let mut complete = self.complete.subscribe();
        let position = self.broker.sync().await?;
        let synced = complete.wait_for(|complete| *complete >= position);
        match timeout(SYNC, synced).await {
            Ok(_) => Ok(()),
            Err(_) => Err(BrokerError::Unavailable("the push is late".into())),
        }
    }

    /// Delivers what was read and what was pushed meanwhile, in order. What does not fit together stays behind.
    fn deliver_missed(&self, reads: Vec<Read>, breaks: u64) {
        let mut state = self.state.lock();
        if state.breaks != breaks {
            // What is held now does not follow on what was read before the break.
            return;
        }
        let mut missed: Vec<(usize, Pushed)> = Vec::new();
        let mut channels = Vec::new();
        for Read { channel, page } in reads {
            let Some(entry) = state.channels.get_mut(&channel) else {
                continue;
            };
            let (gap, through, more) = (page.missing, page.through, page.more);
            let after = entry.through;
            // What is held comes after more than was read.
            let events = match more {
                true => {
                    let events = page.events.into_iter().map(|placed| Pushed {
                        position: placed.position,
                        previous: None,
                        placed: Some(placed),
                    });
                    Some(events.filter(|pushed| pushed.position > after).collect())
                }
                false => entry.caught_up(page),
            };
            let Some(events) = events else { continue };
            if gap > after {
                self.space.gap(&channel, gap);
            }
            missed.extend(events.into_iter().map(|pushed| (channels.len(), pushed)));
            channels.push((channel, through, more));
        }
        missed.sort_by_key(|(_, pushed)| pushed.position);
        for (number, pushed) in &missed {
            let (channel, ..) = &channels[*number];
            if let Some(entry) = state.channels.get_mut(channel) {
                entry.deliver_missed(pushed, &self.listeners(channel));
            }
        }
        for (channel, through, more) in &channels {
            if let Some(entry) = state.channels.get_mut(channel)
                && !more
            {
                entry.go_live(*through);
            }
        }
    }
}

/// Reads and delivers until no channel is behind.
async fn catch_up(core: Weak<Core>) {
    loop {
        let Some(core) = core.upgrade() else { return };
        let Some((behind, breaks)) = core.behind() else {
            return;
        };
        let reads = async {
            let reads = core.read_behind(behind).await?;
            // Of what was read, some may not have been pushed yet, and something before it on another channel neither.
            core.synced().await?;
            Ok::<_, BrokerError>(reads)
        };
        match reads.await {
            Ok(reads) => core.deliver_missed(reads, breaks),
            Err(error) => {
                tracing::debug!(%error, "what was missed cannot be read yet");
                sleep(RETRY).await;
            }
        }
        core.space.room().await;
    }
}

fn cost(page: &Page) -> usize {
    let events = page.events.iter();
    events
        .map(|placed| placed.event.data_bytes() + EVENT_COST)
        .sum()
}
