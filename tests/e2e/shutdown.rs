//! SIGTERM and SIGINT: nothing new is taken, what runs may finish, clients are told to come back.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use fanfare_tests::{
    client::{Request, Socket},
    http2::Http2,
    node::Node,
    stream::{End, Stream},
    upstream::{Exchange, Upstream},
    wait,
};
use serde_json::json;

use crate::{
    guests,
    instances::wait_for_calls,
    probe::{self, Probe},
};

/// Holds that a stream tells its client to come back within so many milliseconds, and ends.
#[track_caller]
fn assert_told_to_come_back(stream: &mut Stream, within: u32) {
    let before = stream.raw().len();
    assert_eq!(stream.wait_end(), End::Complete);
    let told = &stream.text()[before..];
    let retry = told
        .strip_prefix("retry: ")
        .and_then(|told| told.strip_suffix("\n\n"));
    let retry: u32 = retry
        .and_then(|retry| retry.parse().ok())
        .unwrap_or_else(|| panic!("no reconnection time: {told:?}"));
    assert!(retry < within, "{retry}");
}

#[test]
fn both_signals_end_a_node_and_its_streams_in_peace() {
    for signal in ["TERM", "INT"] {
        let node = probe::configured("[node]\nreconnect-within = \"3s\"");
        let http2 = Http2::connect(node.address);
        let mut streams = vec![
            node.listen(
                "a",
                json!([
                    ["upgrade"],
                    ["register", "news"],
                    ["register", "more"],
                    ["send", "registered"]
                ]),
            ),
            node.listen(
                "b",
                json!([["upgrade"], ["register", "news"], ["send", "registered"]]),
            ),
            http2.stream(&probe::request(
                "c",
                &json!([["upgrade"], ["register", "news"], ["send", "registered"]]),
            )),
        ];
        for stream in &mut streams {
            assert_eq!(stream.next_event().data, "registered");
        }
        let ids = ["a", "b", "c"].map(|name| node.connection(name));
        let address = node.address;
        node.signal(signal);
        for stream in &mut streams {
            assert_told_to_come_back(stream, 3000);
        }
        let ended = node.wait();
        assert_eq!(ended.status.code(), Some(0), "{signal}: {}", ended.stderr);
        // The hook was called for each of them, once, and before the end.
        for (id, channels) in ids
            .iter()
            .zip(["[\"more\", \"news\"]", "[\"news\"]", "[\"news\"]"])
        {
            let line = format!("disconnected {id} Shutdown {channels}");
            assert_eq!(
                ended.stderr.matches(&line).count(),
                1,
                "{line:?}: {}",
                ended.stderr
            );
        }
        assert!(
            TcpStream::connect(address).is_err(),
            "nobody listens any more"
        );
    }
}

#[test]
fn what_was_published_before_the_signal_is_delivered() {
    let node = probe::start();
    let mut stream = node.subscribe("news");
    node.run(json!([["publish-many", "news", 500]])).all_ok();
    node.terminate();
    assert_eq!(
        stream.next_data(500).last().map(String::as_str),
        Some("499")
    );
    assert_eq!(stream.wait_end(), End::Complete);
    assert!(node.wait().status.success());
}

/// A node with the probe and this in its configuration, on which a handler of another app is at work: the socket that
/// waits for it, and the request that it has sent. It goes on until that is answered.
#[track_caller]
pub(crate) fn working(tables: &str) -> (Node, Socket, Exchange) {
    let upstream = Upstream::start();
    let node = probe::configured(&format!(
        "{tables}[node]\ndrain-timeout = \"1m\"\n\
         [apps.caller]\ncomponent = {:?}\nroute = \"/caller\"\ncapabilities.http = [{:?}]\n",
        guests::CALLER,
        upstream.origin()
    ));
    let mut socket = node.connect();
    let target = format!("/caller/send?url={}", upstream.origin());
    socket.send(&Request::get(&target));
    let exchange = upstream.accept();
    (node, socket, exchange)
}

#[test]
fn a_handler_at_work_finishes() {
    let (node, mut socket, exchange) = working("");
    node.terminate();
    wait::until_true("it drains", || node.get("/readyz").status() == 503);
    exchange.answer("200 OK", &[], "finished");
    assert_eq!(socket.response("GET").json()["body"], "finished");
    assert!(node.wait().status.success());
}

#[test]
fn whoever_comes_meanwhile_is_told_to_come_back() {
    let (node, mut socket, exchange) = working("");
    node.terminate();
    node.wait_for_log("shutting down");
    let plain = wait::until("requests are refused", || {
        let answer = node.get("/page");
        (answer.status() != 200).then_some(answer)
    });
    assert_eq!(plain.status(), 503);
    assert!(plain.header("retry-after").is_some());
    let mut stream = node.events("/page");
    assert_told_to_come_back(&mut stream, 5000);
    assert_eq!(node.get("/readyz").status(), 503);
    // The handler was at work all the while.
    exchange.answer("200 OK", &[], "finished");
    assert_eq!(socket.response("GET").json()["body"], "finished");
    assert!(node.wait().status.success());
}

#[test]
fn a_handler_past_the_bound_is_stopped() {
    let toml = format!(
        "[node]\ndrain-timeout = \"300ms\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [apps.hostile]\ncomponent = {:?}",
        guests::HOSTILE
    );
    for path in ["/sleep", "/loop"] {
        let node =
            Node::config(&format!("{toml}\n[apps.hostile.limits]\ncpu-time = \"1h\"")).start();
        let mut socket = node.connect();
        socket.send(&Request::get(path));
        wait_for_calls(&node, "hostile", 1.0);
        node.terminate();
        let answer = socket.response("GET");
        assert_eq!(answer.status(), 503, "{path}");
        assert!(answer.text().contains("shutting down"), "{}", answer.text());
        let ended = node.wait();
        assert_eq!(ended.status.code(), Some(0), "{path}: {}", ended.stderr);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let toml = format!(
        "[node]\ndrain-timeout = \"10m\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [apps.hostile]\ncomponent = {:?}",
        guests::HOSTILE
    );
    let (mut node, sockets) = loop {
        let node = Node::config(&toml).start();
        let sockets = [(); 8].map(|()| {
            let mut socket = node.connect();
            socket.send(&Request::get("/sleep"));
            socket
        });
        wait_for_calls(&node, "hostile", 8.0);
        // Two that come at once are one: a terminal and who started the node may both pass it on. They come at once unless
        // the machine stands still between the two.
        if node.terminate_twice() < Duration::from_millis(100) {
            break (node, sockets);
        }
    };
    node.wait_for_log("a second signal ends it at once");
    thread::sleep(Duration::from_millis(500));
    assert!(!node.has_ended());
    node.terminate();
    let ended = node.wait();
    assert!(!ended.status.success());
    let says = "fanfare: ended by a second signal before all was shut down";
    assert!(ended.stderr.contains(says), "{}", ended.stderr);
    // The guests that wait are not told of it.
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    for mut socket in sockets {
        socket.wait_closed();
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_nothing() {
    let node = probe::configured(
        "[node]\ndrain-timeout = \"500ms\"\n[apps.probe.limits]\nqueue-bytes = \"64MiB\"",
    );
    let mut deaf = node.connect();
    deaf.send(&probe::request(
        "deaf",
        &json!([["upgrade"], ["register", "news"], ["send", "registered"]]),
    ));
    node.run(json!([["wait-subscribers", "news", 1]])).all_ok();
    for _ in 0..20 {
        node.run(json!([["publish", "news", { "data": { "repeat": ["x", 1_000_000] } }]]))
            .all_ok();
    }
    assert!(node.stop().stderr.contains("shut down"));
}

#[test]
fn a_node_that_has_nothing_to_wait_for_ends_at_once() {
    let node = probe::start();
    node.subscribe("news").close();
    let begun = Instant::now();
    node.stop();
    // The drain timeout is twice as long.
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
