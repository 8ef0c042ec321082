//! History: the newest events of a channel, bounded in number, bytes and age.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Settings, resume::Ids};
use crate::event::Event;

/// An event that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Its place in the order of all events of the hub.
    pub(super) sequence: u64,
    /// Its id, where it came with one; the hub's own ids are told from the sequence number.
    own_id: Option<Arc<str>>,
    /// Whether its data is JSON.
    json: bool,
    /// Its form on the wire.
    pub(super) frame: Bytes,
    /// When it was published.
    at: Instant,
}

/// What one channel keeps.
#[derive(Debug)]
pub(super) struct History {
    /// Oldest first, and so in the order of their sequence numbers.
    events: VecDeque<Kept>,
    /// Bytes of all frames.
    bytes: usize,
    /// What the events cost beside their frames.
    overhead: usize,
    /// Where the events with an id of their own are.
    own_ids: HashMap<Arc<str>, u64>,
    /// Events up to this sequence number may have been on this channel and are not here; later ones are.
    evicted_through: u64,
    /// Whether the hub looks at it when it is due. It does from the first event on, and until it finds it empty.
    pub(super) watched: bool,
    /// The space of the channel, where ids that events come with are known by.
    space: u32,
}

/// What an event costs beside the bytes of its frame.
const EVENT_COST: usize = 128;
/// What an id costs that an event came with, beside its bytes, in the places where ids are looked up.
const OWN_ID_COST: usize = 160;
/// What a channel with a history costs: its name, its place among the channels, and its place among those due.
const CHANNEL_COST: usize = 1024;

impl Kept {
    pub(super) fn new(
        sequence: u64,
        own_id: Option<&str>,
        json: bool,
        frame: Bytes,
        at: Instant,
    ) -> Self {
        Self {
            sequence,
            own_id: own_id.map(Arc::from),
            json,
            frame,
            at,
        }
    }

    fn overhead(&self) -> usize {
        let own_id = self.own_id.as_ref();
        EVENT_COST + own_id.map_or(0, |id| OWN_ID_COST + id.len())
    }

    /// Its id.
    pub(super) fn id(&self, ids: &Ids) -> String {
        match &self.own_id {
            Some(id) => id.to_string(),
            None => ids.name(self.sequence),
        }
    }

    /// The event, read back from its wire form.
    pub(super) fn event(&self, limit: usize) -> Option<Event> {
        Event::decode(&self.frame, self.json, limit).ok()
    }
}

impl History {
    pub(super) fn new(evicted_through: u64) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            overhead: 0,
            own_ids: HashMap::new(),
            evicted_through,
            watched: false,
            space: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn evicted_through(&self) -> u64 {
        self.evicted_through
    }

    /// Events up to this sequence number may be missing between those that are kept.
    pub(super) fn missed_through(&mut self, sequence: u64) {
        self.evicted_through = self.evicted_through.max(sequence);
    }

    /// What it costs to keep this, in bytes.
    pub(super) fn cost(&self) -> usize {
        match self.is_empty() {
            true => 0,
            false => CHANNEL_COST + self.bytes + self.overhead,
        }
    }

    /// Keeps an event, and forgets the oldest ones that this is one too many for.
    pub(super) fn push(&mut self, kept: Kept, space: u32, settings: &Settings, ids: &mut Ids) {
        self.space = space;
        self.bytes += kept.frame.len();
        self.overhead += kept.overhead();
        if let Some(id) = &kept.own_id {
            self.own_ids.insert(id.clone(), kept.sequence);
            ids.add(space, id, kept.sequence);
        }
        self.events.push_back(kept);
        while self.events.len() > settings.history_events || self.bytes > settings.history_bytes {
            self.evict(ids);
        }
    }

    /// When its oldest event has grown too old.
    pub(super) fn due(&self, age: Duration) -> Option<Instant> {
        self.events.front().map(|oldest| oldest.at + age)
    }

    /// Forgets what was published `age` or longer before `now`.
    pub(super) fn expire(&mut self, now: Instant, age: Duration, ids: &mut Ids) {
        while self.due(age).is_some_and(|due| due <= now) {
            self.evict(ids);
        }
    }

    /// The sequence number of the event with this id.
    pub(super) fn position(&self, id: &str, ids: &Ids) -> Option<u64> {
        if let Some(sequence) = self.own_ids.get(id) {
            return Some(*sequence);
        }
        let sequence = ids.parse(id)?;
        let index = self.index(sequence)?;
        self.events[index].own_id.is_none().then_some(sequence)
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        let found = self
            .events
            .binary_search_by_key(&sequence, |kept| kept.sequence);
        found.ok()
    }

    /// The events after this sequence number, oldest first. Finding the first takes a binary search, however
    /// long the history is.
    pub(super) fn after(&self, sequence: u64) -> impl Iterator<Item = &Kept> {
        let start = self
            .events
            .partition_point(|kept| kept.sequence <= sequence);
        self.events.range(start..)
    }

    /// The newest events, oldest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<Kept> {
        self.events
            .range(self.events.len().saturating_sub(limit)..)
            .cloned()
            .collect()
    }

    /// Forgets the oldest event.
    pub(super) fn evict(&mut self, ids: &mut Ids) {
        let Some(oldest) = self.events.pop_front() else {
            return;
        };
        self.bytes -= oldest.frame.len();
        self.overhead -= oldest.overhead();
        self.missed_through(oldest.sequence);
        if let Some(id) = oldest.own_id {
            self.own_ids.remove(&id);
            ids.remove(self.space, &id);
        }
    }
}
