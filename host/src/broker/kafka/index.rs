//! What a node keeps of the log that it has read: the events of every channel, and their ids.
//!
//! All nodes read the same records in the same order, and what follows from them follows on every node alike:
//!
//! - **Positions.** A record with the offset `o` has the position `o + 1 + base`. Where there are several partitions, what is
//!   called offset here is the place in their order (see [`merge`](super::merge)). Ids that events are given are
//!   `<epoch>-<position>`. Epoch and base are what the newest [`Mark`] says that counts.
//! - **Marks.** One counts if there was none that does since its author had last looked: so of two nodes that name the
//!   log at the same moment, one has its way. A mark with another epoch than before begins a new log, whose positions
//!   come after those of the old one: what was before it is forgotten.
//! - **Duplicates.** Of the records of a channel that have the same id, the first one is the event. Those that follow
//!   are skipped, until it is not kept any more.
//!
//! Time is that of the records, so that all nodes agree on what has grown too old; it never goes back, and never beyond
//! the node's own, because a producer may claim any time.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use smallvec::SmallVec;

use super::{
    super::{Page, Retention, ids},
    record::Mark,
};
use crate::{
    event::{Event, IdForm},
    hub::{carried::Placed, channel::ChannelName},
};

/// What an event counts beside its data and its id.
const EVENT_COST: usize = 256;

/// What is kept. Places are counted from 1 here: the place of a record is its offset and one.
#[derive(Debug)]
pub(super) struct Index {
    retention: Retention,
    /// The most that all events may cost together.
    memory: usize,
    epoch: Option<Epoch>,
    /// The place of the newest record that was read, or of the one before the first that is to be.
    newest: u64,
    /// The time of that record, in milliseconds since 1970.
    time: u64,
    /// Records up to this place were not read, or what they said was forgotten, on whatever channel.
    floor: u64,
    /// No channel of which nothing is kept any more had an event after this place.
    forgotten: u64,
    channels: HashMap<ChannelName, Channel>,
    /// The channels by the places of their oldest events.
    oldest: BTreeMap<u64, ChannelName>,
    /// The channels and places of the events that came with an id.
    ids: HashMap<String, SmallVec<[(ChannelName, u64); 1]>>,
    cost: usize,
}

#[derive(Debug)]
struct Epoch {
    name: String,
    base: u64,
    /// The place of the first mark that gave the log this name.
    began: u64,
    /// The place of the newest mark that counts, and its time.
    marked: u64,
    time: u64,
}

#[derive(Debug)]
struct Channel {
    events: VecDeque<Kept>,
    /// Its events up to this place are not kept any more.
    evicted: u64,
}

#[derive(Debug)]
struct Kept {
    place: u64,
    time: u64,
    /// `None` for one that this node cannot read: clients are to know that they miss it.
    event: Option<Event>,
}

/// What became of a record with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The position of the event: its own, or that of the one before it with the same id.
    pub(super) position: u64,
    pub(super) duplicate: bool,
    /// The id of the event; `None` while the log has no name.
    pub(super) id: Option<String>,
}

// === impl Index ===

impl Index {
    /// Nothing was read yet. The first record that is to be read has this offset.
    pub(super) fn new(retention: Retention, memory: usize, offset: u64) -> Self {
        Self {
            retention,
            memory,
            epoch: None,
            newest: offset,
            time: 0,
            floor: offset,
            forgotten: 0,
            channels: HashMap::new(),
            oldest: BTreeMap::new(),
            ids: HashMap::new(),
            cost: 0,
        }
    }

    /// The offset of the record that comes next.
    pub(super) fn next_offset(&self) -> u64 {
        self.newest
    }

    /// The position of the newest record that was read.
    pub(super) fn newest(&self) -> u64 {
        self.position(self.newest)
    }

    /// The position of the record with this offset.
    pub(super) fn position_of(&self, offset: u64) -> u64 {
        self.position(offset.saturating_add(1))
    }

    /// What the log is called.
    pub(super) fn epoch(&self) -> Option<&str> {
        self.epoch.as_ref().map(|epoch| epoch.name.as_str())
    }

    /// The time of the newest mark that counts, in milliseconds since 1970.
    pub(super) fn marked(&self) -> u64 {
        self.epoch.as_ref().map_or(0, |epoch| epoch.time)
    }

    /// A mark that says what counts now.
    pub(super) fn mark_again(&self) -> Option<Mark> {
        let epoch = self.epoch.as_ref()?;
        Some(Mark {
            epoch: epoch.name.clone(),
            base: epoch.base,
            after: self.newest,
        })
    }

    /// A mark that gives the log a new name, and positions greater than this one.
    pub(super) fn mark_anew(&self, position: u64) -> Mark {
        let base = self.epoch.as_ref().map_or(0, |epoch| epoch.base);
        Mark {
            epoch: format!("r{:09x}", rand::random::<u64>() >> 28),
            base: base.max(position.saturating_sub(self.newest)),
            after: self.newest,
        }
    }

    /// All records before this offset were read.
    pub(super) fn pass(&mut self, offset: u64) {
        self.newest = self.newest.max(offset);
    }

    /// Begins with the record that has this offset and this time, where the node's own time is `now`.
    pub(super) fn read(&mut self, offset: u64, time: u64, now: u64) {
        self.newest = self.newest.max(offset.saturating_add(1));
        self.time = self.time.max(time.min(now));
        let age = millis(self.retention.age);
        while let Some((_, channel)) = self.oldest.first_key_value()
            && let Some(known) = self.channels.get(channel)
            && known
                .events
                .front()
                .is_some_and(|event| event.time.saturating_add(age) <= self.time)
        {
            let channel = channel.clone();
            self.evict(&channel);
        }
    }

    /// The record that was read last is an event.
    pub(super) fn take(&mut self, channel: &ChannelName, event: Event) -> Taken {
        let place = self.newest;
        if let Some(id) = event.id() {
            if let Some(known) = self.place_of(channel, id) {
                return Taken {
                    position: self.position(known),
                    duplicate: true,
                    id: Some(id.to_owned()),
                };
            }
            let places = self.ids.entry(id.to_owned()).or_default();
            places.push((channel.clone(), place));
        }
        let id = match event.id() {
            Some(id) => Some(id.to_owned()),
            None => self.id_of(place),
        };
        self.keep(channel, Some(event));
        Taken {
            position: self.position(place),
            duplicate: false,
            id,
        }
    }

    /// The record that was read last is an event of a channel that this node cannot read. Returns its position.
    pub(super) fn take_unreadable(&mut self, channel: &ChannelName) -> u64 {
        self.keep(channel, None);
        self.newest()
    }

    /// Keeps the event of the record that was read last, and lets go of what is too much then.
    fn keep(&mut self, channel: &ChannelName, event: Option<Event>) {
        let place = self.newest;
        self.cost += cost(event.as_ref());
        let kept = Kept {
            place,
            time: self.time,
            event,
        };
        let known = self.channels.entry(channel.clone());
        let known = known.or_insert_with(|| Channel {
            events: VecDeque::new(),
            evicted: self.forgotten,
        });
        if known.events.is_empty() {
            self.oldest.insert(place, channel.clone());
        }
        known.events.push_back(kept);
        if known.events.len() > self.retention.events.max(1) {
            self.evict(channel);
        }
        while self.cost > self.memory
            && let Some((_, channel)) = self.oldest.first_key_value()
        {
            let channel = channel.clone();
            self.evict(&channel);
        }
    }

    /// The record that was read last is a mark of this time, in milliseconds since 1970. Whether it begins a new log.
    pub(super) fn mark(&mut self, mark: Mark, time: u64) -> bool {
        let marked = self.newest;
        let Mark {
            epoch: name,
            base,
            after,
        } = mark;
        let counts = self
            .epoch
            .as_ref()
            .is_none_or(|known| known.marked <= after && known.base <= base);
        if !counts {
            return false;
        }
        let anew = self
            .epoch
            .as_ref()
            .is_some_and(|known| known.name != name || known.base != base);
        if anew {
            self.forget();
        }
        let began = match &self.epoch {
            Some(known) if !anew => known.began,
            _ => marked,
        };
        self.epoch = Some(Epoch {
            name,
            base,
            began,
            marked,
            time,
        });
        anew
    }

    /// The log is another one than the one that was read up to this position: what is there from before it was given its
    /// name may not be all that there was, and who heard the other one up to there is to be told so.
    pub(super) fn forget_up_to(&mut self, position: u64) {
        let began = self.epoch.as_ref().map_or(0, |epoch| epoch.began);
        let known = self.place(position).map_or(0, |place| place + 1);
        self.floor = self.floor.max(began).max(known);
        while let Some((place, channel)) = self.oldest.first_key_value()
            && *place <= self.floor
        {
            let channel = channel.clone();
            self.evict(&channel);
        }
    }

    /// Forgets all that was read.
    fn forget(&mut self) {
        self.floor = self.newest;
        self.channels.clear();
        self.oldest.clear();
        self.ids.clear();
        self.cost = 0;
    }

    /// An event as it is delivered.
    pub(super) fn placed(&self, taken: &Taken, event: Event, own_id: bool) -> Option<Placed> {
        let id = taken.id.clone()?;
        let age = Duration::ZERO;
        placed(event, taken.position, own_id, id, age)
    }

    /// Reads events of a channel after a position.
    pub(super) fn page(&self, channel: &ChannelName, after: u64, limit: usize, now: u64) -> Page {
        let oldest = now.saturating_sub(millis(self.retention.age));
        let mut page = Page {
            missing: self.floor.max(self.forgotten),
            through: self.newest(),
            ..Page::default()
        };
        if let Some(channel) = self.channels.get(channel) {
            let events = &channel.events;
            let too_old = events.partition_point(|kept| kept.time <= oldest);
            let too_old = too_old.checked_sub(1).and_then(|index| events.get(index));
            let evicted = too_old.map_or(channel.evicted, |kept| kept.place);
            page.missing = self.floor.max(evicted);
            let first = after.max(self.position(evicted));
            let first = events.partition_point(|kept| self.position(kept.place) <= first);
            page.more = events.len() - first > limit;
            for kept in events.iter().skip(first).take(limit) {
                if page.more {
                    page.through = self.position(kept.place);
                }
                match &kept.event {
                    Some(event) => page.events.extend(self.placed_kept(kept, event, now)),
                    None => page.missing = kept.place,
                }
            }
        }
        page.missing = match page.missing {
            0 => 0,
            place => self.position(place),
        };
        if page.missing <= after {
            page.missing = 0;
        }
        page
    }

    /// An event that is kept, as it is delivered.
    fn placed_kept(&self, kept: &Kept, event: &Event, now: u64) -> Option<Placed> {
        let own_id = event.id().is_some();
        let id = match event.id() {
            Some(id) => id.to_owned(),
            None => self.id_of(kept.place)?,
        };
        let age = Duration::from_millis(now.saturating_sub(kept.time));
        placed(event.clone(), self.position(kept.place), own_id, id, age)
    }

    /// The position of an id, as far as it was read.
    pub(super) fn find(&self, channel: &ChannelName, id: &str) -> Option<u64> {
        if let Some(position) = self.given(id) {
            return Some(position);
        }
        let place = self.place_of(channel, id).or_else(|| {
            // On several channels it is a place on its own channels only.
            match self.ids.get(id)?.as_slice() {
                [(_, place)] => Some(*place),
                _ => None,
            }
        });
        place.map(|place| self.position(place))
    }

    /// The position in an id that this log gave.
    fn given(&self, id: &str) -> Option<u64> {
        let position = ids::position_of(self.epoch()?, id)?;
        (self.place(position)? <= self.newest).then_some(position)
    }

    fn place_of(&self, channel: &ChannelName, id: &str) -> Option<u64> {
        let places = self.ids.get(id)?;
        let mut own = places.iter().filter(|(known, _)| known == channel);
        own.next().map(|(_, place)| *place)
    }

    /// Lets go of the oldest event of a channel.
    fn evict(&mut self, channel: &ChannelName) {
        let Some(known) = self.channels.get_mut(channel) else {
            return;
        };
        let Some(evicted) = known.events.pop_front() else {
            return;
        };
        known.evicted = evicted.place;
        self.cost = self.cost.saturating_sub(cost(evicted.event.as_ref()));
        self.oldest.remove(&evicted.place);
        match known.events.front() {
            Some(next) => {
                self.oldest.insert(next.place, channel.clone());
            }
            None => {
                self.forgotten = self.forgotten.max(evicted.place);
                self.channels.remove(channel);
            }
        }
        if let Some(id) = evicted.event.as_ref().and_then(Event::id)
            && let Some(places) = self.ids.get_mut(id)
        {
            places.retain(|(known, _)| known != channel);
            if places.is_empty() {
                self.ids.remove(id);
            }
        }
    }

    fn base(&self) -> u64 {
        self.epoch.as_ref().map_or(0, |epoch| epoch.base)
    }

    fn position(&self, place: u64) -> u64 {
        place.saturating_add(self.base())
    }

    fn place(&self, position: u64) -> Option<u64> {
        let place = position.checked_sub(self.base())?;
        (place > 0).then_some(place)
    }

    /// The id that the log gives to the event of this place.
    fn id_of(&self, place: u64) -> Option<String> {
        let epoch = self.epoch()?;
        Some(ids::id_of(epoch, self.position(place)))
    }
}

fn placed(event: Event, position: u64, own_id: bool, id: String, age: Duration) -> Option<Placed> {
    let event = match own_id {
        true => event,
        false => event.with_id(id, IdForm::Plain).ok()?,
    };
    Some(Placed {
        position,
        event,
        own_id,
        age,
    })
}

/// The id is kept twice.
fn cost(event: Option<&Event>) -> usize {
    let bytes = event.map_or(0, |event| {
        event.data_bytes() + 2 * event.id().map_or(0, str::len)
    });
    bytes + EVENT_COST
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
