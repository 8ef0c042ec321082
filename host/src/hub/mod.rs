//! The hub: one app's connections and channels on this node. It knows no HTTP and no Wasm.
//!
//! # Layout
//!
//! - [`space`]: the channels of one publisher: registering, publishing, removing.
//! - [`connection`]: one client's stream, seen from the side that sends; its bounded queue.
//! - [`delivery`]: the same stream, seen from the side of the socket; pings and inactivity.
//! - [`channel`]: who hears a channel, and its name.
//! - [`history`]: the events a channel keeps for clients that come back.
//! - [`resume`]: where a client that comes back goes on.
//! - [`ended`]: how the end of a connection is told.
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
pub mod ended;
pub mod history;
mod resume;
pub mod space;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thiserror::Error;

pub use self::space::{Published, Space};
use self::{
    channel::{Channel, ChannelKey},
    connection::{CloseReason, Connection, OpenOptions},
    delivery::Delivery,
    ended::{Ended, EndedReceiver, EndedSender},
    resume::Ids,
};
use crate::event::{self, Event};

/// Histories that are looked at for old events while the lock is held once.
const EXPIRED_AT_A_TIME: usize = 1000;

/// A time for a client to come back after, in milliseconds: each its own, so that they do not all come at once, and
/// none at once, because an `EventSource` keeps to it until it is told another.
pub fn reconnect_after(within: Duration) -> u32 {
    let most = u32::try_from(within.as_millis()).unwrap_or(u32::MAX).max(5);
    rand::random_range(most / 5..=most)
}

/// What an app's hub is allowed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Events kept for each channel; 0 keeps none.
    pub history_events: usize,
    /// Bytes of encoded events kept for each channel.
    pub history_bytes: usize,
    /// Bytes kept for all channels together, with what it costs to keep them; the oldest events go first.
    pub history_total_bytes: usize,
    /// How long an event is kept.
    pub history_age: Duration,
    /// Bytes that may wait for one connection.
    pub queue_bytes: usize,
    /// Connections open at a time, with those whose end is not complete.
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

/// A handle to an app's hub.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    /// Deliveries that exist: a connection that has ended still holds a socket until its delivery is dropped, and
    /// a client that does not read may put that off.
    deliveries: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where ended connections are told. `None` once the hub is drained: nothing ends after that, nothing is opened,
    /// and the receiver comes to its end.
    ended: Option<EndedSender>,
    /// Open connections by their id.
    connections: HashMap<Arc<str>, Member>,
    /// The channels that somebody hears or whose history is watched.
    channels: HashMap<ChannelKey, Channel>,
    /// How many spaces there are; a space's number is its part of a [`ChannelKey`].
    spaces: u32,
    /// The ids of all events in the histories, and the next sequence number.
    ids: Ids,
    /// When to look at a channel's history for what has grown too old: one entry for each history that is watched,
    /// so that a million quiet channels cost nothing to leave alone.
    expiries: BinaryHeap<Reverse<(Instant, ChannelKey)>>,
    /// What all histories cost together.
    history_cost: usize,
}

/// A connection and what it hears.
#[derive(Debug)]
struct Member {
    connection: Arc<Connection>,
    channels: BTreeSet<ChannelKey>,
    /// The channels whose missed events a client that came back has got: whoever leaves a channel and joins it
    /// again does not get them again.
    replayed: BTreeSet<ChannelKey>,
}

impl Hub {
    /// An empty hub, and where it tells of ended connections.
    pub fn new(settings: Settings) -> (Self, EndedReceiver) {
        let (ended, told) = ended::channel();
        let state = State {
            ended: Some(ended),
            connections: HashMap::new(),
            channels: HashMap::new(),
            spaces: 0,
            ids: Ids::new(),
            expiries: BinaryHeap::new(),
            history_cost: 0,
        };
        let shared = Shared {
            settings,
            deliveries: AtomicUsize::new(0),
            state: Mutex::new(state),
        };
        let shared = Arc::new(shared);
        (Self { shared }, told)
    }

    /// What the hub is allowed.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Opens a connection: a handle to send with, and the delivery that belongs to its socket.
    ///
    /// A client that comes back hears nothing before [`Connection::release`]: what it missed on all its channels
    /// is put in order first.
    pub fn open(&self, options: OpenOptions) -> Result<(Arc<Connection>, Delivery), HubError> {
        let mut state = self.shared.state.lock();
        let Some(ended) = &state.ended else {
            return Err(HubError::Draining);
        };
        let limit = self.shared.settings.connections;
        // The untold ones count too: a hook that is slower than clients come and go must not let them pile up.
        if self.shared.deliveries.load(Ordering::Relaxed) + ended.untold() >= limit {
            return Err(HubError::Limited {
                name: "connections",
                limit,
            });
        }
        self.shared.deliveries.fetch_add(1, Ordering::Relaxed);
        let timing = options.timing;
        let connection = Arc::new(Connection::new(options, self.shared.settings.queue_bytes));
        let member = Member {
            connection: connection.clone(),
            channels: BTreeSet::new(),
            replayed: BTreeSet::new(),
        };
        state.connections.insert(connection.id().clone(), member);
        drop(state);
        let delivery = Delivery::new(self.clone(), connection.clone(), timing);
        Ok((connection, delivery))
    }

    /// A space of its own.
    pub fn space(&self) -> Space {
        let mut state = self.shared.state.lock();
        let number = state.spaces;
        state.spaces += 1;
        Space::new(self.clone(), number)
    }

    /// Sends an event to one connection alone. It is in no history.
    pub fn send(&self, connection: &Arc<Connection>, event: &Event) -> Result<(), HubError> {
        let frame = event.encode();
        // Under the lock, so that an event which was published before is also heard before.
        let mut state = self.shared.state.lock();
        if !connection.is_open() {
            return Err(HubError::Closed);
        }
        // A number of its own, so that it stays behind what was published before even among missed events.
        let sequence = state.ids.next();
        if !connection.push(sequence, frame) {
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

    /// Refuses new connections and ends those there are, after telling each client to come back within so long.
    pub fn drain(&self, within: Duration) {
        let mut state = self.shared.state.lock();
        let newest = state.ids.newest();
        let ids: Vec<_> = state.connections.keys().cloned().collect();
        for id in ids {
            let block = event::retry_block(reconnect_after(within));
            state.connections[&id].connection.push(newest, block);
            self.end(&mut state, &id, CloseReason::Shutdown);
        }
        state.ended = None;
    }

    /// Forgets events that have grown too old. To be called now and then; what it costs depends on how many
    /// histories have something to forget.
    pub fn expire(&self, now: Instant) {
        let age = self.shared.settings.history_age;
        while self.shared.state.lock().expire(now, age) {}
    }

    /// The delivery of a connection is gone, and its socket with it.
    fn delivery_dropped(&self, connection: &Connection) {
        // Does nothing to a connection that has ended otherwise.
        self.close(connection, CloseReason::ClientGone);
        self.shared.deliveries.fetch_sub(1, Ordering::Relaxed);
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
            ended.tell(Ended {
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
        }
        self.forget_if_unused(key);
    }

    fn forget_if_unused(&mut self, key: &ChannelKey) {
        if let Some(channel) = self.channels.get(key)
            && channel.is_unused()
        {
            self.ids.forget_channel(channel.history.evicted_through());
            self.channels.remove(key);
        }
    }

    /// Looks at some of the histories that are due. True if there may be more.
    fn expire(&mut self, now: Instant, age: Duration) -> bool {
        for _ in 0..EXPIRED_AT_A_TIME {
            match self.expiries.peek() {
                Some(Reverse((due, _))) if *due <= now => self.visit_oldest(age, |history, ids| {
                    history.expire(now, age, ids);
                }),
                _ => return false,
            }
        }
        true
    }

    /// Forgets the oldest events of the hub until the histories are within their bound together.
    fn trim(&mut self, limit: usize, age: Duration) {
        while self.history_cost > limit && !self.expiries.is_empty() {
            self.visit_oldest(age, |history, ids| history.evict(ids));
        }
    }

    /// Takes something from the history that is due first, and sees when it is due next.
    fn visit_oldest(
        &mut self,
        age: Duration,
        forget: impl FnOnce(&mut history::History, &mut Ids),
    ) {
        let Some(Reverse((_, key))) = self.expiries.pop() else {
            return;
        };
        let Some(channel) = self.channels.get_mut(&key) else {
            return;
        };
        let before = channel.history.cost();
        forget(&mut channel.history, &mut self.ids);
        self.history_cost -= before - channel.history.cost();
        match channel.history.due(age) {
            Some(next) => self.expiries.push(Reverse((next, key))),
            None => {
                channel.history.watched = false;
                self.forget_if_unused(&key);
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

#[cfg(test)]
mod tests;
