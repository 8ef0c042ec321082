//! Registering, removing and publishing at the same time: what is heard has a beginning and an end, and nothing of it
//! is missing.
//!
//! A witness hears a channel from before the first event to the last: the order of all its events. In it, each event
//! that a handler published before and after it registered its connection, and before and after somebody removed that,
//! bounds what the connection may have heard, and must.

use std::{
    collections::HashMap,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
};

use fanfare_tests::{client::Request, node::Node, stream::Stream};
use serde_json::{Value, json};

use crate::probe::{self, Probe};

/// What all streams hear to the end, so that they last.
const ANCHOR: &str = "anchor";
/// The last event of all, on [`ANCHOR`].
const END: &str = "end";
/// What a script sends when it is done.
const DONE: &str = "done";

/// A node that does not run out of anything.
fn start() -> Node {
    probe::configured(
        "[apps.probe.limits]\nqueue-bytes = \"64MiB\"\ncpu-time = \"20s\"\nqueue-time = \"20s\"\n",
    )
}

/// Where events stand in the order of their channel, by their data.
type Order = HashMap<String, usize>;

/// A script of a connection: again and again it publishes, registers, publishes, does the step by which it leaves, and
/// publishes once more. The n-th events are called `name before n`, `name in n` and `name after n`.
fn rounds(name: &str, channel: &str, count: usize, leave: Value) -> Value {
    let publish = |what: &str, n: usize| json!(["publish", channel, format!("{name} {what} {n}")]);
    let mut steps = vec![json!(["upgrade"]), json!(["register", ANCHOR])];
    for n in 0..count {
        steps.push(publish("before", n));
        steps.push(json!(["register", channel]));
        steps.push(publish("in", n));
        // So that what others publish comes between, however the host takes turns.
        steps.push(json!(["sleep", 1]));
        steps.push(leave.clone());
        steps.push(publish("after", n));
    }
    steps.push(json!(["send", DONE]));
    steps.into()
}

/// Opens a stream with a script that may be long.
#[track_caller]
fn open(node: &Node, name: &str, steps: &Value) -> Stream {
    node.open(&Request::post(
        &format!("/script?as={name}"),
        steps.to_string(),
    ))
}

/// A stream that hears a channel from now on.
#[track_caller]
fn witness(node: &Node, channel: &str) -> Stream {
    let steps = json!([
        ["upgrade"],
        ["register", ANCHOR],
        ["register", channel],
        ["send", DONE]
    ]);
    let mut stream = open(node, &format!("witness-{channel}"), &steps);
    assert_eq!(to_the_word(&mut stream), [""; 0]);
    stream
}

/// What a stream hears before it is sent that its script is done.
#[track_caller]
fn to_the_word(stream: &mut Stream) -> Vec<String> {
    to(stream, DONE)
}

/// What a stream hears before the end.
#[track_caller]
fn to_the_end(stream: &mut Stream) -> Vec<String> {
    to(stream, END)
}

#[track_caller]
fn to(stream: &mut Stream, word: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        match stream.next_event().data {
            data if data == word => return heard,
            data => heard.push(data),
        }
    }
}

/// What connections have heard; after the end of their scripts they must hear nothing any more.
#[track_caller]
fn heard_only(connections: Vec<(Vec<String>, Stream)>) -> Vec<Vec<String>> {
    let only = |(heard, mut stream): (Vec<String>, Stream)| {
        assert_eq!(to_the_end(&mut stream), [""; 0]);
        heard
    };
    connections.into_iter().map(only).collect()
}

#[track_caller]
fn joined<T>(threads: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    let join = |thread: ScopedJoinHandle<'_, T>| thread.join().expect("a thread ends well");
    threads.into_iter().map(join).collect()
}

/// The places of events that a witness has heard, each once.
#[track_caller]
fn order(heard: &[String]) -> Order {
    let order: Order = heard.iter().cloned().zip(0..).collect();
    assert_eq!(order.len(), heard.len(), "an event is heard twice");
    order
}

/// Publishes, each in a call of its own, until it is told to stop, and returns the receipts: data, and how many were
/// to hear it.
fn publish_until(node: &Node, name: &str, channel: &str, stop: &Stop) -> Vec<(String, u64)> {
    let mut receipts = Vec::new();
    for n in 0.. {
        if stop.is_set() {
            break;
        }
        let data = format!("{name} {n}");
        let receipt = node.ask(json!(["publish", channel, data]));
        receipts.push((data, receipt["delivered"].as_u64().expect("a number")));
    }
    receipts
}

/// Tells threads to end, even where the one that tells has panicked.
#[derive(Default)]
struct Stop(AtomicBool);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct SetOnDrop<'a>(&'a Stop);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// The places of what a stream heard, which have to go up: in the order of the channel, and each event once.
#[track_caller]
fn places(heard: &[String], order: &Order) -> Vec<usize> {
    let places: Vec<_> = heard
        .iter()
        .map(|data| {
            *order
                .get(data)
                .unwrap_or_else(|| panic!("{data:?} was not published here"))
        })
        .collect();
    for (pair, data) in places.windows(2).zip(heard) {
        assert!(
            pair[0] < pair[1],
            "after {data:?} something older is heard, or the same"
        );
    }
    places
}

/// What was heard in each round of a connection, as places in the order of the channel: without a hole, after the event
/// before the registration, from the one after it on at the latest, and before the one after the removal.
#[track_caller]
fn runs(name: &str, count: usize, heard: &[usize], order: &Order) -> Vec<Range<usize>> {
    let place = |what: &str, n: usize| order[&format!("{name} {what} {n}")];
    let mut left = heard;
    let runs = (0..count)
        .map(|n| {
            let (before, after) = (place("before", n), place("after", n));
            let (its, rest) = left.split_at(left.partition_point(|place| *place < after));
            left = rest;
            let Some((first, last)) = its.first().zip(its.last()) else {
                return before..before;
            };
            assert!(
                *first > before,
                "{name} hears in round {n} what was published before"
            );
            assert_eq!(
                its.len(),
                last - first + 1,
                "{name} misses something in round {n}"
            );
            assert!(
                *first <= place("in", n),
                "{name} hears its registration late in round {n}"
            );
            *first..last + 1
        })
        .collect();
    assert!(
        left.is_empty(),
        "{name} hears what was published after it was removed"
    );
    runs
}

#[test]
fn each_connection_hears_what_is_published_between_its_registration_and_its_removal() {
    const CONNECTIONS: usize = 8;
    const ROUNDS: usize = 30;
    const CHANNELS: [&str; 2] = ["a", "b"];
    let node = start();
    let mut witnesses = CHANNELS.map(|channel| witness(&node, channel));
    let names: Vec<_> = (0..CONNECTIONS).map(|n| format!("c{n}")).collect();
    let channel_of = |n: usize| CHANNELS[n % CHANNELS.len()];
    let stop = Stop::default();
    let (heard, orders, receipts) = thread::scope(|scope| {
        let stop_at_last = SetOnDrop(&stop);
        let witnesses = witnesses
            .each_mut()
            .map(|stream| scope.spawn(|| to_the_end(stream)));
        let publishers: Vec<_> = (0..4)
            .map(|n| {
                let (node, stop) = (&node, &stop);
                scope.spawn(move || publish_until(node, &format!("p{n}"), channel_of(n), stop))
            })
            .collect();
        let connections: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let channel = channel_of(n);
                let steps = rounds(name, channel, ROUNDS, json!(["remove", channel]));
                let mut stream = open(&node, name, &steps);
                scope.spawn(move || (to_the_word(&mut stream), stream))
            })
            .collect();
        let connections = joined(connections);
        drop(stop_at_last);
        let receipts: Vec<_> = joined(publishers).into_iter().flatten().collect();
        node.publish(ANCHOR, END);
        let orders = witnesses.map(|witness| order(&witness.join().expect("a witness hears all")));
        (heard_only(connections), orders, receipts)
    });

    let mut times_heard: HashMap<&str, u64> = HashMap::new();
    for (n, (name, heard)) in names.iter().zip(&heard).enumerate() {
        let order = &orders[n % CHANNELS.len()];
        let its = runs(name, ROUNDS, &places(heard, order), order);
        for (round, run) in its.iter().enumerate() {
            let inner = order[&format!("{name} in {round}")];
            assert!(
                run.contains(&inner),
                "{name} misses its own event in round {round}"
            );
        }
        for data in heard {
            *times_heard.entry(data).or_default() += 1;
        }
    }
    // Receipts say to how many an event went: the witness, and whoever else has heard it.
    for (data, delivered) in &receipts {
        let heard = times_heard.get(data.as_str()).copied().unwrap_or(0);
        assert_eq!(*delivered, heard + 1, "{data:?}");
    }
    let shared = receipts.iter().filter(|(_, delivered)| *delivered > 1);
    assert!(
        shared.count() > 0,
        "nothing was published while somebody was registered"
    );
}

#[test]
fn of_many_who_remove_a_connection_one_succeeds_and_it_hears_nothing_of_what_follows() {
    const CONNECTIONS: usize = 4;
    const ROUNDS: usize = 40;
    let node = start();
    let mut witness = witness(&node, "a");
    let names: Vec<_> = (0..CONNECTIONS).map(|n| format!("c{n}")).collect();
    let stop = Stop::default();
    let (heard, order, removals) = thread::scope(|scope| {
        let stop_at_last = SetOnDrop(&stop);
        let witness = scope.spawn(|| to_the_end(&mut witness));
        let connections: Vec<_> = names
            .iter()
            .map(|name| {
                let mut stream = open(
                    &node,
                    name,
                    &rounds(name, "a", ROUNDS, json!(["wait-left", "a"])),
                );
                scope.spawn(move || (to_the_word(&mut stream), stream))
            })
            .collect();
        let ids: Vec<_> = names.iter().map(|name| node.connection(name)).collect();
        let removers: Vec<_> = (0..3)
            .map(|remover| {
                let (node, ids, stop) = (&node, ids.clone(), &stop);
                scope.spawn(move || remove_until(node, &format!("r{remover}"), &ids, stop))
            })
            .collect();
        let connections = joined(connections);
        drop(stop_at_last);
        let removals: Vec<Removal> = joined(removers).into_iter().flatten().collect();
        node.publish(ANCHOR, END);
        let order = order(&witness.join().expect("a witness hears all"));
        (heard_only(connections), order, removals)
    });

    assert_eq!(
        removals.len(),
        CONNECTIONS * ROUNDS,
        "each registration is removed once"
    );
    for (n, (name, heard)) in names.iter().zip(&heard).enumerate() {
        let runs = runs(name, ROUNDS, &places(heard, &order), &order);
        for removal in removals.iter().filter(|removal| removal.connection == n) {
            let (before, after) = (order[&removal.before], order[&removal.after]);
            let both = runs
                .iter()
                .find(|run| run.contains(&before) && run.contains(&after));
            assert_eq!(both, None, "{name} has heard on after {:?}", removal.before);
        }
    }
}

/// A removal that succeeded: of which connection, and the data of what the same call published before and after.
struct Removal {
    connection: usize,
    before: String,
    after: String,
}

/// Removes one of these connections after the other from `a`, again and again, until it is told to stop.
fn remove_until(node: &Node, name: &str, ids: &[String], stop: &Stop) -> Vec<Removal> {
    let mut removals = Vec::new();
    for turn in 0.. {
        if stop.is_set() {
            break;
        }
        let connection = turn % ids.len();
        let [before, after] = ["before", "after"].map(|what| format!("{name} {what} {turn}"));
        let results = node.run(json!([
            ["publish", "a", before],
            ["remove", "a", ids[connection]],
            ["publish", "a", after]
        ]));
        if results.is_ok(1) {
            removals.push(Removal {
                connection,
                before,
                after,
            });
        } else {
            assert_eq!(results.error(1).0, "not-found");
        }
    }
    removals
}
