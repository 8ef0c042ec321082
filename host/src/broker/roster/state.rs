//! What follows from the messages of all nodes. No clock and no network: whoever is told the same messages in the same
//! order has the same members.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Instant,
};

use super::{
    super::LEASE,
    message::{MembersOf, Message, Name, Says},
};
use crate::hub::{channel::ChannelName, connection::ConnectionId};

/// Nodes that were written off and are remembered, so that what comes late of them is passed by.
const DEAD: usize = 1000;

/// Channels that became occupied, or vacated.
pub(super) type Turns = Vec<(ChannelName, bool)>;

/// Who hears channels at which node.
#[derive(Debug, Default)]
pub(super) struct Roster {
    nodes: HashMap<Name, Node>,
    /// How many connections hear a channel, on all nodes together; at least one.
    counts: HashMap<ChannelName, usize>,
    /// The newest of those that were written off.
    dead: VecDeque<Name>,
}

/// What is known of a node.
#[derive(Debug)]
struct Node {
    /// The number of its last message.
    last: u64,
    /// When that was read.
    heard: Instant,
    /// All its members are known.
    is_whole: bool,
    /// A round of it has begun, and nothing of it is missing.
    in_round: bool,
    /// How many have begun, as far as it is known.
    round: u64,
    /// Its connections by the channel that they hear, with the round in which each was last told of.
    members: HashMap<ChannelName, HashMap<ConnectionId, u64>>,
    /// How many of them were not told of in this round.
    untold: usize,
}

/// Channels that turn, as long as a message is looked at.
#[derive(Default)]
struct Turning(HashMap<ChannelName, bool>);

impl Roster {
    /// Does what a message says, which was read at this time. Nothing where it was read before, or comes too late.
    pub(super) fn apply(&mut self, message: Message, now: Instant) -> Option<Turns> {
        let Message { from, number, says } = message;
        if self.dead.contains(&from) {
            return None;
        }
        let node = self.nodes.entry(from).or_insert_with(|| Node::new(now));
        if number <= node.last {
            return None;
        }
        if node.last.checked_add(1) != Some(number) {
            // What is missing is told in the next round.
            (node.is_whole, node.in_round) = (false, false);
        }
        (node.last, node.heard) = (number, now);
        let mut turning = Turning::default();
        let counts = &mut self.counts;
        match says {
            Says::Lives => {}
            Says::Changes { joined, left } => {
                node.join(joined, counts, &mut turning);
                node.leave(left, counts, &mut turning);
            }
            Says::Round {
                first,
                last,
                members,
            } => {
                if first {
                    node.begin_round();
                }
                node.join(members, counts, &mut turning);
                if last {
                    node.end_round(counts, &mut turning);
                }
            }
            Says::Dead(name) => self.write_off(name, &mut turning),
        }
        Some(turning.0.into_iter().collect())
    }

    fn write_off(&mut self, name: Name, turning: &mut Turning) {
        if self.dead.contains(&name) {
            return;
        }
        self.dead.push_back(name);
        if self.dead.len() > DEAD {
            self.dead.pop_front();
        }
        let Some(node) = self.nodes.remove(&name) else {
            return;
        };
        for (channel, connections) in node.members {
            turning.take(&mut self.counts, &channel, connections.len());
        }
    }

    /// Whether this node was written off.
    pub(super) fn is_dead(&self, name: Name) -> bool {
        self.dead.contains(&name)
    }

    /// The number of the last message of a node; 0 if there was none.
    pub(super) fn last(&self, name: Name) -> u64 {
        self.nodes.get(&name).map_or(0, |node| node.last)
    }

    /// Whether all members of all nodes are known.
    pub(super) fn is_whole(&self) -> bool {
        self.nodes.values().all(|node| node.is_whole)
    }

    /// Whether all members of this node are known, or will be when its round ends.
    pub(super) fn is_followed(&self, name: Name) -> bool {
        let node = self.nodes.get(&name);
        node.is_some_and(|node| node.is_whole || node.in_round)
    }

    /// Takes all nodes for alive at this time.
    pub(super) fn hear_all(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            node.heard = now;
        }
    }

    /// The nodes that were not heard for too long, this one aside.
    pub(super) fn silent(&self, own: Name, now: Instant) -> Vec<Name> {
        let silent = self.nodes.iter().filter(|(name, node)| {
            **name != own && now.saturating_duration_since(node.heard) > LEASE
        });
        silent.map(|(name, _)| *name).collect()
    }

    /// How many connections hear a channel at nodes other than this one.
    pub(super) fn others(&self, own: Option<Name>, channel: &ChannelName) -> usize {
        let node = own.and_then(|own| self.nodes.get(&own));
        let here = node.and_then(|node| node.members.get(channel));
        let all = self.counts.get(channel).copied().unwrap_or(0);
        all - here.map_or(0, HashMap::len)
    }

    /// Some of them.
    pub(super) fn other_members(
        &self,
        own: Option<Name>,
        channel: &ChannelName,
        limit: usize,
    ) -> Vec<ConnectionId> {
        let others = self.nodes.iter().filter(|(name, _)| Some(**name) != own);
        let members = others.filter_map(|(_, node)| node.members.get(channel));
        members
            .flat_map(HashMap::keys)
            .take(limit)
            .copied()
            .collect()
    }

    /// All members of a node; those of a channel come one after the other.
    pub(super) fn members(&self, name: Name) -> Vec<(ChannelName, ConnectionId)> {
        let node = self.nodes.get(&name).into_iter();
        let channels = node.flat_map(|node| &node.members);
        let of = |(channel, connections): (&ChannelName, &HashMap<ConnectionId, u64>)| {
            let of = |connection: &ConnectionId| (channel.clone(), *connection);
            connections.keys().map(of).collect::<Vec<_>>()
        };
        channels.flat_map(of).collect()
    }

    /// Whether a connection hears a channel at this node.
    pub(super) fn has(&self, name: Name, channel: &ChannelName, connection: ConnectionId) -> bool {
        let node = self.nodes.get(&name);
        let here = node.and_then(|node| node.members.get(channel));
        here.is_some_and(|here| here.contains_key(&connection))
    }
}

impl Node {
    fn new(now: Instant) -> Self {
        Self {
            last: 0,
            heard: now,
            is_whole: false,
            in_round: false,
            round: 0,
            members: HashMap::new(),
            untold: 0,
        }
    }

    fn join(
        &mut self,
        members: MembersOf,
        counts: &mut HashMap<ChannelName, usize>,
        turning: &mut Turning,
    ) {
        for (channel, connections) in members {
            if connections.is_empty() {
                continue;
            }
            // Nodes share the name.
            let channel = match counts.get_key_value(&channel) {
                Some((channel, _)) => channel.clone(),
                None => channel,
            };
            let here = self.members.entry(channel.clone()).or_default();
            let mut new = 0;
            for connection in connections {
                match here.insert(connection, self.round) {
                    None => new += 1,
                    Some(round) if round != self.round => self.untold -= 1,
                    Some(_) => {}
                }
            }
            turning.add(counts, channel, new);
        }
    }

    fn leave(
        &mut self,
        members: MembersOf,
        counts: &mut HashMap<ChannelName, usize>,
        turning: &mut Turning,
    ) {
        for (channel, connections) in members {
            let Entry::Occupied(mut here) = self.members.entry(channel) else {
                continue;
            };
            let mut gone = 0;
            for connection in connections {
                if let Some(round) = here.get_mut().remove(&connection) {
                    gone += 1;
                    self.untold -= usize::from(round != self.round);
                }
            }
            turning.take(counts, here.key(), gone);
            if here.get().is_empty() {
                here.remove();
            }
        }
    }

    fn begin_round(&mut self) {
        self.in_round = true;
        self.round += 1;
        self.untold = self.members.values().map(HashMap::len).sum();
    }

    /// Drops those who were not told of.
    fn end_round(&mut self, counts: &mut HashMap<ChannelName, usize>, turning: &mut Turning) {
        if !self.in_round {
            return;
        }
        (self.in_round, self.is_whole) = (false, true);
        if self.untold == 0 {
            return;
        }
        self.untold = 0;
        let round = self.round;
        self.members.retain(|channel, here| {
            let before = here.len();
            here.retain(|_, told| *told == round);
            turning.take(counts, channel, before - here.len());
            !here.is_empty()
        });
    }
}

impl Turning {
    /// So many more hear a channel.
    fn add(&mut self, counts: &mut HashMap<ChannelName, usize>, channel: ChannelName, new: usize) {
        if new == 0 {
            return;
        }
        let count = counts.entry(channel.clone()).or_default();
        *count += new;
        if *count == new {
            self.turns(channel, true);
        }
    }

    /// So many no longer do.
    fn take(
        &mut self,
        counts: &mut HashMap<ChannelName, usize>,
        channel: &ChannelName,
        gone: usize,
    ) {
        let Some(count) = counts.get_mut(channel).filter(|_| gone > 0) else {
            return;
        };
        *count -= gone;
        if *count == 0 {
            counts.remove(channel);
            self.turns(channel.clone(), false);
        }
    }

    fn turns(&mut self, channel: ChannelName, occupied: bool) {
        match self.0.entry(channel) {
            // It is as it was before the message.
            Entry::Occupied(entry) => {
                entry.remove();
            }
            Entry::Vacant(entry) => {
                entry.insert(occupied);
            }
        }
    }
}

#[cfg(test)]
mod tests;
