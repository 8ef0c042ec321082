//! The members of a hub: its connections, as it has them. It is all that an idle stream costs there.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{channel::ChannelName, connection::ConnectionId, delivery::OutletId, slab::Slab};

/// All connections of a hub.
#[derive(Debug)]
pub(super) struct Members {
    members: Slab<Member>,
    by_id: HashTable<u32>,
    hasher: RandomState,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: ConnectionId,
    pub(super) outlet: OutletId,
    /// The channels that it hears, by their numbers.
    pub(super) channels: SmallVec<[u32; 4]>,
    /// What is to be known of a client that came back. Boxed, because most have not.
    pub(super) returned: Option<Box<Returned>>,
}

/// A client that came back.
#[derive(Debug)]
pub(super) struct Returned {
    /// The last event that it heard.
    pub(super) last: Arc<str>,
    /// What it missed is still being put together.
    pub(super) held: bool,
    /// The channels, with their spaces, whose missed events it has got: whoever leaves a channel and joins it again
    /// does not get them again.
    pub(super) replayed: BTreeSet<(u32, ChannelName)>,
}

impl Members {
    pub(super) fn new() -> Self {
        Self {
            members: Slab::new(),
            by_id: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn insert(&mut self, member: Member) -> u32 {
        let hash = self.hasher.hash_one(member.id);
        let number = self.members.insert(member);
        self.by_id.insert_unique(hash, number, |number| {
            hash_of(&self.members, &self.hasher, *number)
        });
        number
    }

    /// The number of a connection.
    pub(super) fn find(&self, id: ConnectionId) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        let found = self.by_id.find(hash, |number| {
            self.members
                .get(*number)
                .is_some_and(|member| member.id == id)
        });
        found.copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Member> {
        self.members.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Member> {
        self.members.get_mut(number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Member> {
        let member = self.members.remove(number)?;
        let hash = self.hasher.hash_one(member.id);
        if let Ok(entry) = self.by_id.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
        if self.by_id.len() < self.by_id.capacity() / 8 {
            self.by_id.shrink_to(self.by_id.len() * 2, |number| {
                hash_of(&self.members, &self.hasher, *number)
            });
        }
        Some(member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().map(|(_, member)| member)
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        self.members.iter().map(|(number, _)| number).collect()
    }
}

fn hash_of(members: &Slab<Member>, hasher: &RandomState, number: u32) -> u64 {
    members
        .get(number)
        .map_or(0, |member| hasher.hash_one(member.id))
}
