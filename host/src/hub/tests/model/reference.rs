//! What a client ought to hear, by the words of the contract alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{BIG, CHANNELS_PER_CONNECTION, KEPT, NAMES, SPACES, client::Item};
use crate::hub::connection::CloseReason;

/// All that an app has published, who hears it, and who heard what.
#[derive(Debug, Default)]
pub struct Reference {
    /// The place of the newest thing in the order of the app.
    newest: u64,
    channels: BTreeMap<usize, Channel>,
    /// The ids that were given, with their places.
    given: BTreeMap<String, u64>,
    /// Spaces in which one id was published on two channels.
    reused: BTreeSet<usize>,
    /// Events were forgotten up to here, on whatever channel.
    forgotten: u64,
    /// What channels that were forgotten themselves had forgotten.
    lost: BTreeMap<usize, u64>,
    pub clients: Vec<Client>,
    pub published: u64,
    pub duplicates: u64,
    /// How often somebody went on with a channel, with or without a gap.
    pub caught_up: u64,
    pub gaps: u64,
    pub unsure_gaps: u64,
}

/// A channel, which exists while somebody hears it or it holds an event.
#[derive(Debug, Default)]
struct Channel {
    /// With the places, and the ids that they came with.
    events: VecDeque<(u64, Item, bool)>,
    /// The place of the newest event that it has forgotten.
    forgotten: u64,
    /// Events that it had before it was forgotten itself have no places after this one.
    unsure: u64,
}

/// A client, and what it ought to hear.
#[derive(Debug, Default)]
pub struct Client {
    pub last: Option<String>,
    held: bool,
    /// The channels it hears; none after its end.
    pub channels: BTreeSet<usize>,
    caught_up: BTreeSet<usize>,
    pub items: Vec<(u64, Item)>,
    pub ended: Option<CloseReason>,
}

/// What was published.
pub struct Publication {
    pub channel: usize,
    pub data: String,
    /// The id it has, and whether it came with it.
    pub id: String,
    pub own_id: bool,
}

/// The space of a channel.
pub fn space(channel: usize) -> usize {
    channel / NAMES
}

/// Its name.
pub fn name(channel: usize) -> String {
    ["a", "b", "c"][channel % NAMES].to_owned()
}

impl Reference {
    fn next(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    pub fn open(&mut self, last: Option<String>) {
        self.clients.push(Client {
            held: last.is_some(),
            last,
            ..Client::default()
        });
    }

    /// Whether it may.
    pub fn register(&mut self, client: usize, channel: usize) -> bool {
        let known = &self.clients[client];
        if known.channels.contains(&channel) {
            return true;
        }
        if known.ended.is_some() || known.channels.len() >= CHANNELS_PER_CONNECTION {
            return false;
        }
        self.find_or_insert(channel);
        let missed = match &self.clients[client].last {
            Some(last) if !self.clients[client].caught_up.contains(&channel) => {
                self.missed(&last.clone(), channel)
            }
            _ => Vec::new(),
        };
        if self.clients[client].last.is_some() && !self.clients[client].caught_up.contains(&channel)
        {
            self.caught_up += 1;
        }
        for (_, item) in &missed {
            match item {
                Item::Gap { sure: true, .. } => self.gaps += 1,
                Item::Gap { sure: false, .. } => self.unsure_gaps += 1,
                _ => {}
            }
        }
        let known = &mut self.clients[client];
        known.caught_up.insert(channel);
        known.channels.insert(channel);
        known.items.extend(missed);
        true
    }

    /// What a client that comes back hears first of a channel.
    fn missed(&self, last: &str, channel: usize) -> Vec<(u64, Item)> {
        let known = &self.channels[&channel];
        let gap = |sure| Item::Gap {
            channel: name(channel),
            last: last.to_owned(),
            sure,
        };
        let Some(place) = self.place(last, channel) else {
            return vec![(0, gap(true))];
        };
        let mut missed = Vec::new();
        if place < known.forgotten {
            missed.push((0, gap(true)));
        } else if place < known.unsure {
            missed.push((0, gap(false)));
        }
        let later = known.events.iter().filter(|event| event.0 > place);
        missed.extend(later.map(|(at, event, _)| (*at, event.clone())));
        missed
    }

    /// The place on a channel of whoever heard this last.
    fn place(&self, last: &str, channel: usize) -> Option<u64> {
        if let Some(place) = self.channels[&channel].place(last) {
            return Some(place);
        }
        let same_space = self.channels.iter();
        let same_space = same_space.filter(|(other, _)| space(**other) == space(channel));
        let mut own = same_space.filter_map(|(_, other)| other.own_place(last));
        match own.next() {
            Some(_) if self.reused.contains(&space(channel)) => None,
            Some(place) => Some(place),
            None => self.given.get(last).copied(),
        }
    }

    /// Whether it heard the channel.
    pub fn remove(&mut self, client: usize, channel: usize) -> bool {
        let known = &mut self.clients[client];
        if !known.channels.contains(&channel) {
            return false;
        }
        if known.channels.len() == 1 {
            self.end(client, CloseReason::Closed);
        } else {
            known.channels.remove(&channel);
            self.forget_unused();
        }
        true
    }

    /// Whether an event of this id on this channel would be heard again.
    pub fn is_duplicate(&self, channel: usize, id: &str) -> bool {
        let known = self.channels.get(&channel);
        known.is_some_and(|channel| channel.place(id).is_some())
    }

    /// How many hear it.
    pub fn publish(&mut self, publication: Publication) -> u32 {
        let Publication {
            channel,
            data,
            id,
            own_id,
        } = publication;
        let at = self.next();
        self.published += 1;
        if !own_id {
            self.given.insert(id.clone(), at);
        } else if self.given.contains_key(&id) || self.is_elsewhere(channel, &id) {
            self.reused.insert(space(channel));
        }
        let big = data.len() >= BIG;
        let id = Some(id);
        let item = Item::Event { id, data };
        let mut delivered = 0;
        for client in &mut self.clients {
            if client.channels.contains(&channel) {
                client.items.push((at, item.clone()));
                delivered += 1;
            }
        }
        let known = self.find_or_insert(channel);
        known.events.push_back((at, item, own_id));
        let keep = if big { 0 } else { KEPT };
        known.forget(keep);
        let forgotten = known.forgotten;
        self.forgotten = self.forgotten.max(forgotten);
        self.forget_unused();
        delivered
    }

    fn is_elsewhere(&self, channel: usize, id: &str) -> bool {
        let others = self
            .channels
            .iter()
            .filter(|(other, _)| **other != channel && space(**other) == space(channel));
        let mut places = others.filter_map(|(_, other)| other.own_place(id));
        places.next().is_some()
    }

    /// Whether it hears it.
    pub fn send(&mut self, client: usize, data: String) -> bool {
        let at = self.next();
        let known = &mut self.clients[client];
        if known.ended.is_none() {
            known.items.push((at, Item::Event { id: None, data }));
        }
        known.ended.is_none()
    }

    pub fn release(&mut self, client: usize) {
        let known = &mut self.clients[client];
        if std::mem::take(&mut known.held) {
            known.items.sort_by_key(|item| item.0);
        }
    }

    pub fn end(&mut self, client: usize, reason: CloseReason) {
        let known = &mut self.clients[client];
        if known.ended.is_none() {
            known.ended = Some(reason);
            known.channels.clear();
            self.release(client);
            self.forget_unused();
        }
    }

    pub fn drain(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].ended.is_none() {
                let at = self.next();
                self.clients[client].items.push((at, Item::Retry));
                self.end(client, CloseReason::Shutdown);
            }
        }
    }

    /// All histories have grown too old.
    pub fn expire(&mut self) {
        for channel in self.channels.values_mut() {
            channel.forget(0);
            self.forgotten = self.forgotten.max(channel.forgotten);
        }
        self.forget_unused();
    }

    fn find_or_insert(&mut self, channel: usize) -> &mut Channel {
        self.channels.entry(channel).or_insert_with(|| Channel {
            events: VecDeque::new(),
            forgotten: self.lost.get(&channel).copied().unwrap_or_default(),
            unsure: self.forgotten,
        })
    }

    fn forget_unused(&mut self) {
        let heard: BTreeSet<usize> = self
            .clients
            .iter()
            .flat_map(|client| client.channels.clone())
            .collect();
        let lost = &mut self.lost;
        self.channels.retain(|number, channel| {
            lost.insert(*number, channel.forgotten);
            heard.contains(number) || !channel.events.is_empty()
        });
    }

    // === what is seen from outside ===

    /// The names of the channels that a client hears, sorted.
    pub fn names(&self, client: usize) -> Vec<String> {
        let mut names: Vec<_> = self.clients[client]
            .channels
            .iter()
            .map(|channel| name(*channel))
            .collect();
        names.sort();
        names
    }

    pub fn subscribers(&self, channel: usize) -> Vec<usize> {
        let clients = self.clients.iter().enumerate();
        let clients = clients.filter(|(_, client)| client.channels.contains(&channel));
        clients.map(|(number, _)| number).collect()
    }

    /// The data of what a channel keeps.
    pub fn history(&self, channel: usize) -> Vec<String> {
        let known = self.channels.get(&channel).into_iter();
        let events = known.flat_map(|channel| &channel.events);
        let data = |(_, event, _): &(u64, Item, bool)| match event {
            Item::Event { data, .. } => data.clone(),
            _ => String::new(),
        };
        events.map(data).collect()
    }

    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    pub fn every_channel() -> std::ops::Range<usize> {
        0..SPACES * NAMES
    }
}

impl Channel {
    fn place(&self, id: &str) -> Option<u64> {
        let mut events = self.events.iter();
        let is = |(_, event, _): &&(u64, Item, bool)| event.id() == Some(id);
        events.find(is).map(|event| event.0)
    }

    fn own_place(&self, id: &str) -> Option<u64> {
        let mut events = self.events.iter();
        let is = |(_, event, own): &&(u64, Item, bool)| *own && event.id() == Some(id);
        events.find(is).map(|event| event.0)
    }

    fn forget(&mut self, keep: usize) {
        while self.events.len() > keep {
            if let Some((at, ..)) = self.events.pop_front() {
                self.forgotten = at;
            }
        }
    }
}
