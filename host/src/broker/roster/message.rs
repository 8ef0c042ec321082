//! What a node writes: a character for the version of this form, then JSON.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::hub::{channel::ChannelName, connection::ConnectionId, membership::Change};

/// The version of this form. A node skips what has another.
const VERSION: u8 = b'1';
/// A message is no larger than this, in bytes, if it does not have to be.
const LARGEST: usize = 128 << 10;
/// What is larger is not read, in bytes.
const LARGEST_READ: usize = 4 << 20;
/// What a message has beside members, in bytes, and more than that.
const AROUND: usize = 256;
/// What a connection takes, in bytes: its id, quotes, a comma.
const CONNECTION: usize = 35;
/// What a channel takes beside its name, in bytes.
const AROUND_CHANNEL: usize = 8;

/// A node, as long as it is known. One that was written off goes on under another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    /// The node: a number at random.
    pub(super) node: u64,
    /// How often it was written off.
    pub(super) life: u32,
}

/// Connections that hear channels.
pub(super) type MembersOf = Vec<(ChannelName, Vec<ConnectionId>)>;

/// A message of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    /// Who wrote it.
    pub(super) from: Name,
    /// Greater by one than that of its last message.
    pub(super) number: u64,
    /// What it says.
    pub(super) says: Says,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Says {
    /// The node lives.
    Lives,
    /// Connections came to hear channels, and others no longer do.
    Changes {
        #[serde(default, with = "members", skip_serializing_if = "Vec::is_empty")]
        joined: MembersOf,
        #[serde(default, with = "members", skip_serializing_if = "Vec::is_empty")]
        left: MembersOf,
    },
    /// A part of a round: members of the node, who may have been told of before.
    Round {
        /// The round begins with this.
        #[serde(default, skip_serializing_if = "is_false")]
        first: bool,
        /// The round ends with this: there are no others than those of it, and those who joined since it began.
        #[serde(default, skip_serializing_if = "is_false")]
        last: bool,
        #[serde(default, with = "members", skip_serializing_if = "Vec::is_empty")]
        members: MembersOf,
    },
    /// A node is dead.
    Dead(Name),
}

/// Why something is no message.
#[derive(Debug, Error)]
pub(super) enum Unreadable {
    /// Its size.
    #[error("it has {0} bytes, and what has more than {LARGEST_READ} is not read")]
    TooLarge(usize),
    /// Another form, or another version of it.
    #[error(
        "it does not begin as a message of this version does: do all nodes run the same software?"
    )]
    Version,
    /// What follows.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl Message {
    /// The message as it is written.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        // Writing to memory does not fail, and nothing in it is a map.
        let written = serde_json::to_writer(&mut bytes, self);
        debug_assert!(written.is_ok(), "{written:?}");
        bytes
    }

    /// Reads what was written, by whomever.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.len() > LARGEST_READ {
            return Err(Unreadable::TooLarge(bytes.len()));
        }
        let json = bytes.strip_prefix(&[VERSION]).ok_or(Unreadable::Version)?;
        Ok(serde_json::from_slice(json)?)
    }
}

impl Says {
    /// Changes, in messages of which none is larger than this if it has more than one of them. Of one that is told of
    /// more than once the last word counts.
    pub(super) fn changes(changes: &[Change], largest: usize) -> Vec<Self> {
        let mut last: Vec<_> = changes.iter().enumerate().collect();
        last.sort_by(|(a_at, a), (b_at, b)| {
            let of = |change: &Change| (change.channel.clone(), change.connection);
            of(a).cmp(&of(b)).then(b_at.cmp(a_at))
        });
        last.dedup_by(|(_, a), (_, b)| a.channel == b.channel && a.connection == b.connection);
        let (mut said, mut room) = (Vec::new(), Room::new(largest));
        let (mut joined, mut left) = (MembersOf::new(), MembersOf::new());
        for (_, change) in last {
            let members = if change.joined { &joined } else { &left };
            let is_empty = joined.is_empty() && left.is_empty();
            if !room.take(members, &change.channel) && !is_empty {
                said.push(Self::Changes {
                    joined: std::mem::take(&mut joined),
                    left: std::mem::take(&mut left),
                });
                room = Room::new(largest);
                room.take(&MembersOf::new(), &change.channel);
            }
            let members = if change.joined {
                &mut joined
            } else {
                &mut left
            };
            add(members, &change.channel, change.connection);
        }
        if !(joined.is_empty() && left.is_empty()) {
            said.push(Self::Changes { joined, left });
        }
        said
    }

    /// Takes members off the end of a list, as many as there is place for in a message, and at least one.
    pub(super) fn take_members(
        list: &mut Vec<(ChannelName, ConnectionId)>,
        largest: usize,
    ) -> MembersOf {
        let (mut members, mut room) = (MembersOf::new(), Room::new(largest));
        while let Some((channel, connection)) = list.last() {
            if !room.take(&members, channel) && !members.is_empty() {
                break;
            }
            add(&mut members, channel, *connection);
            list.pop();
        }
        members
    }
}

/// The place that there is in a message, in bytes.
struct Room(usize);

impl Room {
    fn new(largest: usize) -> Self {
        Self(largest.min(LARGEST).saturating_sub(AROUND))
    }

    /// Takes the place for one more. False if there is none.
    fn take(&mut self, members: &MembersOf, channel: &ChannelName) -> bool {
        let mut bytes = CONNECTION;
        if members.last().is_none_or(|(last, _)| last != channel) {
            let escaped = channel.as_str().bytes();
            let escaped = escaped.filter(|byte| matches!(byte, b'"' | b'\\')).count();
            bytes += channel.as_str().len() + escaped + AROUND_CHANNEL;
        }
        match self.0.checked_sub(bytes) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// Adds a member. Those of a channel have to come one after the other.
fn add(members: &mut MembersOf, channel: &ChannelName, connection: ConnectionId) {
    match members.last_mut() {
        Some((last, connections)) if last == channel => connections.push(connection),
        _ => members.push((channel.clone(), vec![connection])),
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.node, self.life)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = || {
            let (node, life) = text.split_once('.')?;
            let name = Self {
                node: u64::from_str_radix(node, 16).ok()?,
                life: life.parse().ok()?,
            };
            // Whatever else means the same number would be another name of the same node.
            (name.to_string() == text).then_some(name)
        };
        read().ok_or_else(|| D::Error::custom("a node is called in another way"))
    }
}

/// Members as lists of a channel's name and ids of connections.
mod members {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        members: &MembersOf,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = members.iter().map(|(channel, connections)| {
            let ids = connections.iter().map(ConnectionId::to_string);
            (channel.as_str(), ids.collect::<Vec<_>>())
        });
        serializer.collect_seq(texts)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<MembersOf, D::Error> {
        let texts = Vec::<(String, Vec<String>)>::deserialize(deserializer)?;
        let read = |(channel, ids): (String, Vec<String>)| {
            let ids = ids.iter().map(|id| {
                ConnectionId::parse(id)
                    .ok_or_else(|| D::Error::custom("an id is none of a connection"))
            });
            let channel = ChannelName::new(&channel).map_err(D::Error::custom)?;
            Ok((channel, ids.collect::<Result<_, _>>()?))
        };
        texts.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name = Name {
        node: 0xab,
        life: 7,
    };

    fn connection(number: u64) -> ConnectionId {
        ConnectionId::parse(&format!("{number:032x}").replacen('0', "f", 1)).unwrap()
    }

    fn name(channel: &str) -> ChannelName {
        ChannelName::new(channel).unwrap()
    }

    fn message(says: Says) -> Message {
        Message {
            from: NAME,
            number: u64::MAX,
            says,
        }
    }

    fn change(channel: &ChannelName, number: u64, joined: bool) -> Change {
        Change {
            channel: channel.clone(),
            connection: connection(number),
            joined,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let members = vec![(name("größe \"1\"\\"), vec![connection(1), connection(2)])];
        for says in [
            Says::Lives,
            Says::Changes {
                joined: members.clone(),
                left: vec![(name("b"), vec![connection(3)])],
            },
            Says::Round {
                first: true,
                last: false,
                members,
            },
            Says::Dead(Name { node: 1, life: 0 }),
        ] {
            let message = message(says);
            assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }
        // As it stands in logs of nodes that are there.
        let written = message(Says::Round {
            first: true,
            last: true,
            members: Vec::new(),
        });
        let text = r#"1{"from":"00000000000000ab.7","number":18446744073709551615,"says":{"round":{"first":true,"last":true}}}"#;
        assert_eq!(String::from_utf8(written.encode()).unwrap(), text);
    }

    #[test]
    fn whatever_is_no_message_is_told_apart() {
        let id = "f".repeat(32);
        for bad in [
            String::new(),
            "1".into(),
            "2{}".into(),
            "1{}".into(),
            "1[[[[".repeat(1000),
            r#"1{"from":"ab.7","number":1,"says":"lives"}"#.into(),
            r#"1{"from":"00000000000000ab.07","number":1,"says":"lives"}"#.into(),
            r#"1{"from":"00000000000000AB.7","number":1,"says":"lives"}"#.into(),
            r#"1{"from":"00000000000000ab.7","number":-1,"says":"lives"}"#.into(),
            r#"1{"from":"00000000000000ab.7","number":1,"says":"sings"}"#.into(),
            r#"1{"from":"00000000000000ab.7","number":1,"says":{"dead":"x"}}"#.into(),
            format!(r#"1{{"from":"00000000000000ab.7","number":1,"says":{{"changes":{{"joined":[["",["{id}"]]]}}}}}}"#),
            format!(r#"1{{"from":"00000000000000ab.7","number":1,"says":{{"changes":{{"joined":[["a\nb",["{id}"]]]}}}}}}"#),
            r#"1{"from":"00000000000000ab.7","number":1,"says":{"changes":{"joined":[["a",["1"]]]}}}"#.into(),
        ] {
            assert!(Message::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Message::decode(b"1\xff").is_err());
        let large = vec![b' '; LARGEST_READ + 1];
        assert!(matches!(
            Message::decode(&large),
            Err(Unreadable::TooLarge(_))
        ));
        // What a newer node adds is passed by.
        let more = r#"1{"from":"00000000000000ab.7","number":1,"says":"lives","more":1}"#;
        assert_eq!(Message::decode(more.as_bytes()).unwrap().says, Says::Lives);
    }

    #[test]
    fn no_message_is_larger_than_it_may_be() {
        let long = name(&format!("{}{}", "\"\\".repeat(100), "☂".repeat(18)));
        let channels = [long, name("a"), name("b")];
        let changes = (0..1000).map(|number| {
            let channel = &channels[number as usize % channels.len()];
            change(channel, number, number % 5 > 0)
        });
        let changes: Vec<_> = changes.collect();
        for largest in [1 << 10, 5000, 1 << 20] {
            let said = Says::changes(&changes, largest);
            let mut told = Vec::new();
            for says in said {
                let message = message(says);
                assert!(message.encode().len() <= largest.min(LARGEST));
                let Says::Changes { joined, left } = message.says else {
                    panic!("{message:?}");
                };
                for (members, joined) in [(joined, true), (left, false)] {
                    for (channel, connections) in members {
                        let of = |connection| Change {
                            channel: channel.clone(),
                            connection,
                            joined,
                        };
                        told.extend(connections.into_iter().map(of));
                    }
                }
            }
            let sort = |changes: &mut Vec<Change>| changes.sort_by_key(|change| change.connection);
            sort(&mut told);
            let mut all = changes.clone();
            sort(&mut all);
            assert_eq!(told, all);

            let list = changes.iter();
            let list = list.map(|change| (change.channel.clone(), change.connection));
            let mut list: Vec<_> = list.collect();
            list.sort();
            let mut count = 0;
            while !list.is_empty() {
                let members = Says::take_members(&mut list, largest);
                count += members.iter().map(|(_, ids)| ids.len()).sum::<usize>();
                let message = message(Says::Round {
                    first: true,
                    last: true,
                    members,
                });
                assert!(message.encode().len() <= largest.min(LARGEST));
            }
            assert_eq!(count, changes.len());
        }
        // Where there is no place for one it is tried all the same, and the server says so.
        assert_eq!(Says::changes(&changes[..2], 10).len(), 2);
        assert_eq!(Says::changes(&[], 10), []);
    }

    #[test]
    fn the_last_word_counts() {
        let news = name("news");
        let changes = [
            change(&news, 1, true),
            change(&news, 2, false),
            change(&news, 1, false),
            change(&news, 2, true),
        ];
        let expected = Says::Changes {
            joined: vec![(news.clone(), vec![connection(2)])],
            left: vec![(news.clone(), vec![connection(1)])],
        };
        assert_eq!(Says::changes(&changes, 1 << 20), [expected]);
    }
}
