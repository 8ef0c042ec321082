//! The end of connections: noticed, told once, with its reason, and nothing left behind.

use fanfare_tests::{
    client::Request,
    node::Node,
    stream::{End, Stream},
};
use serde_json::json;

use crate::{
    flavour::{Flavour, in_both_flavours},
    probe::{self, Probe},
};

in_both_flavours!(
    a_client_that_closes_is_noticed,
    a_client_that_resets_is_noticed,
    a_client_that_closes_its_half_is_noticed,
    a_client_that_leaves_before_the_upgrade_harms_nobody,
    every_reason_is_told,
    a_client_that_never_reads_is_closed_and_no_other_is_affected,
    a_client_that_takes_nothing_for_too_long_is_dropped_though_more_may_wait_for_it,
    a_slow_client_comes_back_and_catches_up,
    connections_come_and_go_and_none_is_left,
);

/// A handler that waits for the end of its stream and then tries everything on the closed handle.
fn until_closed() -> serde_json::Value {
    json!([
        ["upgrade"],
        ["register", "b"],
        ["register", "a"],
        ["send", "hello"],
        ["wait-closed"],
        ["channels"],
        ["send", "late"],
        ["register", "c"],
        ["subscribers", "a"],
        ["publish", "a", "unheard"],
    ])
}

/// Opens a stream with the handler [`until_closed`].
fn watched(node: &Node) -> Stream {
    let mut stream = node.listen("watched", until_closed());
    assert_eq!(stream.next_event().data, "hello");
    stream
}

/// Holds that the end of a [`watched`] stream was noticed everywhere.
fn assert_gone(node: &Node) {
    let results = node.results("watched");
    results.ok(4);
    assert_eq!(results.ok(5), &json!([]));
    assert_eq!(results.error(6).0, "closed");
    assert_eq!(results.error(7).0, "closed");
    assert_eq!(results.ok(8), 0);
    assert_eq!(results.ok(9)["delivered"], 0);
    let told = node.disconnection(&node.connection("watched"));
    assert_eq!(
        told,
        json!({ "channels": ["a", "b"], "reason": "ClientGone", "times": 1 })
    );
}

fn a_client_that_closes_is_noticed(flavour: Flavour) {
    let node = flavour.start();
    watched(&node).close();
    assert_gone(&node);
}

fn a_client_that_resets_is_noticed(flavour: Flavour) {
    let node = flavour.start();
    watched(&node).reset();
    assert_gone(&node);
}

fn a_client_that_closes_its_half_is_noticed(flavour: Flavour) {
    let node = flavour.start();
    let mut socket = node.connect();
    socket.send(&Request::events(&probe::target("watched", &until_closed())));
    node.run(json!([["wait-subscribers", "a", 1]])).all_ok();
    socket.half_close();
    assert_gone(&node);
    socket.wait_closed();
}

fn a_client_that_leaves_before_the_upgrade_harms_nobody(flavour: Flavour) {
    let node = flavour.start();
    let mut socket = node.connect();
    // The handler has the request when it has answered the first step.
    socket.send(&probe::request(
        "late",
        &json!([
            ["set-text", "begun", ""],
            ["wait-for", "go"],
            ["upgrade"],
            ["has", "x"]
        ]),
    ));
    node.run(json!([["wait-for", "begun"]])).all_ok();
    socket.reset();
    // Whether the host has noticed by now or notices later, the handler goes on to its end.
    node.run(json!([["set-text", "go", ""]])).all_ok();
    assert_eq!(node.results("late").ok(3), false);
    assert_eq!(node.get("/page").status(), 200);
}

fn every_reason_is_told(flavour: Flavour) {
    let node = flavour.start();
    let reason = |name: &str| node.disconnection(&node.connection(name));

    node.listen(
        "closed",
        json!([["upgrade"], ["register", "news"], ["close"]]),
    )
    .wait_end();
    assert_eq!(
        reason("closed"),
        json!({ "channels": ["news"], "reason": "Closed", "times": 1 })
    );

    node.listen(
        "removed",
        json!([["upgrade"], ["register", "news"], ["remove", "news"]]),
    )
    .wait_end();
    assert_eq!(
        reason("removed"),
        json!({ "channels": ["news"], "reason": "Closed", "times": 1 })
    );

    node.listen("unregistered", json!([["upgrade"]])).rest();
    assert_eq!(
        reason("unregistered"),
        json!({ "channels": [], "reason": "Closed", "times": 1 })
    );

    // Long enough that it is registered by then.
    node.listen(
        "inactive",
        json!([["upgrade", { "inactivity": 2000 }], ["register", "news"]]),
    )
    .wait_end();
    assert_eq!(
        reason("inactive"),
        json!({ "channels": ["news"], "reason": "Inactive", "times": 1 })
    );

    node.listen(
        "gone",
        json!([["upgrade"], ["register", "news"], ["send", "x"]]),
    )
    .close();
    assert_eq!(reason("gone")["reason"], "ClientGone");
}

fn a_client_that_never_reads_is_closed_and_no_other_is_affected(flavour: Flavour) {
    let node = flavour.configured("[apps.probe.limits]\nqueue-bytes = \"64KiB\"");
    let mut slow = node.connect();
    slow.send(&probe::request(
        "slow",
        &json!([["upgrade"], ["register", "news"]]),
    ));
    let id = node.connection("slow");
    let mut good = node.subscribe("news");

    let large = json!({ "data": { "repeat": ["x", 500_000] } });
    let mut rounds = 0;
    while node.get("/disconnected").json().get(&id).is_none() {
        rounds += 1;
        assert!(rounds < 200, "100 MB wait for a client that reads nothing");
        node.run(json!([["publish", "news", &large]])).all_ok();
        assert_eq!(good.next_event().data.len(), 500_000);
    }
    assert_eq!(
        node.disconnection(&id),
        json!({ "channels": ["news"], "reason": "Slow", "times": 1 })
    );
    assert_eq!(node.ask(json!(["subscribers", "news"])), 1);

    // What the slow client finds in its socket ends in the middle.
    assert_eq!(slow.stream("GET").rest().1, End::Cut);
    node.publish("news", "on");
    assert_eq!(good.next_event().data, "on");
}

fn a_client_that_takes_nothing_for_too_long_is_dropped_though_more_may_wait_for_it(
    flavour: Flavour,
) {
    let node = flavour.configured(
        "[listen]\nwrite-timeout = \"300ms\"\n[apps.probe.limits]\nqueue-bytes = \"64MiB\"",
    );
    let mut deaf = node.connect();
    deaf.send(&probe::request(
        "deaf",
        &json!([["upgrade"], ["register", "news"]]),
    ));
    node.run(json!([["wait-subscribers", "news", 1]])).all_ok();
    // Far more than sockets hold.
    let large = json!({ "data": { "repeat": ["x", 1_000_000] } });
    for _ in 0..20 {
        node.run(json!([["publish", "news", &large]])).all_ok();
    }
    let told = node.disconnection(&node.connection("deaf"));
    assert_eq!(
        told,
        json!({ "channels": ["news"], "reason": "ClientGone", "times": 1 })
    );
    assert_eq!(deaf.stream("GET").rest().1, End::Cut);
}

fn a_slow_client_comes_back_and_catches_up(flavour: Flavour) {
    let node = flavour.configured(
        "[apps.probe.limits]\nqueue-bytes = \"1KiB\"\n[apps.probe.history]\nbytes = \"4MiB\"",
    );
    let first = node.publish("news", "first");
    for n in 0..50 {
        node.run(json!([["publish", "news", { "data": { "repeat": [n.to_string(), 10_000] } }]]))
            .all_ok();
    }
    // What it missed is far more than may wait for it, and arrives.
    let request =
        probe::request("", &json!([["upgrade"], ["register", "news"]])).last_event_id(&first);
    let mut stream = node.open(&request);
    for n in 0..50 {
        assert_eq!(stream.next_event().data, n.to_string().repeat(10_000));
    }
    node.publish("news", "live");
    assert_eq!(stream.next_event().data, "live");
}

fn connections_come_and_go_and_none_is_left(flavour: Flavour) {
    let node = flavour.start();
    for round in 0..5 {
        let streams: Vec<_> = (0..20).map(|_| node.subscribe("news")).collect();
        assert_eq!(
            node.ask(json!(["subscribers", "news"])),
            20,
            "round {round}"
        );
        for (n, stream) in streams.into_iter().enumerate() {
            if n % 2 == 0 {
                stream.close()
            } else {
                stream.reset()
            }
        }
        node.run(json!([["wait-subscribers", "news", 0]])).all_ok();
    }
    fanfare_tests::wait::until_true("every end was told", || {
        let told = node.get("/disconnected").json();
        let told = told.as_object().expect("an object");
        assert!(told.values().all(|end| end["times"] == 1), "{told:?}");
        told.len() == 100
    });
}
