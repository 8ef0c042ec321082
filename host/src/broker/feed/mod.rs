//! A feed: what a node does with what a broker pushes to it.
//!
//! # Layout
//!
//! - [`Feed`]: the channels that this node listens to; registering and publishing.
//! - [`channel`]: one of them: order, holes, what is held back.
//! - [`sink`]: where the broker tells what it pushes.
//! - [`missed`]: catching up with what was missed.
//! - [`presence`]: telling other nodes who hears which channel here.
//! - [`returning`]: what clients need that come back.
//!
//! # Which channels
//!
//! A node listens to a channel while one of its connections hears it, and a little longer ([`LINGER`]), so that a
//! client that reloads a page does not make it stop and begin again.
//!
//! # One order
//!
//! Each connection hears the events of all its channels in the order of their positions: that is what makes one
//! Last-Event-ID enough for all of them. A broker pushes in that order. Where something was missed on one channel, all
//! are held back, what was missed on any of them is read, and then all of it is delivered in order.

mod channel;
mod missed;
mod presence;
mod returning;
mod sink;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

pub use self::sink::Sink;
use self::{
    channel::{Channel, Deliver, Phase},
    presence::announce,
};
use super::{Broker, BrokerError};
use crate::{
    event::Event,
    hub::{
        HubError, Published, Space, carried::Placed, channel::ChannelName, connection::Connection,
        membership::Membership, occupancy::Occupancies,
    },
};

/// How long a node goes on to listen to a channel that nobody hears any more.
const LINGER: Duration = Duration::from_secs(5);
/// How long publishing waits until an event that was accepted was delivered to this node's connections: where the push
/// is broken, it is delivered later.
const ECHO: Duration = Duration::from_secs(1);

/// The channels of a publisher that this node listens to. Dropping it ends that.
pub struct Feed {
    core: Arc<Core>,
    /// Members that other nodes are to be told of.
    pending: Arc<Membership>,
    _keeper: AbortOnDropHandle<()>,
    /// Tells them, once the broker was started.
    announcer: OnceLock<AbortOnDropHandle<()>>,
}

struct Core {
    broker: Box<dyn Broker>,
    space: Space,
    /// Where what is read is read: callers come from threads that guests keep busy.
    runtime: Handle,
    /// Told when there may be a channel that nobody needs any more.
    idle: Arc<Notify>,
    state: Mutex<State>,
    /// Channels that became occupied or vacated: on all nodes where the broker can tell, else here.
    occupancies: Arc<Occupancies>,
    /// All that was published up to this position, on channels that are live, was pushed.
    complete: watch::Sender<u64>,
    /// Whether nothing is known to be missed.
    live: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    channels: HashMap<ChannelName, Channel>,
    /// How many there were.
    opened: u64,
    /// Whether the push works, as far as it is known.
    broken: bool,
    /// How often it broke.
    breaks: u64,
    /// What was missed is being read.
    catching_up: bool,
    /// Channels that nobody may hear any more, with the time to look.
    idle: VecDeque<(Instant, ChannelName)>,
}

/// A call that needs a channel to be listened to.
struct User<'a> {
    core: &'a Core,
    channel: &'a ChannelName,
    number: u64,
}

/// A publication that is under way.
struct Publishing<'a> {
    core: &'a Core,
    channel: &'a ChannelName,
    number: u64,
}

/// The connections that hear a channel.
struct Listeners<'a> {
    space: &'a Space,
    channel: &'a ChannelName,
}

// === impl Feed ===

impl Feed {
    /// What this broker pushes is delivered to this space. Tasks are run on this runtime.
    pub fn new(space: Space, broker: Box<dyn Broker>, runtime: Handle) -> Self {
        let idle = Arc::<Notify>::default();
        let membership = space.membership();
        let core = Arc::new(Core {
            broker,
            space,
            runtime: runtime.clone(),
            idle: idle.clone(),
            state: Mutex::default(),
            occupancies: Arc::default(),
            complete: watch::Sender::new(0),
            live: watch::Sender::new(true),
        });
        let pending = Arc::<Membership>::default();
        let keeper = keep(Arc::downgrade(&core), idle, membership, pending.clone());
        Self {
            core,
            pending,
            _keeper: AbortOnDropHandle::new(runtime.spawn(keeper)),
            announcer: OnceLock::new(),
        }
    }

    /// Starts the broker.
    pub async fn start(&self) -> Result<(), BrokerError> {
        let core = self.core.clone();
        let start = async move { core.broker.start(Sink::new(&core)).await };
        // By way of the runtime: it is a guest's thread that asks, and threads that are started for the broker would have
        // its priority.
        let started =
            AbortOnDropHandle::new(self.core.runtime.spawn(start.in_current_span())).await;
        started.map_err(|_| {
            BrokerError::Unavailable(
                "the broker was not started; the node is shutting down, or the log says why".into(),
            )
        })??;
        if self.core.broker.presence().is_none() {
            self.core
                .space
                .tell_occupancy(self.core.occupancies.clone());
        } else {
            self.announcer.get_or_init(|| {
                let announce = announce(Arc::downgrade(&self.core), self.pending.clone());
                AbortOnDropHandle::new(self.core.runtime.spawn(announce))
            });
        }
        Ok(())
    }

    /// Channels that become occupied or vacated: on all nodes together where the broker can tell, else on this one.
    pub fn occupancies(&self) -> &Arc<Occupancies> {
        &self.core.occupancies
    }

    /// How many connections hear a channel: of all nodes, where the broker can tell.
    pub async fn subscribers(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        let others = match self.core.broker.presence() {
            Some(presence) => presence.others(channel).await?,
            None => 0,
        };
        Ok(others + self.core.space.subscribers(channel))
    }

    /// The ids of the connections that hear a channel, sorted, at most so many: of all nodes, where the broker can tell.
    pub async fn presence(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<String>, BrokerError> {
        let mut members = self.core.space.presence(channel, limit).await;
        if let Some(presence) = self.core.broker.presence() {
            members.extend(presence.other_members(channel, limit).await?);
            members.sort_unstable();
            members.truncate(limit);
        }
        Ok(members)
    }

    /// Lets a connection hear a channel from now on, after what it missed since its Last-Event-ID.
    pub async fn register(
        &self,
        connection: &Connection,
        channel: &ChannelName,
    ) -> Result<Result<(), HubError>, BrokerError> {
        let core = &self.core;
        let _user = core.listen(channel).await?;
        let place = match connection.last_event_id() {
            Some(id) => core.returning(channel, id).await?,
            None => None,
        };
        match place {
            Some(place) => core.register_after(connection, channel, place).await,
            None => Ok(core.space.register_at(connection, channel, None)),
        }
    }

    /// Whether this node listens to a channel.
    pub fn listens(&self, channel: &ChannelName) -> bool {
        self.core.state.lock().channels.contains_key(channel)
    }

    /// Publishes an event. Returns when it is accepted and on its way to this node's connections.
    pub async fn publish(
        &self,
        channel: &ChannelName,
        event: &Event,
    ) -> Result<Published, BrokerError> {
        let core = &self.core;
        let publishing = Publishing::begin(core, channel);
        let accepted = core.broker.publish(channel, event).await?;
        let delivered = match publishing {
            Some(_) if !accepted.duplicate => core.delivered(channel, accepted.position).await,
            _ => 0,
        };
        core.space.room().await;
        Ok(Published {
            id: accepted.id,
            delivered,
            duplicate: accepted.duplicate,
        })
    }

    /// The newest events that are kept of a channel, oldest first.
    pub async fn history(
        &self,
        channel: &ChannelName,
        limit: usize,
    ) -> Result<Vec<Event>, BrokerError> {
        self.core.history(channel, limit).await
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

// === impl Core ===

impl Core {
    /// Sees that the channel is listened to, for as long as the answer is kept.
    async fn listen<'a>(
        self: &'a Arc<Self>,
        channel: &'a ChannelName,
    ) -> Result<User<'a>, BrokerError> {
        let (mut opened, number) = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let entry = match state.channels.entry(channel.clone()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let opening = open(Arc::downgrade(self), channel.clone());
                    self.runtime.spawn(opening);
                    state.opened += 1;
                    entry.insert(Channel::new(state.opened))
                }
            };
            entry.users += 1;
            (entry.opened.subscribe(), entry.number)
        };
        let user = User {
            core: self,
            channel,
            number,
        };
        // Opening it has a timeout of its own.
        let result = match opened.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        match result {
            Some(result) => result.map(|()| user),
            None => Err(BrokerError::Unavailable(
                "the broker is not used any more, because the node is shutting down".into(),
            )),
        }
    }

    /// Waits until an event that was accepted was delivered here, and says to how many connections.
    async fn delivered(&self, channel: &ChannelName, position: u64) -> u32 {
        let waits = {
            let mut state = self.state.lock();
            let state = &mut *state;
            match state.channels.get_mut(channel) {
                // While the push is broken, it is delivered later.
                Some(channel) if !state.broken => channel.delivered(position),
                _ => Ok(0),
            }
        };
        match waits {
            Ok(delivered) => delivered,
            Err(receiver) => match timeout(ECHO, receiver).await {
                Ok(Ok(delivered)) => delivered,
                _ => 0,
            },
        }
    }

    /// The channels whose time has come and that nobody hears or needs are not listened to any more. Returns when to
    /// look again.
    fn stop_idle(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let state = &mut *state;
        while let Some((at, channel)) = state.idle.front() {
            if *at > now {
                return Some(*at);
            }
            if let Some(known) = state.channels.get(channel)
                && known.users == 0
                && known.phase != Phase::Opening
                && self.space.subscribers(channel) == 0
            {
                state.channels.remove(channel);
                self.space.stop(channel);
                // Under the lock, so that whoever listens again does so after this.
                self.broker.unsubscribe(channel);
            }
            state.idle.pop_front();
            // What very many channels took is not kept for ever.
            if state.channels.len() < state.channels.capacity() / 8 {
                state.channels.shrink_to(state.channels.len() * 2);
            }
            if state.idle.len() < state.idle.capacity() / 8 {
                state.idle.shrink_to(state.idle.len() * 2);
            }
        }
        None
    }
}

/// Asks the broker to push a channel.
async fn open(core: Weak<Core>, channel: ChannelName) {
    let Some(core) = core.upgrade() else { return };
    let opened = core.broker.subscribe(&channel).await;
    let mut guard = core.state.lock();
    let state = &mut *guard;
    // It is still the one that was opened: while it is, it is neither stopped nor opened again.
    let Some(entry) = state.channels.get_mut(&channel) else {
        return;
    };
    match opened {
        Ok(position) => {
            core.space.begin(&channel, position);
            let live = entry.begin(position, &core.listeners(&channel));
            // What could not be read, and came before there was anybody to be told.
            if entry.gap() > position {
                core.space.gap(&channel, entry.gap());
            }
            entry.opened.send_replace(Some(Ok(())));
            if entry.users == 0 && core.space.subscribers(&channel) == 0 {
                // Whoever wanted it has given up.
                state
                    .idle
                    .push_back((Instant::now() + LINGER, channel.clone()));
                core.idle.notify_one();
            }
            if state.broken || state.catching_up {
                entry.fall_behind();
            }
            if !live {
                core.fall_behind(state);
            }
        }
        Err(error) => {
            entry.opened.send_replace(Some(Err(error)));
            state.channels.remove(&channel);
            // It may have been done all the same.
            core.broker.unsubscribe(&channel);
        }
    }
}

/// Looks for channels that nobody hears any more, for ever.
async fn keep(
    core: Weak<Core>,
    idle: Arc<Notify>,
    membership: Arc<Membership>,
    pending: Arc<Membership>,
) {
    let mut next = None;
    loop {
        let changes = tokio::select! {
            changes = membership.changes() => changes,
            () = idle.notified() => Vec::new(),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => Vec::new(),
        };
        let Some(core) = core.upgrade() else { return };
        {
            let at = Instant::now() + LINGER;
            let mut state = core.state.lock();
            let left = changes.iter().filter(|change| !change.joined);
            let left = left.map(|change| (at, change.channel.clone()));
            state.idle.extend(left);
        }
        if core.broker.presence().is_some() {
            pending.extend(changes);
        }
        next = core.stop_idle(Instant::now());
    }
}

impl Core {
    fn listeners<'a>(&'a self, channel: &'a ChannelName) -> Listeners<'a> {
        Listeners {
            space: &self.space,
            channel,
        }
    }
}

impl Deliver for Listeners<'_> {
    fn event(&self, placed: &Placed) -> u32 {
        self.space.deliver(self.channel, placed)
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        let mut state = self.core.state.lock();
        if let Some(channel) = state.channels.get_mut(self.channel)
            && channel.number == self.number
        {
            channel.users -= 1;
            if channel.users == 0 {
                channel.older = None;
            }
            if channel.users == 0 && self.core.space.subscribers(self.channel) == 0 {
                let at = Instant::now() + LINGER;
                state.idle.push_back((at, self.channel.clone()));
                self.core.idle.notify_one();
            }
        }
    }
}

impl<'a> Publishing<'a> {
    /// `None` where this node does not listen to the channel: then nobody here hears the event.
    fn begin(core: &'a Core, channel: &'a ChannelName) -> Option<Self> {
        let mut state = core.state.lock();
        let entry = state.channels.get_mut(channel)?;
        entry.begin_publishing();
        Some(Self {
            core,
            channel,
            number: entry.number,
        })
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        let mut state = self.core.state.lock();
        if let Some(channel) = state.channels.get_mut(self.channel)
            && channel.number == self.number
        {
            channel.end_publishing();
        }
    }
}
