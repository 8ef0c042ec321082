//! Channels that nobody hears are forgotten with their last event, and what they took is given back.

use fanfare_tests::{node::Node, wait};
use serde_json::{Value, json};

use crate::probe::{self, Probe};

const CHANNELS: usize = 50_000;
/// Events that one script publishes.
const AT_A_TIME: usize = 5000;

/// A node with this history.
fn with_history(bound: &str) -> Node {
    probe::configured(&format!(
        "[apps.probe.history]\n{bound}\n[apps.probe.limits]\ncpu-time = \"20s\"\n\
         [admin]\naddress = \"127.0.0.1:0\"\n"
    ))
}

fn channels(node: &Node) -> f64 {
    node.metrics().value("fanfare_channels{app=\"probe\"}")
}

fn history_bytes(node: &Node) -> f64 {
    node.metrics().value("fanfare_history_bytes{app=\"probe\"}")
}

/// Publishes an event on each of as many channels. Returns how many channels there were at most.
#[track_caller]
fn publish(node: &Node, name: &str) -> f64 {
    let mut most: f64 = 0.0;
    for first in (0..CHANNELS).step_by(AT_A_TIME) {
        let numbers = first..first + AT_A_TIME;
        let steps: Vec<Value> = numbers
            .map(|number| json!(["publish", format!("{name}-{number}"), "x"]))
            .collect();
        node.run(steps.into()).all_ok();
        most = most.max(channels(node));
    }
    most
}

#[test]
fn channels_are_forgotten_with_their_last_event() {
    let node = with_history("age = \"5s\"");
    let most = publish(&node, "c");
    assert!(
        most >= AT_A_TIME as f64,
        "there were {most} channels at most"
    );
    assert!(history_bytes(&node) > 0.0, "the last events are kept");
    wait::until_true("all are forgotten", || channels(&node) == 0.0);
    assert_eq!(history_bytes(&node), 0.0);
}

#[test]
fn channels_that_come_and_go_leave_nothing_behind() {
    // Events go long before they are old, so there are never many channels at a time. What the allocator keeps of many
    // for later, now more and now less, would hide what is not given back.
    let node = with_history("total-bytes = \"1MiB\"");
    publish(&node, "warm");
    let before = node.memory();
    for round in 0..4 {
        let most = publish(&node, &format!("c{round}"));
        assert!(
            most < AT_A_TIME as f64,
            "there were {most} channels at most"
        );
    }
    // Less than 84 bytes for each channel: its name and its place alone take more. To give it back may take a moment.
    wait::until_right(|| {
        let grown = node.memory().saturating_sub(before);
        if grown < 16 << 20 {
            return String::new();
        }
        format!("200,000 channels have left {grown} bytes behind")
    });
}
