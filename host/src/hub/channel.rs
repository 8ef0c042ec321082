//! A channel: who hears it, and what it keeps.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;
use smallvec::SmallVec;
use thiserror::Error;

use super::{
    Post,
    delivery::{OutletId, command::Command},
    frame::Frame,
    history::History,
    slab::Slab,
};

/// The longest name of a channel, in bytes.
pub const NAME_BYTES: usize = 255;

/// A channel's name: 1 to [`NAME_BYTES`] bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

/// Why a name is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// It has no characters.
    #[error("a channel name must not be empty")]
    Empty,
    /// It has too many bytes.
    #[error("a channel name has at most {NAME_BYTES} bytes, and this one has {0}")]
    TooLong(usize),
    /// It has a character that does not belong in a name.
    #[error("a channel name must not contain control characters, and this one has {0:?}")]
    Odd(char),
}

/// The channels that somebody hears or whose history is watched.
#[derive(Debug)]
pub(super) struct Channels {
    channels: Slab<Channel>,
    /// The same name in two spaces is two channels.
    by_name: HashTable<u32>,
    hasher: RandomState,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) space: u32,
    /// Whether the hub looks at the history when it is due. It does from the first event on, and until it finds it
    /// empty.
    pub(super) watched: bool,
    /// Whether a broker tells this node all that is published on it.
    pub(super) carried: bool,
    pub(super) name: ChannelName,
    /// Who hears it: a group in each shard that has somebody.
    parts: SmallVec<[Part; 1]>,
    /// What it keeps for those who come back.
    pub(super) history: History,
}

/// Those of one shard who hear a channel.
#[derive(Debug)]
struct Part {
    shard: u16,
    group: u32,
    connections: u32,
}

/// A group that a connection has left.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) shard: u16,
    pub(super) group: u32,
    /// Nobody is left in it: once the shard was told, its number is free.
    pub(super) empty: bool,
}

impl ChannelName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_BYTES {
            return Err(NameError::TooLong(name.len()));
        }
        match name.chars().find(|c| c.is_control()) {
            Some(odd) => Err(NameError::Odd(odd)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Channels ===

impl Channels {
    pub(super) fn new() -> Self {
        Self {
            channels: Slab::new(),
            by_name: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    pub(super) fn find(&self, space: u32, name: &ChannelName) -> Option<u32> {
        let is = |number: &u32| {
            let channel = self.channels.get(*number);
            channel.is_some_and(|channel| channel.space == space && channel.name == *name)
        };
        self.by_name
            .find(self.hasher.hash_one((space, name)), is)
            .copied()
    }

    /// The channel of this name. A new one may stand in the place of one that was forgotten, of which there were
    /// events up to this sequence number.
    pub(super) fn find_or_insert(
        &mut self,
        space: u32,
        name: &ChannelName,
        forgotten_through: u64,
    ) -> u32 {
        if let Some(number) = self.find(space, name) {
            return number;
        }
        let hash = self.hasher.hash_one((space, name));
        let number = self.channels.insert(Channel {
            space,
            watched: false,
            carried: false,
            name: name.clone(),
            parts: SmallVec::new(),
            history: History::new(forgotten_through),
        });
        self.by_name.insert_unique(hash, number, |number| {
            hash_of(&self.channels, &self.hasher, *number)
        });
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&Channel> {
        self.channels.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Channel> {
        self.channels.get_mut(number)
    }

    pub(super) fn remove(&mut self, number: u32) {
        let Some(channel) = self.channels.remove(number) else {
            return;
        };
        let hash = self.hasher.hash_one((channel.space, &channel.name));
        if let Ok(entry) = self.by_name.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
        if self.by_name.len() < self.by_name.capacity() / 8 {
            self.by_name.shrink_to(self.by_name.len() * 2, |number| {
                hash_of(&self.channels, &self.hasher, *number)
            });
        }
    }
}

fn hash_of(channels: &Slab<Channel>, hasher: &RandomState, number: u32) -> u64 {
    channels
        .get(number)
        .map_or(0, |channel| hasher.hash_one((channel.space, &channel.name)))
}

// === impl Channel ===

impl Channel {
    /// Whether nothing would be missed if it were gone.
    pub(super) fn is_unused(&self) -> bool {
        self.parts.is_empty() && !self.watched && !self.carried
    }

    /// How many hear it.
    pub(super) fn connections(&self) -> u32 {
        self.parts.iter().map(|part| part.connections).sum()
    }

    /// The groups of those who hear it: shard, number, and how many they are.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u16, u32, u32)> {
        let parts = self.parts.iter();
        parts.map(|part| (part.shard, part.group, part.connections))
    }

    /// Lets a connection hear it, which does not yet.
    pub(super) fn join(&mut self, outlet: OutletId, post: &mut Post) {
        let mut parts = self.parts.iter_mut();
        let group = match parts.find(|part| part.shard == outlet.shard) {
            Some(part) => {
                part.connections += 1;
                part.group
            }
            None => {
                let group = post.engine.take_group(outlet.shard);
                self.parts.push(Part {
                    shard: outlet.shard,
                    group,
                    connections: 1,
                });
                group
            }
        };
        let command = Command::Join {
            outlet: outlet.number,
            group,
        };
        post.tell(outlet.shard, command);
    }

    /// Counts a connection out that heard it. Its shard is still to be told.
    pub(super) fn leave(&mut self, outlet: OutletId) -> Option<Left> {
        let mut parts = self.parts.iter();
        let at = parts.position(|part| part.shard == outlet.shard)?;
        let part = &mut self.parts[at];
        part.connections -= 1;
        let left = Left {
            shard: part.shard,
            group: part.group,
            empty: part.connections == 0,
        };
        if left.empty {
            self.parts.remove(at);
        }
        Some(left)
    }

    /// Hands a frame to everybody who hears it, and says how many they are.
    pub(super) fn deliver(&self, frame: &Arc<Frame>, post: &mut Post) -> u32 {
        for part in &self.parts {
            let command = Command::Deliver {
                group: part.group,
                frame: frame.clone(),
            };
            post.deliver(part.shard, command, part.connections, frame.len());
        }
        self.connections()
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(ChannelName::new(""), Err(NameError::Empty));
        assert_eq!(
            ChannelName::new(&"ä".repeat(128)),
            Err(NameError::TooLong(256))
        );
        assert_eq!(ChannelName::new("a\nb"), Err(NameError::Odd('\n')));
        assert_eq!(ChannelName::new("a\u{85}b"), Err(NameError::Odd('\u{85}')));
        assert_eq!(
            ChannelName::new("raum 1/größe ☂").unwrap().as_str(),
            "raum 1/größe ☂"
        );
    }
}
