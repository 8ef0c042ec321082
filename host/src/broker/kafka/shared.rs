//! What the reader and those who publish and ask share.

use std::{
    collections::{HashMap, HashSet},
    iter,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};

use super::{super::Accepted, index::Index, record::Origin};
use crate::hub::channel::ChannelName;

pub(super) struct Shared {
    state: Mutex<State>,
    read: watch::Sender<Reached>,
    /// How many partitions are read.
    partitions: AtomicUsize,
    /// Whether there are more.
    outgrown: AtomicBool,
    /// Tells the records of this node from those of others.
    node: u64,
    numbers: AtomicU64,
}

/// How far the log was read, and pushed where it had to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// All records of each partition before these offsets were.
    pub(super) offsets: Vec<u64>,
    /// The position that was told then.
    pub(super) position: u64,
}

pub(super) struct State {
    pub(super) index: Index,
    /// The newest position of the logs that were read before this one, whose positions are greater.
    before: u64,
    /// The channels whose events are pushed.
    pub(super) heard: HashSet<ChannelName>,
    /// Who waits for the node's own records, by their numbers.
    waiting: HashMap<u64, oneshot::Sender<Accepted>>,
}

/// Waits until the node reads a record of its own.
pub(super) struct Echo<'a> {
    shared: &'a Shared,
    pub(super) origin: Origin,
    pub(super) read: oneshot::Receiver<Accepted>,
}

impl Shared {
    pub(super) fn new(index: Index) -> Self {
        Self {
            state: Mutex::new(State {
                index,
                before: 0,
                heard: HashSet::new(),
                waiting: HashMap::new(),
            }),
            read: watch::Sender::new(Reached::default()),
            partitions: AtomicUsize::new(1),
            outgrown: AtomicBool::new(false),
            node: rand::random(),
            numbers: AtomicU64::new(1),
        }
    }

    /// The lock is never held while the feed is told something, which calls back under a lock of its own.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Expects a record of this node.
    pub(super) fn expect(&self) -> Echo<'_> {
        let (sender, read) = oneshot::channel();
        let origin = self.origin();
        self.lock().waiting.insert(origin.number, sender);
        Echo {
            shared: self,
            origin,
            read,
        }
    }

    /// The origin of the next record of this node.
    pub(super) fn origin(&self) -> Origin {
        Origin {
            node: self.node,
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// All records of each partition before these offsets were read, and pushed where they had to be, and this position
    /// was told.
    pub(super) fn reached(&self, offsets: impl IntoIterator<Item = u64>, position: u64) {
        let reached = Reached {
            offsets: offsets.into_iter().collect(),
            position,
        };
        // It is told again and again where nothing comes, and nobody is to be woken for that.
        self.read.send_if_modified(|read| {
            let other = *read != reached;
            *read = reached;
            other
        });
    }

    /// Waits until all records of each partition before these offsets were read and pushed. Returns the position that was
    /// told then.
    pub(super) async fn reach(&self, offsets: &[u64]) -> u64 {
        let mut read = self.read.subscribe();
        let reached = |read: &Reached| {
            let known = read.offsets.iter().copied().chain(iter::repeat(0));
            offsets
                .iter()
                .zip(known)
                .all(|(offset, known)| known >= *offset)
        };
        // The sender is here.
        let reached = read.wait_for(reached).await;
        reached.map_or(0, |read| read.position)
    }

    /// All records of the first partition before this offset were read, and pushed where they had to be.
    pub(super) fn read_through(&self) -> u64 {
        self.read.borrow().offsets.first().copied().unwrap_or(0)
    }

    /// How many partitions are read.
    pub(super) fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }

    /// So many partitions are read.
    pub(super) fn has_partitions(&self, partitions: usize) {
        self.partitions.store(partitions, Ordering::Relaxed);
        self.outgrown.store(false, Ordering::Relaxed);
    }

    /// A record of a partition was acknowledged, which may be none of those that are read.
    pub(super) fn acknowledged(&self, partition: i32) {
        if usize::try_from(partition).is_ok_and(|partition| partition >= self.partitions()) {
            self.outgrown.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there were more partitions since this was asked last.
    pub(super) fn take_outgrown(&self) -> bool {
        self.outgrown.swap(false, Ordering::Relaxed)
    }
}

impl State {
    /// Begins to read anew. What was told before is not forgotten.
    pub(super) fn begin(&mut self, index: Index) {
        self.before = self.newest();
        self.index = index;
    }

    /// The newest position of what was read before the log was begun anew; 0 if it never was.
    pub(super) fn before(&self) -> u64 {
        self.before
    }

    /// The newest position that was read.
    pub(super) fn newest(&self) -> u64 {
        self.before.max(self.index.newest())
    }

    /// A record was read; if it is this node's, whoever waits for it is to be told what became of it.
    pub(super) fn waiting(
        &mut self,
        shared: &Shared,
        origin: Option<Origin>,
    ) -> Option<oneshot::Sender<Accepted>> {
        let origin = origin.filter(|origin| origin.node == shared.node)?;
        self.waiting.remove(&origin.number)
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.origin.number);
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
