//! Delivery: from the hubs to the sockets.
//!
//! # Layout
//!
//! - [`Engine`]: the shards of a node, one for every second core, and what they share. Hubs tell them what to do.
//! - [`command`], [`inbox`]: what a shard is told, and how.
//! - [`worker`]: the thread of a shard: it sleeps until it is told something or a socket is ready.
//! - [`work`]: what the thread does when it is awake, or somebody else in its place.
//! - [`shard`]: what it owns, and what it does.
//! - [`outlet`]: one connection: what waits for it, where it goes, when it is due.
//! - [`queue`], [`group`], [`wheel`]: what waits, who hears, and when.
//! - [`tally`]: what was delivered, until it is counted.
//! - [`Delivery`]: what belongs to the response of a connection.
//! - [`body`]: the way through the HTTP library, where a socket cannot be taken over.
//! - [`admission`]: how many clients there may be.

mod admission;
pub mod body;
pub(super) mod command;
mod group;
mod inbox;
pub mod outlet;
mod queue;
mod response;
mod shard;
mod tally;
mod wheel;
mod work;
pub(super) mod worker;

use std::{
    io,
    net::IpAddr,
    num::NonZero,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mio::Waker;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::response::Delivery;
use self::{
    admission::Admission,
    command::Command,
    inbox::Inbox,
    outlet::Ticks,
    wheel::{NEVER, Tick, ticks},
    work::Work,
    worker::Worker,
};
use super::{HubError, connection::Timing, slab::Slots};

/// Deliveries that may wait to be put into the queues of a shard's connections. Past it publishers wait: a node that
/// is busy must not take more than it can deliver.
const BACKLOG: usize = 128 * 1024;
/// Past this, what cannot wait is refused.
const OVERLOAD: usize = 4 * BACKLOG;
/// What any command counts as.
const COMMAND_COST: usize = 16;
/// So many bytes of an event count as one delivery.
const BYTES_OF_DELIVERY: usize = 256;
/// What a shard was told is done by whoever told it, instead of waking its thread, where it is no more than this: one
/// event for a few connections.
const LITTLE: usize = COMMAND_COST + 4;

/// The primitives of the hand-over, which its model takes from elsewhere.
mod sync {
    pub(super) use parking_lot::Mutex;
}

/// What a node may deliver at a time.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that deliver.
    pub shards: usize,
    /// Connections in all, of all hubs.
    pub connections: usize,
    /// Connections of one client address; for IPv6, of one network of 64 bits.
    pub connections_per_address: usize,
    /// Bytes that may wait for all connections together.
    pub queued_bytes: usize,
    /// How long a client may take nothing while something waits for it.
    pub write_timeout: Duration,
}

/// Delivers what hubs publish. Clones share it; it ends with the last one and the last hub.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    _stop: Arc<Stop>,
}

/// What shards and hubs share.
#[derive(Debug)]
struct Shared {
    shards: Vec<Handle>,
    admission: Mutex<Admission>,
    /// Bytes that wait for all connections.
    queued: AtomicUsize,
    queued_limit: usize,
    /// In ticks of the wheel.
    write_timeout: Tick,
    began: Instant,
}

/// A shard, from outside.
#[derive(Debug)]
struct Handle {
    inbox: Inbox<Told>,
    waker: Waker,
    /// What its thread does, once that runs.
    work: OnceLock<Weak<Mutex<Work>>>,
    /// The numbers of its outlets. The shard gives them back.
    outlets: Mutex<Slots>,
    /// The numbers of its groups. Hubs give them back.
    groups: Mutex<Slots>,
    /// Its connections.
    connections: AtomicUsize,
    /// What it was told and has not done, in deliveries.
    backlog: AtomicUsize,
    /// Told when the backlog has come down.
    room: Notify,
    /// The most that waits for one of its connections, where too much waits on the node.
    worst: AtomicUsize,
}

/// Ends the shards.
#[derive(Debug)]
struct Stop(Arc<Shared>);

/// An outlet and its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutletId {
    pub(super) shard: u16,
    pub(super) number: u32,
}

/// A command, and what it counts as in the backlog.
#[derive(Debug)]
struct Told {
    command: Command,
    cost: usize,
}

/// The shards that have to be woken.
#[derive(Debug, Default)]
pub(super) struct Wakes(Vec<u16>);

impl Settings {
    /// As many shards as suit this machine: half of its cores. Most of what a delivery costs is spent by the system,
    /// which needs cores for it, as guests do. With two shards on two cores a delivery took a fifth more CPU time than
    /// with one, and longer.
    pub fn shards() -> usize {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        (cores / 2).max(1)
    }
}

// === impl Engine ===

impl Engine {
    /// Starts the shards.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        let (engine, workers) = Self::with_workers(settings)?;
        for worker in workers {
            thread::Builder::new()
                .name(format!("fanfare-shard-{}", worker.index()))
                .spawn(move || worker.run())?;
        }
        Ok(engine)
    }

    /// Shards whose turns are up to the caller.
    pub(super) fn with_workers(settings: &Settings) -> io::Result<(Self, Vec<Worker>)> {
        let shards = settings.shards.clamp(1, u16::MAX.into());
        let polls: Vec<_> = (0..shards)
            .map(|_| mio::Poll::new())
            .collect::<io::Result<_>>()?;
        let handles = polls.iter().map(|poll| Handle::new(poll.registry()));
        let shared = Arc::new(Shared {
            shards: handles.collect::<io::Result<_>>()?,
            admission: Mutex::new(Admission::new(
                settings.connections,
                settings.connections_per_address,
            )),
            queued: AtomicUsize::new(0),
            queued_limit: settings.queued_bytes,
            write_timeout: ticks(settings.write_timeout),
            began: Instant::now(),
        });
        let workers = polls.into_iter().enumerate();
        let workers = workers.map(|(index, poll)| Worker::new(index as u16, shared.clone(), poll));
        let workers = workers.collect::<io::Result<_>>()?;
        let engine = Self {
            _stop: Arc::new(Stop(shared.clone())),
            shared,
        };
        Ok((engine, workers))
    }

    /// Bytes that wait for all connections of the node.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// Connections of all hubs that hold a socket, or wait for one: those that count against the node's limit.
    pub fn connections(&self) -> usize {
        self.shared.admission.lock().admitted()
    }

    /// Waits until the shards have done most of what they were told.
    pub(super) async fn room(&self) {
        for shard in &self.shared.shards {
            let mut room = std::pin::pin!(shard.room.notified());
            // Before the backlog is looked at, so that no word of it is missed.
            room.as_mut().enable();
            if shard.backlog.load(Ordering::Acquire) >= BACKLOG {
                room.await;
            }
        }
    }

    /// Whether a shard has so much to do that even what cannot wait is refused.
    pub(super) fn is_overloaded(&self, shard: u16) -> bool {
        let backlog = &self.shared.shards[shard as usize].backlog;
        backlog.load(Ordering::Relaxed) >= OVERLOAD
    }

    /// Finds room for a connection of this client, and an outlet.
    pub(super) fn admit(&self, client: Option<IpAddr>) -> Result<(OutletId, u32), HubError> {
        let place = self.shared.admission.lock().admit(client)?;
        let shards = self.shared.shards.iter().enumerate();
        let load = |(_, shard): &(usize, &Handle)| shard.connections.load(Ordering::Relaxed);
        // There is at least one.
        let (index, shard) = shards
            .min_by_key(load)
            .unwrap_or((0, &self.shared.shards[0]));
        shard.connections.fetch_add(1, Ordering::Relaxed);
        let outlet = OutletId {
            shard: index as u16,
            number: shard.outlets.lock().take(),
        };
        Ok((outlet, place))
    }

    /// A number for a group of this shard.
    pub(super) fn take_group(&self, shard: u16) -> u32 {
        self.shared.shards[shard as usize].groups.lock().take()
    }

    /// A group of this shard is no more, and the shard was told so.
    pub(super) fn give_group(&self, shard: u16, group: u32) {
        self.shared.shards[shard as usize].groups.lock().give(group);
    }

    /// Tells a shard something that means so many deliveries to it.
    pub(super) fn tell(&self, shard: u16, command: Command, deliveries: usize, wakes: &mut Wakes) {
        let handle = &self.shared.shards[shard as usize];
        let cost = COMMAND_COST + deliveries;
        handle.backlog.fetch_add(cost, Ordering::Release);
        if handle.inbox.push(Told { command, cost }) {
            wakes.0.push(shard);
        }
    }

    /// Wakes those that have to be.
    pub(super) fn wake(&self, wakes: &mut Wakes) {
        for shard in wakes.0.drain(..) {
            self.shared.wake(shard);
        }
    }

    /// Does what those have to do that have to be woken, if it is little, and wakes them otherwise. Where one event is for
    /// one connection, the time that a thread takes to wake up is most of what a delivery takes. Only for threads that
    /// the system lets run as soon as it can, as it does the shards' own: others are delayed by what they do.
    pub(super) fn work_or_wake(&self, wakes: &mut Wakes) {
        for shard in wakes.0.drain(..) {
            if !self.shared.work_for(shard) {
                self.shared.wake(shard);
            }
        }
    }

    /// How much waits for a connection has changed.
    pub(super) fn report_waiting(&self, before: usize, after: usize) {
        // Wraps, so that a difference below zero is one, too.
        let difference = after.wrapping_sub(before);
        self.shared.queued.fetch_add(difference, Ordering::Relaxed);
    }

    /// What is left of the connections that there were: each thing that is still held, in words.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut see = |what: &str, is_left: bool| left.extend(is_left.then(|| what.to_owned()));
        for handle in &self.shared.shards {
            see("outlet numbers", !handle.outlets.lock().is_empty());
            see("group numbers", !handle.groups.lock().is_empty());
            see(
                "connections",
                handle.connections.load(Ordering::Relaxed) > 0,
            );
            see("backlog", handle.backlog.load(Ordering::Relaxed) > 0);
        }
        see("clients", !self.shared.admission.lock().is_empty());
        see("waiting bytes", self.queued_bytes() > 0);
        left
    }

    fn tell_now(&self, shard: u16, command: Command) {
        let mut wakes = Wakes::default();
        self.tell(shard, command, 0, &mut wakes);
        self.wake(&mut wakes);
    }
}

/// What delivering an event to so many connections counts as.
pub(super) fn cost(connections: u32, bytes: usize) -> usize {
    connections as usize + bytes / BYTES_OF_DELIVERY
}

impl Timing {
    fn ticks(&self) -> Ticks {
        let ticks = |duration: Option<Duration>| duration.map_or(NEVER, ticks);
        // Each its own part, so that a million clients do not come back in one second.
        let lifetime = self
            .lifetime
            .map(|most| most.mul_f64(rand::random_range(0.8..=1.0)));
        Ticks {
            ping: ticks(self.ping),
            inactivity: ticks(self.inactivity),
            lifetime: ticks(lifetime),
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The tick of this time.
    fn tick(&self, now: Instant) -> Tick {
        let ticks = now.duration_since(self.began).as_millis() / wheel::TICK.as_millis();
        Tick::try_from(ticks).unwrap_or(NEVER)
    }

    fn wake(&self, shard: u16) {
        if let Err(error) = self.shards[shard as usize].waker.wake() {
            tracing::error!(%error, "cannot wake a thread that delivers");
        }
    }

    /// Does what a shard that sleeps was told. False if its thread has to be woken, because there is more to do or it is
    /// being done.
    fn work_for(&self, shard: u16) -> bool {
        let work = self.shards[shard as usize].work.get();
        let work = work.and_then(Weak::upgrade);
        let done = work.map(|work| work.try_lock().map(|mut work| work.turn_while_asleep()));
        done.flatten().unwrap_or(false)
    }

    /// A connection's socket is closed.
    fn closed(&self, shard: u16, outlet: u32, place: u32) {
        let handle = &self.shards[shard as usize];
        handle.outlets.lock().give(outlet);
        handle.connections.fetch_sub(1, Ordering::Relaxed);
        self.admission.lock().leave(place);
    }

    /// A shard has done what it was told.
    fn done(&self, shard: u16, cost: usize) {
        let handle = &self.shards[shard as usize];
        let before = handle.backlog.fetch_sub(cost, Ordering::AcqRel);
        if before >= BACKLOG && before - cost < BACKLOG {
            handle.room.notify_waiters();
        }
    }

    // === overload ===

    /// Whether more waits than may.
    fn is_over(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > self.queued_limit
    }

    /// Whether more waits than such a part of what may.
    fn exceeds(&self, (part, of): (usize, usize)) -> bool {
        self.queued.load(Ordering::Relaxed) > self.queued_limit / of * part
    }

    fn set_worst(&self, shard: u16, bytes: usize) {
        self.shards[shard as usize]
            .worst
            .store(bytes, Ordering::Relaxed);
    }

    /// Wakes the shard that has a connection for which even more waits, if there is one: it comes first.
    fn wake_worse(&self, shard: u16, bytes: usize) -> bool {
        let shards = self.shards.iter().enumerate();
        let others = shards.filter(|(index, _)| *index != shard as usize);
        let worst = others
            .map(|(index, handle)| (handle.worst.load(Ordering::Relaxed), index))
            .max();
        match worst {
            Some((worse, index)) if worse > bytes => {
                self.wake(index as u16);
                true
            }
            _ => false,
        }
    }
}

impl Handle {
    fn new(registry: &mio::Registry) -> io::Result<Self> {
        Ok(Self {
            inbox: Inbox::new(),
            waker: Waker::new(registry, worker::WAKE)?,
            work: OnceLock::new(),
            outlets: Mutex::default(),
            groups: Mutex::default(),
            connections: AtomicUsize::new(0),
            backlog: AtomicUsize::new(0),
            room: Notify::new(),
            worst: AtomicUsize::new(0),
        })
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for (index, handle) in self.0.shards.iter().enumerate() {
            let command = Command::Stop;
            if handle.inbox.push(Told { command, cost: 0 }) {
                self.0.wake(index as u16);
            }
        }
    }
}
