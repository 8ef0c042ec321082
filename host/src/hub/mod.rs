//! The hub: one app's connections and channels on this node. It knows no HTTP and no Wasm.
//!
//! # Layout
//!
//! - [`connection`]: one client's stream, seen from the side that sends; its bounded queue.
//! - [`delivery`]: the same stream, seen from the side of the socket; pings and inactivity.
//! - [`channel`]: who hears a channel, and its name.
//! - [`history`]: the events a channel keeps for clients that come back.
//! - [`resume`]: where a client that comes back goes on.
//!
//! # Order
//!
//! One lock orders everything that can be told apart by a client: publishing, registering, removing and the end
//! of a connection. Every event gets the next sequence number under it and is handed to all queues before it is
//! released, so each connection hears the events of all its channels in the order of their numbers. That is what
//! makes one Last-Event-ID enough for a connection on several channels. Nothing waits while it is held: a queue
//! that is full costs its connection, not the publisher.

pub mod channel;
pub mod connection;
pub mod delivery;
pub mod history;
mod resume;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::mpsc;

use self::{
    channel::{Channel, ChannelKey, ChannelName},
    connection::{CloseReason, Connection, OpenOptions},
    delivery::Delivery,
    resume::Ids,
};
use crate::event::{self, Event};

/// What an app's hub is allowed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Events kept for each channel; 0 keeps none.
    pub history_events: usize,
    /// Bytes of encoded events kept for each channel.
    pub history_bytes: usize,
    /// How long an event is kept.
    pub history_age: Duration,
    /// Bytes that may wait for one connection.
    pub queue_bytes: usize,
    /// Connections open at a time.
    pub connections: usize,
    /// Channels that one connection may hear.
    pub channels_per_connection: usize,
    /// The largest data of an event, in bytes.
    pub event_data: usize,
}

/// Why the hub refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HubError {
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
    /// No such connection, or it does not hear the channel.
    #[error("{0}")]
    NotFound(String),
    /// A limit of the app.
    #[error("the app's limit `{name}` of {limit} is reached")]
    Limited {
        /// The setting.
        name: &'static str,
        /// Its value.
        limit: usize,
    },
    /// No new connections: the node is shutting down.
    #[error("the node is shutting down")]
    Draining,
}

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its id.
    pub connection: Arc<str>,
    /// The channels that it heard at its end, sorted.
    pub channels: Vec<String>,
    /// Why it ended.
    pub reason: CloseReason,
}

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

/// A handle to an app's hub.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where ended connections are told. Its reader runs the guest's hook, so nothing waits for it here; what can
    /// pile up is bounded by the number of connections. `None` once the hub is drained: nothing ends after that,
    /// nothing is opened, and the reader comes to its end.
    ended: Option<mpsc::UnboundedSender<Ended>>,
    /// Open connections by their id.
    connections: HashMap<Arc<str>, Member>,
    /// The channels that somebody hears or whose history holds an event.
    channels: HashMap<ChannelKey, Channel>,
    /// The spaces by name; a space's number is its part of a [`ChannelKey`].
    spaces: HashMap<String, u32>,
    /// The ids of all events in the histories, and the next sequence number.
    ids: Ids,
    /// When to look at a channel's history for what has grown too old: one entry for each history that is not
    /// empty, so that a million quiet channels cost nothing to leave alone.
    expiries: BinaryHeap<Reverse<(Instant, ChannelKey)>>,
}

/// A connection and what it hears.
#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    channels: BTreeSet<ChannelKey>,
}

/// The channels of one publisher. Handles of the same name in the same hub share their channels.
#[derive(Debug, Clone)]
pub struct Space {
    hub: Hub,
    number: u32,
}

// === impl Hub ===

impl Hub {
    /// An empty hub, and where it tells of ended connections.
    pub fn new(settings: Settings) -> (Self, mpsc::UnboundedReceiver<Ended>) {
        let (ended, told) = mpsc::unbounded_channel();
        let state = State {
            ended: Some(ended),
            connections: HashMap::new(),
            channels: HashMap::new(),
            spaces: HashMap::new(),
            ids: Ids::new(),
            expiries: BinaryHeap::new(),
        };
        let shared = Shared {
            settings,
            state: Mutex::new(state),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            told,
        )
    }

    /// What the hub is allowed.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Opens a connection: a handle to send with, and the delivery that belongs to its socket.
    pub fn open(&self, options: OpenOptions) -> Result<(Arc<Connection>, Delivery), HubError> {
        let mut state = self.shared.state.lock();
        if state.ended.is_none() {
            return Err(HubError::Draining);
        }
        let limit = self.shared.settings.connections;
        if state.connections.len() >= limit {
            return Err(HubError::Limited {
                name: "connections",
                limit,
            });
        }
        let timing = options.timing;
        let connection = Arc::new(Connection::new(options, self.shared.settings.queue_bytes));
        let member = Member {
            connection: connection.clone(),
            channels: BTreeSet::new(),
        };
        state.connections.insert(connection.id().clone(), member);
        drop(state);
        let delivery = Delivery::new(self.clone(), connection.clone(), timing);
        Ok((connection, delivery))
    }

    /// The space of this name, made if there is none.
    pub fn space(&self, name: &str) -> Space {
        let mut state = self.shared.state.lock();
        let next = state.spaces.len() as u32;
        let number = *state.spaces.entry(name.to_owned()).or_insert(next);
        Space {
            hub: self.clone(),
            number,
        }
    }

    /// Sends an event to one connection alone. It is in no history.
    pub fn send(&self, connection: &Arc<Connection>, event: &Event) -> Result<(), HubError> {
        // Under the lock, so that an event which was published before is also heard before.
        let mut state = self.shared.state.lock();
        if !connection.is_open() {
            return Err(HubError::Closed);
        }
        if !connection.push(event.encode()) {
            self.end(&mut state, connection.id(), CloseReason::Slow);
            return Err(HubError::Closed);
        }
        Ok(())
    }

    /// Ends a connection. What was queued before is still delivered, but for a client that is gone or too slow.
    pub fn close(&self, connection: &Connection, reason: CloseReason) {
        let mut state = self.shared.state.lock();
        self.end(&mut state, connection.id(), reason);
    }

    /// The names of the channels that a connection hears, sorted; the same name in two spaces is there twice.
    pub fn channels(&self, connection: &Connection) -> Vec<String> {
        let state = self.shared.state.lock();
        let Some(member) = state.connections.get(connection.id()) else {
            return Vec::new();
        };
        names(&member.channels)
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.shared.state.lock().connections.len()
    }

    /// Refuses new connections and ends those there are, each after a `retry` of its own that `retry` gives in
    /// milliseconds.
    pub fn drain(&self, mut retry: impl FnMut() -> u32) {
        let mut state = self.shared.state.lock();
        let ids: Vec<_> = state.connections.keys().cloned().collect();
        for id in ids {
            state.connections[&id]
                .connection
                .push(event::retry_block(retry()));
            self.end(&mut state, &id, CloseReason::Shutdown);
        }
        state.ended = None;
    }

    /// Forgets events that have grown too old. To be called now and then; what it costs depends on how many
    /// histories have something to forget.
    pub fn expire(&self, now: Instant) {
        let mut state = self.shared.state.lock();
        let State {
            channels,
            expiries,
            ids,
            ..
        } = &mut *state;
        while let Some(Reverse((due, _))) = expiries.peek() {
            if *due > now {
                break;
            }
            let Some(Reverse((_, key))) = expiries.pop() else {
                break;
            };
            let Entry::Occupied(mut channel) = channels.entry(key) else {
                continue;
            };
            match channel
                .get_mut()
                .history
                .expire(now, self.shared.settings.history_age, ids)
            {
                Some(next) => expiries.push(Reverse((next, channel.key().clone()))),
                None if channel.get().is_unused() => {
                    ids.forget_channel(channel.get().history.evicted_through());
                    channel.remove();
                }
                None => {}
            }
        }
    }

    /// Ends a connection and all its registrations, once.
    fn end(&self, state: &mut State, id: &Arc<str>, reason: CloseReason) {
        let Some(member) = state.connections.remove(id) else {
            return;
        };
        for key in &member.channels {
            state.unsubscribe(key, id);
        }
        member.connection.end(reason);
        if let Some(ended) = &state.ended {
            // Nobody listens once the app is gone: then there is no hook to run either.
            let _ = ended.send(Ended {
                connection: id.clone(),
                channels: names(&member.channels),
                reason,
            });
        }
    }
}

impl State {
    fn unsubscribe(&mut self, key: &ChannelKey, id: &Arc<str>) {
        if let Some(channel) = self.channels.get_mut(key) {
            channel.subscribers.remove(id);
            if channel.is_unused() {
                self.ids.forget_channel(channel.history.evicted_through());
                self.channels.remove(key);
            }
        }
    }
}

fn names(channels: &BTreeSet<ChannelKey>) -> Vec<String> {
    let mut names: Vec<_> = channels
        .iter()
        .map(|key| key.name.as_str().to_owned())
        .collect();
    names.sort_unstable();
    names
}

// === impl Space ===

impl Space {
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
        let settings = &self.hub.shared.settings;
        let mut state = self.hub.shared.state.lock();
        let key = self.key(channel);
        let State {
            connections,
            channels,
            ids,
            ..
        } = &mut *state;
        let member = connections
            .get_mut(connection.id())
            .ok_or(HubError::Closed)?;
        if member.channels.contains(&key) {
            return Ok(());
        }
        let limit = settings.channels_per_connection;
        if member.channels.len() >= limit {
            return Err(HubError::Limited {
                name: "channels-per-connection",
                limit,
            });
        }
        member.channels.insert(key.clone());
        let entry = channels
            .entry(key)
            .or_insert_with(|| Channel::new(ids.forgotten_through()));
        entry
            .subscribers
            .insert(connection.id().clone(), connection.clone());
        if let Some(last) = connection.last_event_id() {
            resume::replay(connection, last, channel, &entry.history, ids);
        }
        Ok(())
    }

    /// A connection no longer hears a channel; one that hears no other is closed after what was queued before.
    pub fn remove(&self, connection: &str, channel: &ChannelName) -> Result<(), HubError> {
        let mut state = self.hub.shared.state.lock();
        let key = self.key(channel);
        let (id, member) = match state.connections.get_key_value(connection) {
            Some((id, _)) => {
                let id = id.clone();
                let member = state.connections.get_mut(&id);
                (id, member)
            }
            None => {
                return Err(HubError::NotFound(format!(
                    "there is no connection {connection:?} here"
                )));
            }
        };
        let Some(member) = member.filter(|member| member.channels.contains(&key)) else {
            return Err(HubError::NotFound(format!(
                "connection {connection:?} does not hear channel {:?}",
                channel.as_str()
            )));
        };
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
        let settings = &self.hub.shared.settings;
        let rest = event.encode_after_id();
        let json = matches!(event.data(), event::Data::Json(_));
        let now = Instant::now();

        let mut state = self.hub.shared.state.lock();
        let key = self.key(channel);
        let State {
            channels,
            ids,
            expiries,
            ..
        } = &mut *state;
        if let (Some(id), Some(channel)) = (event.id(), channels.get(&key))
            && channel.history.holds(id, ids)
        {
            return Published {
                id: id.to_owned(),
                delivered: 0,
                duplicate: true,
            };
        }
        let sequence = ids.next();
        let id = match event.id() {
            Some(id) => id.to_owned(),
            None => ids.name(sequence),
        };
        let frame = event::frame(&id, &rest);
        let entry = channels
            .entry(key.clone())
            .or_insert_with(|| Channel::new(ids.forgotten_through()));
        let kept = history::Kept::new(sequence, event.id(), json, frame.clone(), now);
        if entry.history.push(kept, settings, ids) {
            expiries.push(Reverse((now + settings.history_age, key.clone())));
        }
        let mut delivered = 0;
        let mut slow = Vec::new();
        for (id, connection) in &entry.subscribers {
            match connection.push(frame.clone()) {
                true => delivered += 1,
                false => slow.push(id.clone()),
            }
        }
        if entry.is_unused() {
            ids.forget_channel(entry.history.evicted_through());
            channels.remove(&key);
        }
        for id in slow {
            self.hub.end(&mut state, &id, CloseReason::Slow);
        }
        Published {
            id,
            delivered,
            duplicate: false,
        }
    }

    /// How many connections hear a channel.
    pub fn subscribers(&self, channel: &ChannelName) -> u64 {
        let state = self.hub.shared.state.lock();
        state
            .channels
            .get(&self.key(channel))
            .map_or(0, |channel| channel.subscribers.len() as u64)
    }

    /// The ids of the connections that hear a channel, sorted, at most `limit` of them.
    pub fn presence(&self, channel: &ChannelName, limit: usize) -> Vec<String> {
        let state = self.hub.shared.state.lock();
        let Some(channel) = state.channels.get(&self.key(channel)) else {
            return Vec::new();
        };
        let mut ids: Vec<_> = channel
            .subscribers
            .keys()
            .map(|id| id.to_string())
            .collect();
        drop(state);
        ids.sort_unstable();
        ids.truncate(limit);
        ids
    }

    /// The newest events of a channel's history, oldest first, at most `limit` of them.
    pub fn history(&self, channel: &ChannelName, limit: usize) -> Vec<Event> {
        let state = self.hub.shared.state.lock();
        let Some(channel) = state.channels.get(&self.key(channel)) else {
            return Vec::new();
        };
        let newest = channel.history.newest(limit);
        drop(state);
        newest
            .iter()
            .filter_map(|kept| kept.event(self.event_data()))
            .collect()
    }

    fn key(&self, channel: &ChannelName) -> ChannelKey {
        ChannelKey {
            space: self.number,
            name: channel.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
