//! The limits of the node as a whole, and of the life of a stream: whoever is shed or closed comes back.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use fanfare_tests::{
    client::{Head, Request, Socket},
    http2::Http2,
    node::Node,
    sse::Item,
    stream::{End, Stream},
    wait::{self, PATIENCE},
};
use serde_json::{Value, json};

use crate::{
    guests,
    probe::{self, Probe},
};

/// A script that listens, and says so.
fn listen() -> Value {
    json!([["upgrade"], ["register", "news"], ["send", "registered"]])
}

/// What `EventSource` sends for a stream of this app.
fn events(route: &str) -> Request {
    Request::events(&format!("{route}{}", probe::target("", &listen())))
}

/// Holds that a client of a stream was told to come back, in the one way that does not stop an `EventSource` for ever:
/// an event stream that says when, and ends.
#[track_caller]
fn assert_shed(mut stream: Stream) {
    let Head { status, .. } = stream.head();
    assert_eq!(*status, 200);
    assert_eq!(
        stream.head().header("content-type"),
        Some("text/event-stream")
    );
    match stream.next_item() {
        Ok(Item::Retry(retry)) => assert!((200..=1000).contains(&retry), "{retry}"),
        other => panic!("a reconnection time was to come, and there came {other:?}"),
    }
    assert_eq!(stream.next_item(), Err(End::Complete));
}

/// Opens streams until one is not shed.
#[track_caller]
fn wait_for_place(mut open: impl FnMut() -> Stream) -> Stream {
    wait::until("a place is free", || {
        let mut stream = open();
        let first = stream.next_item();
        matches!(first, Ok(Item::Event(event)) if event.data == "registered").then_some(stream)
    })
}

#[test]
fn who_comes_past_the_nodes_connections_is_told_to_come_back() {
    let node = Node::config(&format!(
        "[node]\nconnections = 2\nreconnect-within = \"1s\"\n[apps.a]\ncomponent = {0:?}\nroute = \"/a\"\n\
         [apps.b]\ncomponent = {0:?}\nroute = \"/b\"",
        guests::PROBE
    ))
    .start();
    let open = |route: &str| {
        let mut stream = node.open(&events(route));
        assert_eq!(stream.next_event().data, "registered");
        stream
    };
    // The limit is of all apps together.
    let (first, mut second) = (open("/a"), open("/b"));
    for route in ["/a", "/b"] {
        assert_shed(node.open(&events(route)));
        assert_shed(Http2::connect(node.address).stream(&events(route)));
    }
    // Who wanted no event stream may know more.
    let target = format!("/a{}", probe::target("", &listen()));
    let refused = node.get(&target);
    assert_eq!(refused.status(), 503);
    assert!(refused.header("retry-after").is_some());
    assert!(
        refused.text().contains("`connections` of 2"),
        "{}",
        refused.text()
    );
    // What is no stream is served as ever.
    assert_eq!(node.get("/a/page").status(), 200);

    first.close();
    let third = wait_for_place(|| node.open(&events("/b")));
    assert_shed(node.open(&events("/a")));
    let publish = json!([["publish", "news", "x"]]).to_string();
    assert_eq!(node.post("/b/run", publish).json()[0]["ok"]["delivered"], 2);
    assert_eq!(second.next_event().data, "x");
    // So is the place of one that resets.
    third.reset();
    wait_for_place(|| node.open(&events("/a")));
}

#[test]
fn who_has_too_many_streams_is_told_to_come_back_and_others_are_not() {
    let node = probe::configured("[node]\nconnections-per-address = 2\nreconnect-within = \"1s\"");
    let first = node.subscribe("news");
    let _second = node.subscribe("news");
    assert_shed(node.open(&events("")));
    assert_shed(Http2::connect(node.address).stream(&events("")));
    let refused = node.get(&probe::target("", &listen()));
    assert_eq!(refused.status(), 503);
    assert!(
        refused.text().contains("`connections-per-address` of 2"),
        "{}",
        refused.text()
    );
    // All of 127.0.0.0/8 is this machine's on Linux only.
    if cfg!(target_os = "linux") {
        let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let open = || Socket::connect_from(other, node.address).open(&events(""));
        let others = [open(), open()].map(|mut stream| stream.next_event().data);
        assert_eq!(others, ["registered"; 2]);
    }
    first.close();
    wait_for_place(|| node.open(&events("")));
}

#[test]
fn a_stream_past_its_lifetime_ends_and_its_client_loses_nothing() {
    let node = probe::configured(
        "[apps.probe.streams]\nmax-lifetime = \"3s\"\n[apps.probe.history]\nevents = 1_000_000\nbytes = \"64MiB\"",
    );
    let start = node.publish("news", "start");
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let (mut published, begun) = (0, Instant::now());
            // It ends where the test has failed, too.
            while !enough.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                node.publish("news", &published.to_string());
                published += 1;
                // Each takes a socket of its own, and a machine has no more than so many in a while.
                thread::sleep(Duration::from_millis(2));
            }
            published
        });
        let (mut heard, mut last) = (Vec::new(), start);
        for life in 0..3 {
            let begun = Instant::now();
            let name = format!("life {life}");
            let steps = json!([["upgrade"], ["register", "news"]]);
            let request = probe::request(&name, &steps).last_event_id(&last);
            let mut stream = node.open(&request);
            let (events, end) = stream.rest();
            assert_eq!(end, End::Complete, "the node ends it in peace");
            assert!(
                begun.elapsed() >= Duration::from_secs(2),
                "its time was not up"
            );
            assert!(!events.is_empty(), "it heard what was published");
            heard.extend(events.into_iter().map(|event| event.data));
            last = stream.last_event_id().to_owned();
            assert_eq!(
                node.disconnection(&node.connection(&name)),
                json!({ "channels": ["news"], "reason": "Expired", "times": 1 })
            );
        }
        enough.store(true, Ordering::Relaxed);
        let published: usize = publisher.join().expect("the publisher ends");
        let steps = json!([["upgrade"], ["register", "news"]]);
        let mut stream = node.open(&probe::request("", &steps).last_event_id(&last));
        heard.extend(stream.next_data(published - heard.len()));
        let all: Vec<_> = (0..published).map(|n| n.to_string()).collect();
        assert_eq!(heard, all);
    });
}

#[test]
fn past_the_nodes_queued_bytes_the_client_for_which_most_waits_goes() {
    let node = probe::configured(
        "[node]\nqueued-bytes = \"1MiB\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [apps.probe.limits]\nqueue-bytes = \"64MiB\"",
    );
    let queued = || node.metrics().value("fanfare_node_queued_bytes");
    let deaf = |name: &str| {
        let mut socket = node.connect();
        socket.send(&probe::request(
            name,
            &json!([["upgrade"], ["register", name]]),
        ));
        node.run(json!([["wait-subscribers", name, 1]])).all_ok();
        socket
    };
    let event = json!({ "data": { "repeat": ["x", 100_000] } });
    let little = deaf("little");
    // Connections go to the shard that has the fewest, and there is one for each core: after a reader on each of the
    // others, the next one shares a shard with the first, which then has a choice.
    let others = thread::available_parallelism().map_or(1, |cores| cores.get().max(2) - 1);
    let mut readers: Vec<_> = (0..others).map(|_| node.subscribe("news")).collect();
    // The sockets take some megabytes. From there on a single event waits.
    let mut for_little = 0;
    let for_little_waits = loop {
        let waits = queued();
        if waits > 0.0 {
            // It may be on its way to the socket still.
            thread::sleep(Duration::from_secs(2));
            match queued() {
                left if left == waits => break waits,
                0.0 => {}
                _ => continue,
            }
        }
        for_little += 1;
        assert!(
            for_little < 1000,
            "100 MB went to a client that reads nothing"
        );
        node.run(json!([["publish", "little", &event]])).all_ok();
    };
    assert!(for_little_waits < 300_000.0, "{for_little_waits}");

    let most = deaf("most");
    let most_id = node.connection("most");
    let slow = "fanfare_connections_closed_total{app=\"probe\",reason=\"slow\"}";
    let mut rounds = 0;
    while node.metrics().value(slow) == 0.0 {
        rounds += 1;
        assert!(rounds < 1000, "100 MB wait for clients that read nothing");
        node.run(json!([["publish", "most", &event]])).all_ok();
        node.publish("news", &rounds.to_string());
        for reader in &mut readers {
            assert_eq!(reader.next_event().data, rounds.to_string());
        }
    }
    assert_eq!(
        node.disconnection(&most_id),
        json!({ "channels": ["most"], "reason": "Slow", "times": 1 })
    );
    assert_eq!(most.stream("GET").rest().1, End::Cut);
    wait::until_true("its bytes are gone", || queued() <= for_little_waits);
    assert_eq!(node.metrics().value(slow), 1.0);

    // The others go on: one has missed nothing, and the other has nothing to catch up with.
    let mut little = little.stream("GET");
    for _ in 0..for_little {
        assert_eq!(little.next_event().data.len(), 100_000);
    }
    node.publish("little", "on");
    assert_eq!(little.next_event().data, "on");
    node.publish("news", "on");
    for reader in &mut readers {
        assert_eq!(reader.next_event().data, "on");
    }
}
