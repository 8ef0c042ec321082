//! Event streams as clients see them: heads, data, pings, ends.

use fanfare_tests::{client::Request, sse::Item, stream::End};
use serde_json::json;

use crate::{
    flavour::{Flavour, in_both_flavours},
    probe::{Probe, event},
};

in_both_flavours!(
    a_stream_has_the_head_that_proxies_and_browsers_need,
    the_head_is_on_the_wire_while_the_handler_goes_on,
    an_event_is_on_the_wire_while_the_handler_goes_on,
    data_arrives_as_the_standard_allows,
    an_event_of_the_largest_size_arrives_whole,
    every_field_is_written_once,
    ids_of_every_kind_arrive,
    json_travels_as_it_is_written,
    what_is_sent_reaches_one_client_and_no_history,
    a_quiet_stream_is_pinged_with_comments,
    the_configured_ping_interval_counts_where_the_guest_says_none,
    a_stream_without_events_is_closed_though_it_is_pinged,
    the_configured_inactivity_timeout_counts_where_the_guest_says_none,
    closing_delivers_what_was_sent_before,
    removal_from_the_last_channel_closes,
    a_stream_outlives_its_handler_unless_it_hears_nothing,
    in_development_a_stream_that_nothing_was_done_with_says_so,
    many_streams_hear_one_event,
);

fn a_stream_has_the_head_that_proxies_and_browsers_need(flavour: Flavour) {
    let node = flavour.start();
    let stream = node.listen("head", json!([["upgrade"], ["register", "news"]]));
    let head = stream.head();
    assert_eq!((head.version.as_str(), head.status), ("HTTP/1.1", 200));
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(head.header("content-length"), None);
    assert!(head.header("x-request-id").is_some_and(|id| id.len() == 16));
}

fn the_head_is_on_the_wire_while_the_handler_goes_on(flavour: Flavour) {
    let node = flavour.start();
    // Reading the head succeeds though the handler waits for a word that comes only after.
    let mut stream = node.listen(
        "early",
        json!([["upgrade"], ["wait-for", "go"], ["send", "gone on"]]),
    );
    node.run(json!([["set-text", "go", ""]]));
    assert_eq!(stream.next_event().data, "gone on");
    node.results("early").all_ok();
}

fn an_event_is_on_the_wire_while_the_handler_goes_on(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "first",
        json!([
            ["upgrade"],
            ["send", "first"],
            ["wait-for", "go"],
            ["send", "second"]
        ]),
    );
    assert_eq!(stream.next_event().data, "first");
    node.run(json!([["set-text", "go", ""]]));
    assert_eq!(stream.next_event().data, "second");
}

fn data_arrives_as_the_standard_allows(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.subscribe("news");
    for (data, heard) in [
        ("plain", "plain"),
        ("", ""),
        (" a space in front", " a space in front"),
        ("a\nb", "a\nb"),
        ("a\rb", "a\nb"),
        ("a\r\nb", "a\nb"),
        ("a\n\rb", "a\n\nb"),
        ("\n", "\n"),
        ("\r\n\r\n", "\n\n"),
        ("ends\n", "ends\n"),
        ("id: 7\nevent: x\n\ndata: y", "id: 7\nevent: x\n\ndata: y"),
        (": no comment", ": no comment"),
        (
            "\u{feff}grün ☂ 🎺 \u{2028}\u{85}",
            "\u{feff}grün ☂ 🎺 \u{2028}\u{85}",
        ),
        ("nul \0 inside", "nul \0 inside"),
    ] {
        node.publish("news", data);
        assert_eq!(stream.next_event().data, heard, "{data:?}");
    }
}

fn an_event_of_the_largest_size_arrives_whole(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.subscribe("news");
    node.run(json!([["publish", "news", { "data": { "repeat": ["0123456789abcdef", 65536] } }]]))
        .all_ok();
    let data = stream.next_event().data;
    assert_eq!(data.len(), 1 << 20);
    assert!(data == "0123456789abcdef".repeat(65536));
}

fn every_field_is_written_once(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.subscribe("news");
    let before = stream.raw().len();
    let message = json!({ "id": "a-1", "type": "greeting", "data": "hello", "retry": 1500 });
    node.run(
        json!([["publish", "news", message], ["publish", "news", { "id": "a-2", "data": "end" }]]),
    )
    .all_ok();
    assert_eq!(stream.next_event(), event("greeting", "hello", "a-1"));
    assert_eq!(stream.next_event(), event("message", "end", "a-2"));
    let expected = "id: a-1\nevent: greeting\nretry: 1500\ndata: hello\n\nid: a-2\ndata: end\n\n";
    assert_eq!(&stream.text()[before..], expected);
}

fn ids_of_every_kind_arrive(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.subscribe("news");
    let longest_plain = "x".repeat(128);
    let longest = "ü".repeat(512);
    for (id, heard) in [
        (json!("A.z_0-9"), "A.z_0-9"),
        (json!(longest_plain), longest_plain.as_str()),
        (json!({ "any": " größe 1/2: ☂ " }), " größe 1/2: ☂ "),
        (json!({ "any": longest }), longest.as_str()),
    ] {
        let receipt = node.ask(json!(["publish", "news", { "id": id, "data": "x" }]));
        assert_eq!(receipt["id"], heard);
        assert_eq!(stream.next_event().last_event_id, heard);
    }
}

fn json_travels_as_it_is_written(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.subscribe("news");
    for text in [
        "{\"b\": 1,   \"a\": [1.0e2, null]}",
        "[1,\n 2]",
        "\"text\"",
        " 7 ",
    ] {
        node.run(json!([["publish", "news", { "data": { "json": text } }]]))
            .all_ok();
        assert_eq!(stream.next_event().data, text);
    }
}

fn what_is_sent_reaches_one_client_and_no_history(flavour: Flavour) {
    let node = flavour.start();
    let mut other = node.subscribe("news");
    let sent = json!({ "data": "for you", "type": "private" });
    let mut stream = node.listen(
        "sent",
        json!([
            ["upgrade"],
            ["register", "news"],
            ["send", sent],
            ["history", "news", 10]
        ]),
    );
    assert_eq!(stream.next_event(), event("private", "for you", ""));
    assert_eq!(node.results("sent").ok(3), &json!([]));
    let id = node.publish("news", "for all");
    assert_eq!(stream.next_event(), event("message", "for all", &id));
    assert_eq!(other.next_event(), event("message", "for all", &id));
}

fn a_quiet_stream_is_pinged_with_comments(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "ping",
        json!([["upgrade", { "ping": 100 }], ["register", "news"]]),
    );
    for _ in 0..3 {
        assert_eq!(stream.next_comment(), " ping");
    }
    assert_eq!(stream.text(), ": ping\n\n".repeat(3));
    node.publish("news", "at last");
    assert_eq!(stream.next_event().data, "at last");
}

fn the_configured_ping_interval_counts_where_the_guest_says_none(flavour: Flavour) {
    let node = flavour.configured("[apps.probe.streams]\nping-interval = \"100ms\"");
    let mut stream = node.listen("ping", json!([["upgrade"], ["register", "news"]]));
    assert_eq!(stream.next_comment(), " ping");
    // The guest may turn it off; then nothing comes before the end.
    let mut stream = node.listen(
        "quiet",
        json!([["upgrade", { "ping": 0, "inactivity": 500 }], ["register", "news"]]),
    );
    assert_eq!(stream.next_item(), Err(End::Complete));
}

fn a_stream_without_events_is_closed_though_it_is_pinged(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "idle",
        json!([["upgrade", { "ping": 100, "inactivity": 3000 }], ["register", "news"]]),
    );
    assert_eq!(stream.next_item(), Ok(Item::Comment(" ping".into())));
    assert_eq!(stream.wait_end(), End::Complete);
    let ended = node.disconnection(&node.connection("idle"));
    assert_eq!(
        ended,
        json!({ "channels": ["news"], "reason": "Inactive", "times": 1 })
    );
}

fn the_configured_inactivity_timeout_counts_where_the_guest_says_none(flavour: Flavour) {
    let node = flavour.configured("[apps.probe.streams]\ninactivity-timeout = \"100ms\"");
    let mut stream = node.listen("idle", json!([["upgrade"], ["register", "news"]]));
    assert_eq!(stream.wait_end(), End::Complete);
}

fn closing_delivers_what_was_sent_before(flavour: Flavour) {
    let node = flavour.start();
    let many: Vec<_> = (0..100).map(|n| json!(["send", n.to_string()])).collect();
    let steps = [
        vec![json!(["upgrade"])],
        many,
        vec![json!(["close"]), json!(["close"])],
    ]
    .concat();
    let mut stream = node.open(&Request::post("/script?as=close", json!(steps).to_string()));
    assert_eq!(
        stream.next_data(100),
        (0..100).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(stream.wait_end(), End::Complete);
    node.results("close").all_ok();
}

fn removal_from_the_last_channel_closes(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "left",
        json!([["upgrade"], ["register", "a"], ["register", "b"]]),
    );
    node.results("left");
    let id = node.connection("left");
    let results = node.run(json!([
        ["remove", "a", &id],
        ["publish", "a", "unheard"],
        ["publish", "b", "heard"]
    ]));
    assert_eq!(results.ok(1)["delivered"], 0);
    assert_eq!(results.ok(2)["delivered"], 1);
    assert_eq!(stream.next_event().data, "heard");
    node.run(json!([["publish", "b", "last"], ["remove", "b", &id]]))
        .all_ok();
    assert_eq!(stream.next_event().data, "last");
    assert_eq!(stream.wait_end(), End::Complete);
    assert_eq!(
        node.disconnection(&id),
        json!({ "channels": ["b"], "reason": "Closed", "times": 1 })
    );
}

fn a_stream_outlives_its_handler_unless_it_hears_nothing(flavour: Flavour) {
    let node = flavour.start();
    let mut kept = node.subscribe("news");
    let mut left = node.listen("left", json!([["upgrade"], ["send", "bye"]]));
    assert_eq!(left.next_event().data, "bye");
    assert_eq!(left.wait_end(), End::Complete);
    node.publish("news", "still here");
    assert_eq!(kept.next_event().data, "still here");
}

fn in_development_a_stream_that_nothing_was_done_with_says_so(flavour: Flavour) {
    let node = flavour.start();
    let mut unused = node.listen("unused", json!([["upgrade"]]));
    let told = unused.next_event();
    assert_eq!(told.event_type, "fanfare-error");
    assert!(
        told.data.contains("registered with no channel"),
        "{}",
        told.data
    );
    assert_eq!(unused.wait_end(), End::Complete);
    node.wait_for_log("registered with no channel");

    // Who closes it has done something, and in production the client is not to know.
    let mut closed = node.listen("closed", json!([["upgrade"], ["close"]]));
    assert_eq!(closed.next_item(), Err(End::Complete));
    let node = flavour.configured("");
    let mut unused = node.listen("unused", json!([["upgrade"]]));
    assert_eq!(unused.next_item(), Err(End::Complete));
}

fn many_streams_hear_one_event(flavour: Flavour) {
    let node = flavour.start();
    let mut streams: Vec<_> = (0..50).map(|_| node.subscribe("news")).collect();
    let receipt = node.ask(json!(["publish", "news", "all"]));
    assert_eq!(receipt["delivered"], 50);
    for stream in &mut streams {
        assert_eq!(stream.next_event().data, "all");
    }
}
