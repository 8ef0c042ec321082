//! Resuming: where a client that comes back goes on.
//!
//! A client tells one id, the last it heard, and may hear several channels. Because every connection hears the
//! events of all its channels in the order of their sequence numbers ([`super`]), the sequence number of that id
//! is its place on each of them.
//!
//! - Ids that the hub gives are `epoch-sequence`. The epoch is drawn at random when the hub is made, so that ids
//!   from before a restart are recognised as foreign.
//! - Ids that a guest gives are looked up, in the channel's own history first: a guest may use one id on several
//!   channels.
//!
//! Where the history of a channel does not reach back to that place, a gap event tells so, before anything else.
//! For an id that is unknown nothing is replayed after it: the client may have heard any part of the history.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{channel::ChannelName, connection::Connection, history::History};

/// The type of the event that tells of a gap.
pub const GAP_EVENT: &str = "fanfare-gap";

/// The order of all events of a hub, and their ids.
#[derive(Debug)]
pub(super) struct Ids {
    epoch: String,
    /// The sequence number of the newest event.
    newest: u64,
    /// For each id that an event came with and that some history holds.
    own: HashMap<Arc<str>, Place>,
    /// No forgotten channel had an event after this one.
    forgotten_through: u64,
}

#[derive(Debug)]
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

    pub(super) fn add(&mut self, id: &Arc<str>, sequence: u64) {
        let place = self.own.entry(id.clone()).or_insert(Place {
            newest: 0,
            count: 0,
        });
        place.newest = sequence;
        place.count += 1;
    }

    pub(super) fn remove(&mut self, id: &Arc<str>) {
        if let Some(place) = self.own.get_mut(id) {
            place.count -= 1;
            if place.count == 0 {
                self.own.remove(id);
            }
        }
    }

    pub(super) fn forget_channel(&mut self, evicted_through: u64) {
        self.forgotten_through = self.forgotten_through.max(evicted_through);
    }

    pub(super) fn forgotten_through(&self) -> u64 {
        self.forgotten_through
    }

    /// The place of an id that the channel itself does not hold.
    fn elsewhere(&self, id: &str) -> Option<u64> {
        self.own
            .get(id)
            .map(|place| place.newest)
            .or_else(|| self.parse(id))
    }
}

/// Queues what a connection missed on a channel since `last`.
pub(super) fn replay(
    connection: &Connection,
    last: &str,
    channel: &ChannelName,
    history: &History,
    ids: &Ids,
) {
    let position = history.position(last, ids).or_else(|| ids.elsewhere(last));
    let gap = position.is_none_or(|position| position < history.evicted_through());
    let gap = gap.then(|| gap_frame(channel, last));
    let missed = position
        .into_iter()
        .flat_map(|position| history.after(position));
    connection.push_replay(gap.into_iter().chain(missed.map(|kept| kept.frame.clone())));
}

/// The gap event. It has no id, so that the client's place stays where it was.
fn gap_frame(channel: &ChannelName, last: &str) -> Bytes {
    let data = serde_json::json!({ "channel": channel.as_str(), "last-event-id": last });
    Bytes::from(format!("event: {GAP_EVENT}\ndata: {data}\n\n"))
}
