//! Channels that somebody begins to hear, and that nobody hears any more: told to the guest, once.

use fanfare_tests::{
    node::Node,
    servers::{kafka::KafkaServer, nats::NatsServer, redis::RedisServer},
    wait,
};
use serde_json::json;

use crate::{
    flavour::{Flavour, in_both_flavours},
    probe::Probe,
};

in_both_flavours!(
    a_channel_is_told_of_when_the_first_comes_and_when_the_last_leaves,
    nodes_over_redis_tell_of_a_channel_once,
    nodes_over_nats_tell_of_a_channel_once,
    nodes_over_kafka_tell_of_a_channel_once,
);

/// What nodes were told of a channel, all together: `o` for occupied, `v` for vacated.
fn told(nodes: &[Node], channel: &str) -> String {
    let told = nodes.iter().map(|node| {
        let answer = node.get(&format!("/occupancy/{channel}"));
        answer.text().to_owned()
    });
    told.collect()
}

#[track_caller]
fn until_told(nodes: &[Node], channel: &str, expected: &str) {
    wait::until_right(|| match told(nodes, channel) {
        told if told.len() == expected.len() => String::new(),
        told => format!("{channel} is {expected:?}, and told was {told:?}"),
    });
    let letters = |text: &str| {
        let mut letters: Vec<_> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    assert_eq!(letters(&told(nodes, channel)), letters(expected));
}

fn a_channel_is_told_of_when_the_first_comes_and_when_the_last_leaves(flavour: Flavour) {
    let nodes = [flavour.start()];
    let [first, second] = [(); 2].map(|()| nodes[0].subscribe("watched"));
    until_told(&nodes, "watched", "o");
    first.close();
    let other = nodes[0].subscribe("watched too");
    until_told(&nodes, "watched%20too", "o");
    assert_eq!(told(&nodes, "watched"), "o");
    // One that is removed from its last channel is closed, and so is the channel then.
    second.close();
    until_told(&nodes, "watched", "ov");
    assert_eq!(told(&nodes, "watched"), "ov");
    other.close();
    until_told(&nodes, "watched%20too", "ov");
    let again = nodes[0].subscribe("watched");
    until_told(&nodes, "watched", "ovo");
    assert_eq!(told(&nodes, "watched"), "ovo");
    drop(again);
}

fn nodes_over_redis_tell_of_a_channel_once(flavour: Flavour) {
    let server = RedisServer::start();
    assert_told_once(
        flavour,
        &format!("type = 'redis'\nurl = '{}'", server.url()),
    );
}

fn nodes_over_nats_tell_of_a_channel_once(flavour: Flavour) {
    let server = NatsServer::start();
    assert_told_once(flavour, &format!("type = 'nats'\nurl = '{}'", server.url()));
}

fn nodes_over_kafka_tell_of_a_channel_once(flavour: Flavour) {
    let server = KafkaServer::start();
    let keys = format!(
        "type = 'kafka'\nservers = ['{}']\ntimeout = '10s'",
        server.address()
    );
    assert_told_once(flavour, &keys);
}

/// Nodes with a broker of these keys, of which one freezes, and one dies.
fn assert_told_once(flavour: Flavour, keys: &str) {
    let start = json!([["open", "main"], ["start"], ["set-publisher", "publisher"]]);
    let setup = || {
        flavour.setup(&format!(
            "capabilities.brokers = ['main']\n\
             variables.start = '{start}'\n\
             [brokers.main]\n{keys}\nsync-channel = 's'\n"
        ))
    };
    let nodes = [setup().start(), setup().start()];
    let first = nodes[0].subscribe("watched");
    until_told(&nodes, "watched", "o");
    let others = [(); 2].map(|()| nodes[1].subscribe("watched"));
    let marker = nodes[1].subscribe("watched-1");
    until_told(&nodes, "watched-1", "o");
    assert_eq!(told(&nodes, "watched"), "o");
    wait::until_true("all nodes are counted", || {
        nodes[0].ask(json!(["subscribers", "watched"])) == json!(3)
    });
    first.close();
    marker.close();
    until_told(&nodes, "watched-1", "ov");
    assert_eq!(told(&nodes, "watched"), "o");
    others.into_iter().for_each(|stream| stream.close());
    until_told(&nodes, "watched", "ov");

    // What only a node that freezes had is vacated by another one, and occupied again once it goes on.
    let _last = nodes[0].subscribe("watched-2");
    until_told(&nodes, "watched-2", "o");
    let before = told(&nodes[1..], "watched-2").len();
    nodes[0].signal("STOP");
    wait::until_true("the channel of the frozen node is vacated", || {
        told(&nodes[1..], "watched-2").len() == before + 1
    });
    nodes[0].signal("CONT");
    until_told(&nodes, "watched-2", "oov");
    wait::until_true("the frozen node is known again", || {
        nodes[1].ask(json!(["subscribers", "watched-2"])) == json!(1)
    });

    // The same for one that dies.
    let [dies, lives] = nodes;
    let lives = [lives];
    let before = told(&lives, "watched-2").len();
    dies.kill();
    wait::until_true("the channel of the dead node is vacated", || {
        told(&lives, "watched-2").len() == before + 1
    });
    assert!(told(&lives, "watched-2").ends_with('v'));
}
