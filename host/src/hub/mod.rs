//! The hub: one app's connections and channels on this node. It knows no HTTP and no Wasm.
//!
//! # Layout
//!
//! - [`space`]: the channels of one publisher: registering, publishing, removing.
//! - [`carried`]: channels whose order is a broker's, and not the hub's.
//! - [`older`]: events of such a channel from before those that a node keeps.
//! - [`membership`]: who came to hear a channel of a broker, and who no longer does.
//! - [`connection`]: one client's stream, as a guest holds it.
//! - [`member`]: the same, as the hub has it.
//! - [`occupancy`]: which channels somebody began to hear, and which nobody hears any more.
//! - [`post`]: the hub's lock, and the way to the shards.
//! - [`delivery`]: from here to the sockets: shards, queues, timers.
//! - [`channel`]: who hears a channel, and its name.
//! - [`history`]: the events a channel keeps for clients that come back.
//! - [`expiry`]: how histories forget what is too old or too much.
//! - [`resume`]: where a client that comes back goes on.
//! - [`frame`]: an event as it is kept and written.
//! - [`ended`]: how the end of a connection is told.
//! - [`counters`]: what is counted.
//! - [`settings`]: what it is allowed; [`error`]: why it refused.
//! - [`slab`]: where many small things lie.
//!
//! # Order
//!
//! One lock orders everything that can be told apart by a client: publishing, registering, removing and the end
//! of a connection. Every event gets the next sequence number under it, and what is to be done for it is handed to all
//! shards before it is released, so each connection hears the events of all its channels in the order of their
//! numbers. That is what makes one Last-Event-ID enough for a connection on several channels. Nothing waits while it is
//! held, and nothing that a guest can ask for is done there for each connection that hears a channel: that is the shards'
//! work, without it.

pub mod carried;
pub mod channel;
pub mod connection;
mod counters;
pub mod delivery;
pub mod ended;
mod error;
mod expiry;
mod frame;
mod history;
mod member;
pub mod membership;
pub mod occupancy;
pub mod older;
mod post;
mod resume;
mod settings;
mod slab;
pub mod space;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use smallvec::SmallVec;

use self::{
    channel::Channels,
    connection::{CloseReason, Connection, ConnectionId, End, OpenOptions},
    counters::Counters,
    delivery::{Delivery, Engine, OutletId, command::Command},
    ended::{Ended, EndedReceiver, EndedSender},
    frame::Frame,
    member::{Member, Members, Returned},
    membership::Membership,
    occupancy::Occupancies,
    post::{Locked, Post},
    resume::Ids,
};
pub use self::{
    counters::Figures,
    error::HubError,
    settings::Settings,
    space::{Published, Space},
};
use crate::event::{self, Event, ID_BYTES};

/// A time for a client to come back after, in milliseconds: each its own, so that they do not all come at once, and
/// none at once, because an `EventSource` keeps to it until it is told another.
pub fn reconnect_after(within: Duration) -> u32 {
    let most = u32::try_from(within.as_millis()).unwrap_or(u32::MAX).max(5);
    rand::random_range(most / 5..=most)
}

/// A handle to an app's hub.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// Handles that the table of them is kept ready for.
const HANDLES: usize = 1024;

struct Shared {
    settings: Settings,
    counters: Counters,
    /// What delivers. Waiting bytes are reported to it without the lock.
    engine: Engine,
    /// Deliveries that exist: a connection that has ended still holds a socket until its delivery is dropped, and
    /// a client that does not read may put that off.
    deliveries: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// Where ended connections are told. `None` once the hub is drained: nothing ends after that, nothing is opened,
    /// and the receiver comes to its end.
    ended: Option<EndedSender>,
    /// Connections that somebody has a handle to: handlers have them while they run, so there are few.
    handles: HashMap<ConnectionId, Arc<End>>,
    /// Open connections.
    members: Members,
    /// The channels that somebody hears or whose history is watched.
    channels: Channels,
    /// How many spaces there are.
    spaces: u32,
    /// Who is told of the members of a space, by its number. Few are.
    memberships: HashMap<u32, Arc<Membership>>,
    /// Who is told which channels of a space are heard.
    occupancies: HashMap<u32, Arc<Occupancies>>,
    /// The ids of all events in the histories, and the next sequence number.
    ids: Ids,
    /// When to look at a channel's history for what has grown too old: one entry for each history that is watched,
    /// so that a million quiet channels cost nothing to leave alone.
    expiries: BinaryHeap<Reverse<(Instant, u32)>>,
    /// What all histories cost together.
    history_cost: usize,
    /// The way to the shards.
    post: Post,
}

impl Hub {
    /// An empty hub, and where it tells of ended connections.
    pub fn new(settings: Settings, engine: Engine) -> (Self, EndedReceiver) {
        let (ended, told) = ended::channel();
        let state = State {
            ended: Some(ended),
            handles: HashMap::new(),
            members: Members::new(),
            channels: Channels::new(),
            spaces: 0,
            memberships: HashMap::new(),
            occupancies: HashMap::new(),
            ids: Ids::new(),
            expiries: BinaryHeap::new(),
            history_cost: 0,
            post: Post::new(engine.clone()),
        };
        let shared = Shared {
            settings,
            counters: Counters::default(),
            engine,
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

    /// What there is and what has been.
    pub fn figures(&self) -> Figures {
        let state = self.lock();
        let (members, channels) = (state.members.len(), state.channels.len());
        let history_cost = state.history_cost;
        drop(state);
        self.counters().figures(members, channels, history_cost)
    }

    /// Opens a connection: a handle to send with, and the delivery that belongs to its socket.
    ///
    /// A client that comes back hears nothing before [`Connection::release`]: what it missed on all its channels
    /// is put in order first.
    pub fn open(&self, options: OpenOptions) -> Result<(Arc<Connection>, Delivery), HubError> {
        let last = options
            .last_event_id
            .filter(|id| !id.is_empty() && id.len() <= ID_BYTES);
        let last: Option<Arc<str>> = last.map(Arc::from);
        let mut state = self.lock();
        let Some(ended) = &state.ended else {
            return Err(HubError::Draining);
        };
        let limit = self.settings().connections;
        // The untold ones count too: a hook that is slower than clients come and go must not let them pile up.
        if self.shared.deliveries.load(Ordering::Relaxed) + ended.untold() >= limit {
            return Err(HubError::Limited {
                name: "connections",
                limit,
            });
        }
        let (outlet, place) = self.shared.engine.admit(options.client)?;
        self.shared.deliveries.fetch_add(1, Ordering::Relaxed);
        let id = ConnectionId::random();
        let returned = |last| Returned {
            last,
            held: true,
            replayed: Default::default(),
        };
        let member = state.members.insert(Member {
            id,
            outlet,
            channels: SmallVec::new(),
            returned: last.clone().map(|last| Box::new(returned(last))),
        });
        let command = Command::Open {
            outlet: outlet.number,
            hub: self.clone(),
            member,
            place,
            held: last.is_some(),
            timing: options.timing,
        };
        state.post.tell(outlet.shard, command);
        let end = Arc::<End>::default();
        state.handles.insert(id, end.clone());
        drop(state);
        let connection = Arc::new(Connection::new(self.clone(), id, last, end));
        let delivery = Delivery::new(self.shared.engine.clone(), self.clone(), outlet);
        Ok((connection, delivery))
    }

    /// A space of its own.
    pub fn space(&self) -> Space {
        let mut state = self.lock();
        let number = state.spaces;
        state.spaces += 1;
        drop(state);
        Space::new(self.clone(), number)
    }

    /// Sends an event to one connection alone. It is in no history.
    pub fn send(&self, connection: &Connection, event: &Event) -> Result<(), HubError> {
        let rest = event.encode_after_id();
        // Under the lock, so that an event which was published before is also heard before.
        let mut state = self.lock();
        let state = &mut *state;
        let member = state
            .members
            .find(connection.id())
            .ok_or(HubError::Closed)?;
        let member = state.members.get(member).ok_or(HubError::Closed)?;
        if state.post.engine.is_overloaded(member.outlet.shard) {
            return Err(HubError::Overloaded);
        }
        connection.set_used();
        // A number of its own, so that it stays behind what was published before even among missed events.
        let frame = Frame::sent(event, &rest, state.ids.next());
        state.post.send(member.outlet, frame);
        Ok(())
    }

    /// Ends a connection. What was queued before is still delivered, but for a client that is gone or too slow.
    pub fn close(&self, connection: &Connection, reason: CloseReason) {
        let mut state = self.lock();
        if let Some(member) = state.members.find(connection.id()) {
            self.end(&mut state, member, reason);
        }
    }

    /// The names of the channels that a connection hears, sorted; the same name in two spaces is there twice.
    pub fn channels(&self, connection: &Connection) -> Vec<String> {
        let state = self.lock();
        let member = state.members.find(connection.id());
        let member = member.and_then(|member| state.members.get(member));
        member.map_or_else(Vec::new, |member| names(&state.channels, &member.channels))
    }

    /// Refuses new connections and ends those there are, after telling each client to come back within so long.
    pub fn drain(&self, within: Duration) {
        let mut state = self.lock();
        for member in state.members.numbers() {
            let sequence = state.ids.next();
            if let Some(outlet) = state.members.get(member).map(|member| member.outlet) {
                let word = Frame::word(&event::retry_block(reconnect_after(within)), sequence);
                // Without the queue's limit: who is nearly too slow has to hear it, too.
                let command = Command::Replay {
                    outlet: outlet.number,
                    frames: vec![word],
                };
                state.post.tell(outlet.shard, command);
            }
            self.end(&mut state, member, CloseReason::Shutdown);
        }
        state.ended = None;
    }

    /// Forgets events that have grown too old. To be called now and then; what it costs depends on how many
    /// histories have something to forget.
    pub fn expire(&self, now: Instant) {
        let age = self.settings().history_age;
        while self.lock().expire(now, age) {}
    }

    fn lock(&self) -> Locked<'_> {
        Locked::new(self)
    }

    /// Nobody has a handle to the connection any more.
    fn let_go(&self, id: ConnectionId) {
        let mut state = self.lock();
        state.handles.remove(&id);
        // After a storm of handlers it is small again.
        if state.handles.capacity() > HANDLES && state.handles.len() < state.handles.capacity() / 8
        {
            state.handles.shrink_to_fit();
        }
    }

    fn release(&self, id: ConnectionId) {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(member) = state.members.find(id)
            && let Some(member) = state.members.get_mut(member)
            && let Some(returned) = &mut member.returned
            && std::mem::take(&mut returned.held)
        {
            let command = Command::Release {
                outlet: member.outlet.number,
            };
            state.post.tell(member.outlet.shard, command);
        }
    }

    /// Ends a connection and all its registrations, once.
    fn end(&self, state: &mut State, number: u32, reason: CloseReason) {
        let Some(member) = state.members.remove(number) else {
            return;
        };
        let channels = names(&state.channels, &member.channels);
        let mut left = Vec::with_capacity(member.channels.len());
        for number in &member.channels {
            if let Some(channel) = state.channels.get_mut(*number) {
                left.extend(channel.leave(member.outlet));
                if let Some(membership) = state.memberships.get(&channel.space) {
                    membership.left(&channel.name, member.id);
                }
                if channel.connections() == 0
                    && let Some(occupancies) = state.occupancies.get(&channel.space)
                {
                    occupancies.note(channel.name.clone(), false);
                }
            }
            state.forget_if_unused(*number);
        }
        let command = Command::End {
            outlet: member.outlet.number,
            reason,
            groups: left.iter().map(|left| left.group).collect(),
        };
        state.post.tell(member.outlet.shard, command);
        left.iter().for_each(|left| state.post.left(left));
        self.counters().add_closed(reason);
        if let Some(end) = state.handles.get(&member.id) {
            end.set(reason);
            state.post.ends.push(end.clone());
        }
        if let Some(ended) = &state.ended {
            ended.tell(Ended {
                connection: member.id,
                channels,
                reason,
            });
        }
    }

    // === what shards say ===

    fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// A connection has ended at its shard.
    fn end_of(&self, member: u32, outlet: OutletId, reason: CloseReason) {
        let mut state = self.lock();
        // The hub may have ended it meanwhile and given its number to another, which has another outlet: this one is
        // not free before the shard has heard of the end.
        if state
            .members
            .get(member)
            .is_some_and(|member| member.outlet == outlet)
        {
            self.end(&mut state, member, reason);
        }
    }

    /// A connection has ended and its socket is gone.
    fn delivery_closed(&self) {
        self.shared.deliveries.fetch_sub(1, Ordering::Relaxed);
    }

    /// How much waits for a connection has changed.
    fn report_waiting(&self, before: usize, after: usize) {
        self.counters().add_queued(after.wrapping_sub(before));
        self.shared.engine.report_waiting(before, after);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl State {
    /// A connection does not hear a channel any more.
    fn unsubscribe(&mut self, id: ConnectionId, outlet: OutletId, number: u32) {
        if let Some(channel) = self.channels.get_mut(number)
            && let Some(left) = channel.leave(outlet)
        {
            if let Some(membership) = self.memberships.get(&channel.space) {
                membership.left(&channel.name, id);
            }
            if channel.connections() == 0
                && let Some(occupancies) = self.occupancies.get(&channel.space)
            {
                occupancies.note(channel.name.clone(), false);
            }
            let command = Command::Leave {
                outlet: outlet.number,
                group: left.group,
            };
            self.post.tell(left.shard, command);
            self.post.left(&left);
        }
        self.forget_if_unused(number);
    }

    /// Takes a channel away if nobody would miss it.
    fn forget_if_unused(&mut self, number: u32) {
        if let Some(channel) = self.channels.get(number)
            && channel.is_unused()
        {
            self.ids.forget_channel(channel.history.evicted_through());
            self.channels.remove(number);
        }
    }
}

fn names(channels: &Channels, numbers: &[u32]) -> Vec<String> {
    let channels = numbers.iter().filter_map(|number| channels.get(*number));
    let mut names: Vec<_> = channels.map(|channel| channel.name.to_string()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests;
