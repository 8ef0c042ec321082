//! Replicas that are told the same messages.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt as _, SeedableRng, rngs::StdRng};

use super::*;

const CHANNELS: u64 = 4;

fn channel(number: u64) -> ChannelName {
    ChannelName::new(&format!("c{number}")).unwrap()
}

fn connection(number: u64) -> ConnectionId {
    ConnectionId::parse(&format!("{number:032x}").replacen('0', "f", 1)).unwrap()
}

fn name(node: u64, life: u32) -> Name {
    Name { node, life }
}

fn of(members: &[(u64, u64)]) -> MembersOf {
    let members = members.iter();
    members
        .map(|(of, member)| (channel(*of), vec![connection(*member)]))
        .collect()
}

fn changes(joined: &[(u64, u64)], left: &[(u64, u64)]) -> Says {
    Says::Changes {
        joined: of(joined),
        left: of(left),
    }
}

fn round(first: bool, last: bool, members: &[(u64, u64)]) -> Says {
    Says::Round {
        first,
        last,
        members: of(members),
    }
}

/// A roster that is told what nodes say, each message with the next number.
#[derive(Default)]
struct Told {
    roster: Roster,
    numbers: HashMap<Name, u64>,
}

impl Told {
    fn says(&mut self, from: Name, says: Says) -> Turns {
        let number = self.numbers.entry(from).or_default();
        *number += 1;
        let number = *number;
        let message = Message { from, number, says };
        let mut turns = self.roster.apply(message, Instant::now()).unwrap();
        turns.sort();
        turns
    }
}

/// All that a roster says of members.
fn all(roster: &Roster) -> BTreeMap<ChannelName, (usize, Vec<ConnectionId>)> {
    let members = |channel: &ChannelName| {
        let mut members = roster.other_members(None, channel, usize::MAX);
        members.sort();
        (roster.others(None, channel), members)
    };
    let channels = roster.counts.keys();
    channels
        .map(|channel| (channel.clone(), members(channel)))
        .collect()
}

#[test]
fn a_channel_turns_when_the_first_comes_and_when_the_last_leaves_on_all_nodes_together() {
    let (a, b) = (name(1, 0), name(2, 0));
    let mut told = Told::default();
    let (occupied, vacated) = ([(channel(0), true)], [(channel(0), false)]);
    assert_eq!(told.says(a, changes(&[(0, 1), (0, 2)], &[])), occupied);
    assert_eq!(told.says(b, changes(&[(0, 3)], &[])), []);
    // What was told before changes nothing.
    assert_eq!(told.says(b, changes(&[(0, 3)], &[(0, 9), (1, 3)])), []);
    assert_eq!(told.says(a, changes(&[], &[(0, 1), (0, 2)])), []);
    assert_eq!(told.roster.others(Some(a), &channel(0)), 1);
    assert_eq!(told.roster.others(Some(b), &channel(0)), 0);
    assert_eq!(
        told.roster.other_members(Some(a), &channel(0), 9),
        [connection(3)]
    );
    assert_eq!(told.roster.other_members(Some(b), &channel(0), 9), []);
    // One comes as the last one leaves.
    assert_eq!(told.says(b, changes(&[(0, 4)], &[(0, 3)])), []);
    assert_eq!(told.says(b, changes(&[], &[(0, 4)])), vacated);
    assert!(told.roster.counts.is_empty());
}

#[test]
fn who_is_not_told_of_in_a_round_is_dropped_at_its_end() {
    let (a, b) = (name(1, 0), name(2, 0));
    let mut told = Told::default();
    told.says(b, changes(&[(2, 9)], &[]));
    told.says(a, changes(&[(0, 1), (1, 2), (2, 3), (3, 4)], &[]));
    assert!(!told.roster.is_whole());
    told.says(a, round(true, false, &[(0, 1)]));
    assert!(told.roster.is_followed(a) && !told.roster.is_followed(b));
    // One joins meanwhile, and one who was not told of leaves.
    assert_eq!(
        told.says(a, changes(&[(0, 5)], &[(3, 4)])),
        [(channel(3), false)]
    );
    assert_eq!(told.says(a, round(false, true, &[])), [(channel(1), false)]);
    assert_eq!(told.roster.others(None, &channel(0)), 2);
    assert_eq!(told.roster.others(None, &channel(2)), 1);
    assert!(!told.roster.is_whole());
    told.says(b, round(true, true, &[(2, 9)]));
    assert!(told.roster.is_whole());
}

#[test]
fn a_message_counts_once_and_what_is_missing_is_told_in_a_round() {
    let a = name(1, 0);
    let mut told = Told::default();
    told.says(a, round(true, true, &[]));
    told.says(a, changes(&[(0, 1)], &[]));
    let again = |number, says| Message {
        from: a,
        number,
        says,
    };
    let now = Instant::now();
    for number in [0, 1, 2] {
        let says = changes(&[], &[(0, 1)]);
        assert_eq!(told.roster.apply(again(number, says), now), None);
    }
    assert_eq!((told.roster.last(a), told.roster.is_whole()), (2, true));
    // The number 3 is missing; also in a round that was begun before.
    told.says(a, round(true, false, &[(0, 1)]));
    assert!(
        told.roster
            .apply(again(5, round(false, true, &[])), now)
            .is_some()
    );
    assert!(!told.roster.is_whole() && !told.roster.is_followed(a));
    assert_eq!(told.roster.others(None, &channel(0)), 1);
    let whole = round(true, true, &[(1, 1)]);
    told.roster.apply(again(u64::MAX, whole), now).unwrap();
    assert!(told.roster.is_whole());
    assert_eq!(told.roster.others(None, &channel(0)), 0);
    assert_eq!(told.roster.apply(again(0, Says::Lives), now), None);
}

#[test]
fn a_node_that_was_written_off_counts_no_more_and_only_the_first_says_so() {
    let (a, b, c) = (name(1, 0), name(2, 0), name(3, 0));
    let mut told = Told::default();
    told.says(a, changes(&[(0, 1), (1, 1)], &[]));
    told.says(b, changes(&[(0, 2)], &[]));
    assert_eq!(told.says(b, Says::Dead(a)), [(channel(1), false)]);
    assert_eq!(told.says(c, Says::Dead(a)), []);
    assert!(told.roster.is_dead(a) && !told.roster.is_dead(b));
    // What it had on the way comes too late, and so does what it says of others.
    let late = Message {
        from: a,
        number: 2,
        says: Says::Dead(b),
    };
    assert_eq!(told.roster.apply(late, Instant::now()), None);
    assert_eq!(told.roster.others(None, &channel(0)), 1);
    // By another name it is another node.
    told.says(name(1, 1), changes(&[(1, 1)], &[]));
    assert_eq!(told.roster.others(Some(b), &channel(1)), 1);
    // Of those that were never heard as well.
    assert_eq!(told.says(b, Says::Dead(name(9, 0))), []);
    for life in 0..3000 {
        told.says(b, Says::Dead(name(7, life)));
    }
    assert_eq!(told.roster.dead.len(), DEAD);
}

#[test]
fn whoever_is_not_heard_for_a_lease_is_silent() {
    let (a, b) = (name(1, 0), name(2, 0));
    let begun = Instant::now();
    let mut roster = Roster::default();
    for from in [a, b] {
        let number = 1;
        let says = Says::Lives;
        roster.apply(Message { from, number, says }, begun);
    }
    assert_eq!(roster.silent(a, begun + LEASE), []);
    let late = begun + LEASE + Duration::from_millis(1);
    assert_eq!(roster.silent(a, late), [b]);
    let says = Says::Lives;
    let (from, number) = (b, 2);
    roster.apply(Message { from, number, says }, late);
    assert_eq!(roster.silent(a, late), []);
    assert_eq!(roster.silent(b, late), [a]);
    roster.hear_all(late);
    assert_eq!(roster.silent(b, late + LEASE), []);
}

/// What some nodes say, that come and go, in the order of a log.
fn log(random: &mut StdRng, length: usize) -> Vec<Message> {
    struct Writer {
        name: Name,
        number: u64,
        members: Vec<(u64, u64)>,
        /// What the round that it is in has still to tell.
        round: Option<Vec<(u64, u64)>>,
    }
    let writer = |name| Writer {
        name,
        number: 0,
        members: Vec::new(),
        round: None,
    };
    let mut writers: Vec<_> = (0..3).map(|node| writer(name(node, 0))).collect();
    let mut messages: Vec<Message> = Vec::new();
    for _ in 0..length {
        let at = random.random_range(0..writers.len());
        let other = random.random_range(0..writers.len());
        if random.random_ratio(1, 100) && at != other {
            let dead = writers[other].name;
            writers[at].number += 1;
            messages.push(Message {
                from: writers[at].name,
                number: writers[at].number,
                says: Says::Dead(dead),
            });
            writers[other] = writer(name(dead.node, dead.life + 1));
            continue;
        }
        let node = &mut writers[at];
        let says = match random.random_range(0..4) {
            _ if node.number == 0 => round(true, true, &[]),
            0 => {
                let first = node.round.is_none();
                let left = node.round.get_or_insert_with(|| node.members.clone());
                let take = random.random_range(0..=left.len());
                let mut part = left.split_off(left.len() - take);
                // Those who have left meanwhile are not told of.
                part.retain(|member| node.members.contains(member));
                let last = left.is_empty() && random.random_ratio(1, 2);
                if last {
                    node.round = None;
                }
                round(first, last, &part)
            }
            1 => Says::Lives,
            _ => {
                let member = (random.random_range(0..CHANNELS), random.random_range(0..9));
                match node.members.iter().position(|known| *known == member) {
                    Some(at) => {
                        node.members.swap_remove(at);
                        changes(&[], &[member])
                    }
                    None => {
                        node.members.push(member);
                        changes(&[member], &[])
                    }
                }
            }
        };
        node.number += 1;
        let message = Message {
            from: node.name,
            number: node.number,
            says,
        };
        messages.push(message.clone());
        // It is written again now and then, or comes late.
        if random.random_ratio(1, 10) {
            messages.push(message);
        }
    }
    messages
}

#[test]
fn replicas_that_are_told_the_same_agree_also_if_one_begins_in_the_middle() {
    let now = Instant::now();
    let mut compared = 0;
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let messages = log(&mut random, 400);
        let (mut one, mut other, mut late) =
            (Roster::default(), Roster::default(), Roster::default());
        let begins = random.random_range(0..messages.len() / 2);
        // Channels that are occupied, as whoever is told of each turn knows.
        let mut occupied = Vec::new();
        let mut agreed = false;
        for (at, message) in messages.iter().enumerate() {
            let sorted = |turns: Option<Turns>| {
                let mut turns = turns.unwrap_or_default();
                turns.sort();
                turns
            };
            let turns = sorted(one.apply(message.clone(), now));
            assert_eq!(turns, sorted(other.apply(message.clone(), now)));
            for (channel, is) in &turns {
                let known = occupied.iter().position(|known| known == channel);
                match known {
                    Some(at) if !is => drop(occupied.swap_remove(at)),
                    None if *is => occupied.push(channel.clone()),
                    _ => panic!("{channel} turned and is what it was"),
                }
            }
            if at >= begins {
                let of_late = sorted(late.apply(message.clone(), now));
                if agreed {
                    assert_eq!(of_late, turns, "seed {seed} at {at}");
                }
                // It has heard of all of them, and knows all.
                let heard = one.nodes.keys().all(|name| late.nodes.contains_key(name));
                agreed = heard && late.is_whole();
                if agreed {
                    assert_eq!(all(&late), all(&one), "seed {seed} at {at}");
                    compared += 1;
                }
            }
        }
        assert_eq!(all(&one), all(&other));
        let mut known: Vec<_> = all(&one).into_keys().collect();
        known.sort();
        occupied.sort();
        assert_eq!(occupied, known);
    }
    assert!(compared > 1000, "{compared}");
}
