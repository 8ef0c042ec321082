//! Clients that come back: what they missed, once, and then what is live; and the order of everything.

use std::thread;

use fanfare_tests::{client::Request, node::Node, sse::Event, stream::Stream};
use serde_json::{Value, json};

use crate::probe::{self, Probe, event};

/// Opens a stream that hears these channels, as a client that heard `last` at last.
fn resume(node: &Node, last: &str, channels: &[&str]) -> Stream {
    let mut steps = vec![json!(["upgrade"])];
    steps.extend(channels.iter().map(|channel| json!(["register", channel])));
    node.open(&probe::request("", &json!(steps)).last_event_id(last))
}

/// Holds that an event tells of a gap.
fn assert_gap(event: &Event, channel: &str, last: &str) {
    assert_eq!(event.event_type, "fanfare-gap", "{event:?}");
    assert_eq!(
        serde_json::from_str::<Value>(&event.data).unwrap(),
        json!({ "channel": channel, "last-event-id": last })
    );
}

#[test]
fn what_was_missed_comes_once_and_then_what_is_live() {
    let node = probe::start();
    let mut stream = node.subscribe("news");
    let ids: Vec<_> = ["a", "b"].map(|data| node.publish("news", data)).into();
    stream.next_data(2);
    assert_eq!(stream.last_event_id(), ids[1]);
    stream.close();

    let missed: Vec<_> = ["c", "d", "e"]
        .map(|data| node.publish("news", data))
        .into();
    let mut back = resume(&node, &ids[1], &["news"]);
    for (id, data) in missed.iter().zip(["c", "d", "e"]) {
        assert_eq!(back.next_event(), event("message", data, id));
    }
    let live = node.publish("news", "f");
    assert_eq!(back.next_event(), event("message", "f", &live));
}

#[test]
fn the_last_event_id_comes_in_the_query_too_and_the_header_beats_it() {
    let node = probe::start();
    let ids: Vec<_> = ["a", "b", "c"]
        .map(|data| node.publish("news", data))
        .into();
    let steps = json!([["upgrade"], ["register", "news"]]);
    let by_query =
        |id: &str| Request::events(&format!("{}&last-event-id={id}", probe::target("", &steps)));
    assert_eq!(node.open(&by_query(&ids[0])).next_data(2), ["b", "c"]);
    assert_eq!(
        node.open(&by_query(&ids[0]).last_event_id(&ids[1]))
            .next_data(1),
        ["c"]
    );
}

#[test]
fn the_guest_is_told_the_last_event_id() {
    let node = probe::start();
    let told = |request: Request| {
        let mut stream = node.open(&request);
        stream.wait_end();
        node.results("told").ok(0)["last-event-id"].clone()
    };
    let steps = json!([["upgrade"], ["close"]]);
    let request = || probe::request("told", &steps);
    assert_eq!(told(request()), Value::Null);
    assert_eq!(told(request().last_event_id("größe 7")), "größe 7");
    assert_eq!(told(request().last_event_id("")), Value::Null);
    assert_eq!(
        told(request().last_event_id(&"x".repeat(1024))),
        "x".repeat(1024)
    );
    assert_eq!(
        told(request().last_event_id(&"x".repeat(1025))),
        Value::Null,
        "too long a one is none"
    );
}

#[test]
fn ids_of_the_guest_are_places_too() {
    let node = probe::start();
    for id in ["first", "second", "third"] {
        node.run(json!([["publish", "news", { "id": id, "data": id }]]))
            .all_ok();
    }
    assert_eq!(
        resume(&node, "first", &["news"]).next_data(2),
        ["second", "third"]
    );
    node.run(json!([["publish", "news", { "id": { "any": "4 / ☂" }, "data": "fourth" }]]))
        .all_ok();
    node.publish("news", "fifth");
    assert_eq!(resume(&node, "4 / ☂", &["news"]).next_data(1), ["fifth"]);
}

#[test]
fn one_id_is_a_place_on_every_channel() {
    let node = probe::start();
    node.publish("a", "a1");
    let heard = node.publish("b", "b1");
    for (channel, data) in [("a", "a2"), ("b", "b2"), ("c", "c1"), ("a", "a3")] {
        node.publish(channel, data);
    }
    let mut back = resume(&node, &heard, &["a", "b"]);
    let mut data = back.next_data(3);
    data.sort();
    assert_eq!(data, ["a2", "a3", "b2"]);
    node.publish("c", "unheard");
    node.publish("b", "b3");
    assert_eq!(back.next_event().data, "b3");
}

#[test]
fn a_gap_is_told_before_anything_else() {
    let node = probe::configured("[apps.probe.history]\nevents = 3");
    let ids: Vec<_> = (0..6)
        .map(|n| node.publish("news", &n.to_string()))
        .collect();

    // Event 1 is forgotten, and so is what followed it at once.
    let mut back = resume(&node, &ids[1], &["news"]);
    let first = back.next_event();
    assert_gap(&first, "news", &ids[1]);
    assert_eq!(
        first.last_event_id, "",
        "a gap has no id: the client's place stays where it was"
    );
    assert_eq!(back.next_data(3), ["3", "4", "5"]);
    node.publish("news", "live");
    assert_eq!(back.next_event().data, "live");

    // After event 3 nothing is missing, though event 3 itself is forgotten by now: the client hears no gap.
    assert_eq!(
        resume(&node, &ids[3], &["news"]).next_data(3),
        ["4", "5", "live"]
    );
}

#[test]
fn after_an_unknown_id_there_is_a_gap_and_nothing_old() {
    let node = probe::start();
    node.publish("news", "old");
    for unknown in ["never-given", "0000000000-1", "ä\"\\"] {
        let mut back = resume(&node, unknown, &["news"]);
        assert_gap(&back.next_event(), "news", unknown);
        node.publish("news", "live");
        assert_eq!(back.next_event().data, "live");
    }
}

#[test]
fn a_node_that_was_started_anew_tells_of_the_gap() {
    let node = probe::start();
    let id = node.publish("news", "before");
    node.stop();
    let node = probe::start();
    node.publish("news", "between");
    let mut back = resume(&node, &id, &["news"]);
    assert_gap(&back.next_event(), "news", &id);
    node.publish("news", "after");
    assert_eq!(back.next_event().data, "after");
}

#[test]
fn without_a_history_a_gap_is_told_and_live_events_come() {
    let node = probe::configured("[apps.probe.history]\nevents = 0");
    let id = node.publish("news", "a");
    node.publish("news", "b");
    let mut back = resume(&node, &id, &["news"]);
    assert_gap(&back.next_event(), "news", &id);
    node.publish("news", "c");
    assert_eq!(back.next_event().data, "c");
}

#[test]
fn old_events_are_forgotten() {
    let node = probe::configured("[apps.probe.history]\nage = \"1s\"");
    let id = node.publish("news", "a");
    node.publish("news", "b");
    fanfare_tests::wait::until_true("the history is empty", || {
        node.ask(json!(["history", "news", 10])) == json!([])
    });
    assert_gap(&resume(&node, &id, &["news"]).next_event(), "news", &id);
}

#[test]
fn a_first_visit_hears_nothing_old() {
    let node = probe::start();
    node.publish("news", "old");
    let mut stream = node.subscribe("news");
    node.publish("news", "new");
    assert_eq!(stream.next_event().data, "new");
}

#[test]
fn an_event_published_twice_is_delivered_once() {
    let node = probe::start();
    let mut stream = node.subscribe("news");
    let publish = || node.ask(json!(["publish", "news", { "id": "once", "data": "x" }]));
    assert_eq!(
        publish(),
        json!({ "id": "once", "delivered": 1, "duplicate": false })
    );
    assert_eq!(
        publish(),
        json!({ "id": "once", "delivered": 0, "duplicate": true })
    );
    // On another channel it is another event.
    let other = node.ask(json!(["publish", "other", { "id": "once", "data": "x" }]));
    assert_eq!(other["duplicate"], false);
    node.publish("news", "next");
    assert_eq!(stream.next_data(2), ["x", "next"]);
}

#[test]
fn a_channel_that_is_registered_twice_is_heard_once() {
    let node = probe::start();
    let id = node.publish("news", "before");
    node.publish("news", "missed");
    let mut back = resume(&node, &id, &["news", "news"]);
    node.publish("news", "live");
    assert_eq!(back.next_data(2), ["missed", "live"]);
}

#[test]
fn all_connections_hear_one_order_while_two_handlers_publish() {
    const EACH: usize = 200;
    let node = probe::start();
    let mut streams: Vec<_> = (0..4).map(|_| node.subscribe("news")).collect();
    let orders: Vec<Vec<Event>> = thread::scope(|scope| {
        let readers: Vec<_> = streams
            .iter_mut()
            .map(|stream| scope.spawn(|| (0..2 * EACH).map(|_| stream.next_event()).collect()))
            .collect();
        for handler in ["a", "b"] {
            let node = &node;
            scope.spawn(move || {
                let steps: Vec<_> = (0..EACH)
                    .map(|n| json!(["publish", "news", format!("{handler}{n}")]))
                    .collect();
                node.run(steps.into()).all_ok();
            });
        }
        readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader hears all"))
            .collect()
    });
    for order in &orders {
        assert_eq!(order, &orders[0]);
    }
    for handler in ["a", "b"] {
        let its: Vec<_> = orders[0]
            .iter()
            .filter(|event| event.data.starts_with(handler))
            .map(|event| &event.data)
            .collect();
        assert_eq!(
            its,
            (0..EACH)
                .map(|n| format!("{handler}{n}"))
                .collect::<Vec<_>>()
                .iter()
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_client_that_comes_and_goes_hears_everything_once() {
    const EVENTS: usize = 90;
    let node = probe::start();
    let mut stream = node.subscribe("news");
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..EVENTS {
                node.publish("news", &n.to_string());
            }
        });
        let mut heard = Vec::new();
        while heard.len() < EVENTS {
            // A few events, then away in the middle of them, and back.
            let some = (heard.len() % 5 + 1).min(EVENTS - heard.len());
            heard.extend(stream.next_data(some));
            let last = stream.last_event_id().to_owned();
            let leave = std::mem::replace(&mut stream, resume(&node, &last, &["news"]));
            leave.reset();
        }
        assert_eq!(
            heard,
            (0..EVENTS).map(|n| n.to_string()).collect::<Vec<_>>()
        );
    });
}
