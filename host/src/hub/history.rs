//! History: the newest events of a channel, bounded in number, bytes and age.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Settings, frame::Frame, resume::Ids};

/// What one channel keeps.
#[derive(Debug)]
pub(super) struct History {
    /// `None` where there is nothing: most channels of a node are quiet.
    kept: Option<Box<Kept>>,
    /// Events up to this sequence number may have been on this channel and are not here; later ones are.
    evicted_through: u64,
    /// The newest event that was here, or the last one before the first that was to be here.
    seen_through: u64,
}

/// The events of a history.
#[derive(Debug, Default)]
struct Kept {
    /// Oldest first, and so in the order of their sequence numbers.
    events: VecDeque<Arc<Frame>>,
    /// Bytes of all of them.
    bytes: usize,
    /// What they cost beside that.
    overhead: usize,
    /// Where those with an id of their own are.
    own_ids: HashMap<Arc<str>, u64>,
}

/// What an event costs beside its bytes.
const EVENT_COST: usize = 192;
/// What an id costs that an event came with, beside its bytes, in the places where ids are looked up.
const OWN_ID_COST: usize = 160;
/// What a channel with a history costs: its name, its place among the channels, and its place among those due.
const CHANNEL_COST: usize = 512;

impl History {
    pub(super) fn new(evicted_through: u64) -> Self {
        Self {
            kept: None,
            evicted_through,
            seen_through: evicted_through,
        }
    }

    fn events(&self) -> Option<&VecDeque<Arc<Frame>>> {
        self.kept.as_ref().map(|kept| &kept.events)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_none()
    }

    pub(super) fn evicted_through(&self) -> u64 {
        self.evicted_through
    }

    /// Events up to this sequence number were here, if there were any, or were before it began.
    pub(super) fn seen_through(&self) -> u64 {
        self.seen_through
    }

    /// Events up to this sequence number may be missing between those that are kept.
    pub(super) fn missed_through(&mut self, sequence: u64) {
        self.evicted_through = self.evicted_through.max(sequence);
    }

    /// Forgets all of it. Events up to this sequence number may have been on this channel; later ones will be here.
    pub(super) fn begin_after(&mut self, sequence: u64, space: u32, ids: &mut Ids) {
        while self.kept.is_some() {
            self.evict(space, ids);
        }
        self.evicted_through = sequence;
        self.seen_through = sequence;
    }

    /// Puts older events, oldest first, in front of those that are kept. Events up to this sequence number may have
    /// been on this channel and are not among them.
    pub(super) fn prepend(
        &mut self,
        older: Vec<Arc<Frame>>,
        evicted_through: u64,
        space: u32,
        settings: &Settings,
        ids: &mut Ids,
    ) {
        let newer = self.kept.take().map(|kept| kept.events).unwrap_or_default();
        for frame in &newer {
            if let Some(id) = frame.own_id() {
                ids.remove(space, id);
            }
        }
        self.evicted_through = evicted_through;
        // After a gap there may be some that are here already.
        let first = newer.front().map_or(u64::MAX, |frame| frame.sequence);
        let older = older.into_iter();
        for frame in older.filter(|frame| frame.sequence < first).chain(newer) {
            self.push(frame, space, settings, ids);
        }
    }

    /// What it costs to keep this, in bytes.
    pub(super) fn cost(&self) -> usize {
        let kept = self.kept.as_ref();
        kept.map_or(0, |kept| CHANNEL_COST + kept.bytes + kept.overhead)
    }

    /// Keeps an event of a channel in this space, and forgets the oldest ones that this is one too many for.
    pub(super) fn push(
        &mut self,
        frame: Arc<Frame>,
        space: u32,
        settings: &Settings,
        ids: &mut Ids,
    ) {
        self.seen_through = self.seen_through.max(frame.sequence);
        let kept = self.kept.get_or_insert_default();
        kept.bytes += frame.len();
        kept.overhead += overhead(&frame);
        if let Some(id) = frame.own_id() {
            let id: Arc<str> = id.into();
            kept.own_ids.insert(id.clone(), frame.sequence);
            ids.add(space, &id, frame.sequence);
        }
        kept.events.push_back(frame);
        while let Some(kept) = &self.kept
            && (kept.events.len() > settings.history_events || kept.bytes > settings.history_bytes)
        {
            self.evict(space, ids);
        }
    }

    /// When its oldest event has grown too old.
    pub(super) fn due(&self, age: Duration) -> Option<Instant> {
        self.events()?.front().map(|oldest| oldest.at + age)
    }

    /// Forgets what was published `age` or longer before `now`.
    pub(super) fn expire(&mut self, now: Instant, age: Duration, space: u32, ids: &mut Ids) {
        while self.due(age).is_some_and(|due| due <= now) {
            self.evict(space, ids);
        }
    }

    /// The sequence number of the event with this id.
    pub(super) fn position(&self, id: &str, ids: &Ids) -> Option<u64> {
        let kept = self.kept.as_ref()?;
        if let Some(sequence) = kept.own_ids.get(id) {
            return Some(*sequence);
        }
        let sequence = ids.parse(id)?;
        let events = &kept.events;
        let index = events.binary_search_by_key(&sequence, |frame| frame.sequence);
        let frame = &events[index.ok()?];
        frame.own_id().is_none().then_some(sequence)
    }

    /// The events after this sequence number, oldest first. Finding the first takes a binary search, however
    /// long the history is.
    pub(super) fn after(&self, sequence: u64) -> impl Iterator<Item = &Arc<Frame>> {
        let events = self.events().into_iter();
        events.flat_map(move |events| {
            let start = events.partition_point(|frame| frame.sequence <= sequence);
            events.range(start..)
        })
    }

    /// The newest event.
    pub(super) fn last(&self) -> Option<&Arc<Frame>> {
        self.events()?.back()
    }

    /// The newest events, oldest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<Arc<Frame>> {
        let events = self.events().into_iter();
        let newest = events.flat_map(|events| events.range(events.len().saturating_sub(limit)..));
        newest.cloned().collect()
    }

    /// Forgets the oldest event.
    pub(super) fn evict(&mut self, space: u32, ids: &mut Ids) {
        let Some(kept) = &mut self.kept else { return };
        if let Some(oldest) = kept.events.pop_front() {
            kept.bytes -= oldest.len();
            kept.overhead -= overhead(&oldest);
            if let Some(id) = oldest.own_id()
                && let Some((id, _)) = kept.own_ids.remove_entry(id)
            {
                ids.remove(space, &id);
            }
            self.evicted_through = self.evicted_through.max(oldest.sequence);
        }
        if kept.events.is_empty() {
            self.kept = None;
        }
    }
}

fn overhead(frame: &Frame) -> usize {
    EVENT_COST + frame.own_id().map_or(0, |id| OWN_ID_COST + id.len())
}
