//! A space: the channels of one publisher.

use std::{cmp::Reverse, sync::Arc, time::Instant};

use super::{
    Hub, HubError,
    channel::{Channel, ChannelKey, ChannelName},
    connection::{CloseReason, Connection},
    history::Kept,
    resume,
};
use crate::event::{self, Data, Event};

/// Channels of which one connection gets what it missed. A guest may let it join and leave any number of them;
/// past this it is told of a gap.
const REPLAYED_CHANNELS: usize = 10_000;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The id it has.
    pub id: String,
    /// Connections that it was queued for.
    pub delivered: u32,
    /// It was published before; nobody heard it again.
    pub duplicate: bool,
}

/// The channels of one publisher. Clones share them.
#[derive(Debug, Clone)]
pub struct Space {
    hub: Hub,
    number: u32,
}

impl Space {
    pub(super) fn new(hub: Hub, number: u32) -> Self {
        Self { hub, number }
    }

    /// The largest data of an event that this space takes, in bytes.
    pub fn event_data(&self) -> usize {
        self.hub.settings().event_data
    }

    /// Lets a connection hear a channel from now on, after what it missed since its Last-Event-ID.
    pub fn register(
        &self,
        connection: &Arc<Connection>,
        channel: &ChannelName,
    ) -> Result<(), HubError> {
        let mut state = self.hub.shared.state.lock();
        let state = &mut *state;
        let key = self.key(channel);
        let member = state
            .connections
            .get_mut(connection.id())
            .ok_or(HubError::Closed)?;
        if member.channels.contains(&key) {
            return Ok(());
        }
        let limit = self.hub.settings().channels_per_connection;
        if member.channels.len() >= limit {
            return Err(HubError::Limited {
                name: "channels-per-connection",
                limit,
            });
        }
        let forgotten = state.ids.forgotten_through();
        let entry = state
            .channels
            .entry(key.clone())
            .or_insert_with(|| Channel::new(forgotten));
        entry
            .subscribers
            .insert(connection.id().clone(), connection.clone());
        if let Some(last) = connection.last_event_id()
            && !member.replayed.contains(&key)
        {
            let room = member.replayed.len() < REPLAYED_CHANNELS;
            let place = room
                .then(|| resume::place(last, self.number, &entry.history, &state.ids))
                .flatten();
            resume::replay(connection, last, channel, &entry.history, &state.ids, place);
            if room {
                member.replayed.insert(key.clone());
            }
        }
        member.channels.insert(key);
        Ok(())
    }

    /// A connection no longer hears a channel; one that hears no other is closed after what was queued before.
    pub fn remove(&self, connection: &str, channel: &ChannelName) -> Result<(), HubError> {
        let mut state = self.hub.shared.state.lock();
        let key = self.key(channel);
        let Some(member) = state.connections.get_mut(connection) else {
            return Err(HubError::NotFound(format!(
                "there is no connection {connection:?} here"
            )));
        };
        if !member.channels.contains(&key) {
            return Err(HubError::NotFound(format!(
                "connection {connection:?} does not hear channel {:?}",
                channel.as_str()
            )));
        }
        let id = member.connection.id().clone();
        if member.channels.len() == 1 {
            // Not removed first: the hook for its end is to name this channel.
            self.hub.end(&mut state, &id, CloseReason::Closed);
        } else {
            member.channels.remove(&key);
            state.unsubscribe(&key, &id);
        }
        Ok(())
    }

    /// Puts an event in the channel's history and in the queue of everybody who hears it. An event without an
    /// id is given one.
    pub fn publish(&self, channel: &ChannelName, event: &Event) -> Published {
        let settings = self.hub.settings();
        let rest = event.encode_after_id();
        let framed = event.id().map(|id| event::frame(id, &rest));
        let json = matches!(event.data(), Data::Json(_));
        let now = Instant::now();
        let key = self.key(channel);

        let mut guard = self.hub.shared.state.lock();
        let state = &mut *guard;
        if let (Some(id), Some(channel)) = (event.id(), state.channels.get(&key))
            && channel.history.position(id, &state.ids).is_some()
        {
            return Published {
                id: id.to_owned(),
                delivered: 0,
                duplicate: true,
            };
        }
        let sequence = state.ids.next();
        let (id, frame) = match (event.id(), framed) {
            (Some(id), Some(frame)) => (id.to_owned(), frame),
            _ => {
                let id = state.ids.name(sequence);
                let frame = event::frame(&id, &rest);
                (id, frame)
            }
        };
        let forgotten = state.ids.forgotten_through();
        let entry = state
            .channels
            .entry(key.clone())
            .or_insert_with(|| Channel::new(forgotten));
        let kept = Kept::new(sequence, event.id(), json, frame.clone(), now);
        let before = entry.history.cost();
        entry
            .history
            .push(kept, self.number, settings, &mut state.ids);
        state.history_cost = state.history_cost + entry.history.cost() - before;
        if !entry.history.is_empty() && !entry.history.watched {
            entry.history.watched = true;
            state
                .expiries
                .push(Reverse((now + settings.history_age, key.clone())));
        }
        let mut delivered = 0;
        let mut slow = Vec::new();
        for (subscriber, connection) in &entry.subscribers {
            match connection.push_event(sequence, &id, frame.clone()) {
                true => delivered += 1,
                false => slow.push(subscriber.clone()),
            }
        }
        for subscriber in slow {
            self.hub.end(state, &subscriber, CloseReason::Slow);
        }
        state.forget_if_unused(&key);
        state.trim(settings.history_total_bytes, settings.history_age);
        Published {
            id,
            delivered,
            duplicate: false,
        }
    }

    /// Events may have been missed up to now, on any channel: everybody who hears one is told of a gap, and so is
    /// everybody who comes back with an id from before.
    pub fn missed(&self) {
        let mut guard = self.hub.shared.state.lock();
        let state = &mut *guard;
        let sequence = state.ids.next();
        state.ids.forget_channel(sequence);
        let mut slow = Vec::new();
        for (key, channel) in &mut state.channels {
            if key.space != self.number {
                continue;
            }
            channel.history.missed_through(sequence);
            let gap = resume::gap_frame(&key.name, None);
            for (id, connection) in &channel.subscribers {
                if !connection.push(sequence, gap.clone()) {
                    slow.push(id.clone());
                }
            }
        }
        for id in slow {
            self.hub.end(state, &id, CloseReason::Slow);
        }
    }

    /// How many connections hear a channel.
    pub fn subscribers(&self, channel: &ChannelName) -> u64 {
        let state = self.hub.shared.state.lock();
        let channel = state.channels.get(&self.key(channel));
        channel.map_or(0, |channel| channel.subscribers.len() as u64)
    }

    /// The ids of the connections that hear a channel, sorted, at most `limit` of them.
    pub fn presence(&self, channel: &ChannelName, limit: usize) -> Vec<String> {
        let state = self.hub.shared.state.lock();
        let Some(channel) = state.channels.get(&self.key(channel)) else {
            return Vec::new();
        };
        let mut ids: Vec<_> = channel.subscribers.keys().cloned().collect();
        drop(state);
        ids.sort_unstable();
        ids.iter().take(limit).map(|id| id.to_string()).collect()
    }

    /// The newest events of a channel's history, oldest first, at most `limit` of them.
    pub fn history(&self, channel: &ChannelName, limit: usize) -> Vec<Event> {
        let state = self.hub.shared.state.lock();
        let Some(channel) = state.channels.get(&self.key(channel)) else {
            return Vec::new();
        };
        let newest = channel.history.newest(limit);
        drop(state);
        let events = newest.iter().map(|kept| kept.event(self.event_data()));
        events.flatten().collect()
    }

    fn key(&self, channel: &ChannelName) -> ChannelKey {
        ChannelKey {
            space: self.number,
            name: channel.clone(),
        }
    }
}
