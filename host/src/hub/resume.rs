//! Resuming: where a client that comes back goes on.
//!
//! A client tells one id, the last it heard, and may hear several channels. Because every connection hears the
//! events of all its channels in the order of their sequence numbers ([`super`]), the sequence number of that id
//! is its place on each of them. Catching up keeps that order: a connection that comes back is held until its
//! handler has registered it, and what it missed on all channels leaves merged. Where a handler registers it for
//! one more channel after that, older events follow newer ones, and a block of nothing but an id after them puts
//! the client's place right again.
//!
//! - Ids that the hub gives are `epoch-sequence`. The epoch is drawn at random when the hub is made, so that ids
//!   from before a restart are recognised as foreign.
//! - Ids that a guest gives are looked up, in the channel's own history first. A guest that uses an id on several
//!   channels has told that its ids are places on their own channels only: from then on none of them is looked
//!   up for another channel.
//!
//! Where the history of a channel does not reach back to that place, a gap event tells so, before anything else.
//! For an id that is unknown nothing is replayed after it: the client may have heard any part of the history.

use std::{collections::HashMap, sync::Arc};

use super::{channel::ChannelName, frame::Frame, history::History, older::Older};

/// The type of the event that tells of a gap.
pub const GAP_EVENT: &str = "fanfare-gap";

/// The order of all events of a hub, and their ids.
#[derive(Debug)]
pub(super) struct Ids {
    epoch: String,
    /// The sequence number of the newest event.
    newest: u64,
    /// The ids that events came with and that some history holds, for each space.
    own: HashMap<u32, OwnIds>,
    /// No forgotten channel had an event after this one.
    forgotten_through: u64,
}

#[derive(Debug, Default)]
struct OwnIds {
    places: HashMap<Arc<str>, Place>,
    /// One id was on two channels at a time, be it one that the hub gave.
    reused: bool,
}

#[derive(Debug, Default)]
struct Place {
    /// The sequence number of the newest event with the id.
    newest: u64,
    /// How many histories hold one.
    count: usize,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self {
            epoch: format!("{:010x}", rand::random::<u64>() >> 24),
            newest: 0,
            own: HashMap::new(),
            forgotten_through: 0,
        }
    }

    /// Somebody else has given an event this number: the next one is after it.
    pub(super) fn saw(&mut self, sequence: u64) {
        self.newest = self.newest.max(sequence);
    }

    /// The next sequence number.
    pub(super) fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// The id of an event that came without one.
    pub(super) fn name(&self, sequence: u64) -> String {
        format!("{}-{sequence}", self.epoch)
    }

    /// The sequence number of an id that [`Ids::name`] gave.
    pub(super) fn parse(&self, id: &str) -> Option<u64> {
        let number = id.strip_prefix(self.epoch.as_str())?.strip_prefix('-')?;
        let sequence = number
            .parse()
            .ok()
            .filter(|sequence| *sequence <= self.newest)?;
        // `parse` takes "+7" and "007" as well, which were never given.
        (self.name(sequence) == id).then_some(sequence)
    }

    pub(super) fn add(&mut self, space: u32, id: &Arc<str>, sequence: u64) {
        let given = self.parse(id).is_some();
        let own = self.own.entry(space).or_default();
        let place = own.places.entry(id.clone()).or_default();
        place.newest = sequence;
        place.count += 1;
        own.reused |= place.count > 1 || given;
    }

    pub(super) fn remove(&mut self, space: u32, id: &str) {
        let Some(own) = self.own.get_mut(&space) else {
            return;
        };
        if let Some(place) = own.places.get_mut(id) {
            place.count -= 1;
            if place.count == 0 {
                own.places.remove(id);
            }
        }
    }

    pub(super) fn forget_channel(&mut self, evicted_through: u64) {
        self.forgotten_through = self.forgotten_through.max(evicted_through);
    }

    pub(super) fn forgotten_through(&self) -> u64 {
        self.forgotten_through
    }

    /// Whether no history holds an id that an event came with.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.own.values().all(|own| own.places.is_empty())
    }

    /// The place of an id that the channel itself does not hold.
    fn elsewhere(&self, space: u32, id: &str) -> Option<u64> {
        let own = self.own.get(&space);
        match own.and_then(|own| Some((own, own.places.get(id)?))) {
            Some((own, place)) => (!own.reused).then_some(place.newest),
            None => self.parse(id),
        }
    }
}

/// Whose order a channel is in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order<'a> {
    /// The hub's, which knows the place of an id itself.
    Hub,
    /// A broker's, and the place there of the client's id, if it is known; and what goes before the history of the channel,
    /// if that was looked for.
    Broker(Option<u64>, Option<&'a Older>),
}

/// The place on a channel of a client that heard `last`.
pub(super) fn place(last: &str, space: u32, history: &History, ids: &Ids) -> Option<u64> {
    history
        .position(last, ids)
        .or_else(|| ids.elsewhere(space, last))
}

/// What a client that heard `last` is told first of a channel, as of its place there.
pub(super) struct Replay {
    /// History does not reach back to its place.
    pub(super) gap: Option<Arc<Frame>>,
    /// What it missed, as far as history has it.
    pub(super) missed: Vec<Arc<Frame>>,
}

/// What a client missed on a channel since its place there.
pub(super) fn replay(
    last: &str,
    channel: &ChannelName,
    history: &History,
    place: Option<u64>,
    older: Option<&Older>,
) -> Replay {
    let evicted = history.evicted_through();
    let older = older.filter(|older| older.reach(history));
    let missing = older.map_or(evicted, |older| older.missing().min(evicted));
    let gap = place.is_none_or(|place| place < missing);
    let mut missed = Vec::new();
    if let Some(place) = place {
        let older = older.into_iter();
        missed.extend(
            older
                .flat_map(|older| older.before(history, place))
                .cloned(),
        );
        let is_whole = missed.is_empty();
        missed.extend(history.after(place).cloned());
        if !is_whole {
            // Where there is a hole in the history, some may be in both.
            missed.sort_by_key(|frame| frame.sequence);
            missed.dedup_by_key(|frame| frame.sequence);
        }
    }
    Replay {
        gap: gap.then(|| gap_frame(channel, Some(last), 0)),
        missed,
    }
}

/// The gap event, for a client that came back with this id, or for one that was there all the time. It has no id
/// itself, so that the client's place stays where it was.
pub(super) fn gap_frame(channel: &ChannelName, last: Option<&str>, sequence: u64) -> Arc<Frame> {
    let data = serde_json::json!({ "channel": channel.as_str(), "last-event-id": last });
    Frame::word(&format!("event: {GAP_EVENT}\ndata: {data}\n\n"), sequence)
}
