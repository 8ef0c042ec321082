//! `publishers` and `publishing`.

use serde_json::json;

use super::assert_refused;
use crate::{
    flavour::{Flavour, in_both_flavours},
    probe::Probe,
};

in_both_flavours!(
    before_its_start_a_publisher_does_nothing_and_says_so,
    handles_made_in_the_same_way_lead_to_the_same_publisher,
    a_broker_is_opened_by_its_label_where_it_was_granted,
    redis_is_out_of_reach_without_a_grant,
    names_of_channels_are_checked,
    removing_what_is_not_there_is_not_found,
    who_hears_a_channel_is_counted_and_named,
    the_history_gives_the_newest_events_as_they_were_published,
    a_receipt_tells_the_id_and_how_many_it_went_to,
);

fn before_its_start_a_publisher_does_nothing_and_says_so(flavour: Flavour) {
    let node = flavour.configured(
        "[apps.probe.variables]\nstart = '[[\"in-memory\"], [\"set-publisher\", \"publisher\"]]'",
    );
    for step in [
        json!(["publish", "news", "x"]),
        json!(["remove", "news", "nobody"]),
        json!(["subscribers", "news"]),
        json!(["presence", "news"]),
        json!(["history", "news", 1]),
    ] {
        assert_refused(&node, step, "not-started", &["in-memory", "`start`"]);
    }
    let mut stream = node.listen("unstarted", json!([["upgrade"], ["register", "news"]]));
    stream.wait_end();
    assert_eq!(node.results("unstarted").error(1).0, "not-started");

    // Starting is idempotent.
    node.run(json!([["start"], ["start"], ["publish", "news", "x"]]))
        .all_ok();
}

fn handles_made_in_the_same_way_lead_to_the_same_publisher(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.subscribe("news");
    let results = node.run(json!([
        ["in-memory"],
        ["publish", "news", "x"],
        ["subscribers", "news"]
    ]));
    assert_eq!(results.ok(1)["delivered"], 1);
    assert_eq!(results.ok(2), 1);
    assert_eq!(stream.next_event().data, "x");
}

fn a_broker_is_opened_by_its_label_where_it_was_granted(flavour: Flavour) {
    let node = flavour.configured(
        "[apps.probe.capabilities]\nbrokers = [\"local\", \"second\"]\n\
         [brokers.local]\ntype = \"memory\"\n[brokers.second]\ntype = \"memory\"\n[brokers.secret]\ntype = \"memory\"",
    );
    assert_refused(
        &node,
        json!(["open", "secret"]),
        "denied",
        &["\"secret\"", "capabilities.brokers"],
    );
    assert_refused(
        &node,
        json!(["open", "nowhere"]),
        "denied",
        &["\"nowhere\"", "capabilities.brokers"],
    );
    let results = node.run(json!([["open", "local"], ["publish", "news", "x"]]));
    assert_eq!(results.error(1).0, "not-started");
    node.run(json!([
        ["open", "local"],
        ["start"],
        ["open", "second"],
        ["start"]
    ]))
    .all_ok();

    // Each publisher has channels of its own.
    let mut stream = node.listen(
        "local",
        json!([
            ["open", "local"],
            ["upgrade"],
            ["register", "news"],
            ["send", "registered"]
        ]),
    );
    stream.next_event();
    let results = node.run(json!([
        ["publish", "news", "in memory"],
        ["open", "second"],
        ["publish", "news", "second"],
        ["open", "local"],
        ["publish", "news", "local"],
        ["history", "news", 10],
    ]));
    assert_eq!(results.ok(0)["delivered"], 0);
    assert_eq!(results.ok(2)["delivered"], 0);
    assert_eq!(results.ok(4)["delivered"], 1);
    assert_eq!(results.ok(5).as_array().map(Vec::len), Some(1));
    assert_eq!(stream.next_event().data, "local");
}

fn redis_is_out_of_reach_without_a_grant(flavour: Flavour) {
    let node = flavour.start();
    assert_refused(
        &node,
        json!(["connect-redis", "redis://127.0.0.1:1"]),
        "denied",
        &["127.0.0.1:1", "capabilities.redis", "--allow-redis"],
    );
    assert_refused(
        &node,
        json!(["connect-redis", "http://127.0.0.1"]),
        "invalid",
        &["redis://"],
    );
}

fn names_of_channels_are_checked(flavour: Flavour) {
    let node = flavour.start();
    let long = "ä".repeat(128);
    for (name, part) in [
        ("", "empty"),
        (long.as_str(), "256"),
        ("a\nb", "'\\n'"),
        ("\u{7f}", "control"),
        ("a\0", "control"),
    ] {
        for step in [
            json!(["publish", name, "x"]),
            json!(["remove", name, "nobody"]),
            json!(["subscribers", name]),
            json!(["presence", name]),
            json!(["history", name, 1]),
        ] {
            assert_refused(&node, step, "invalid", &["channel name", part]);
        }
    }
    let mut stream = node.listen(
        "names",
        json!([
            ["upgrade"],
            ["register", ""],
            ["register", long],
            ["register", "x".repeat(255)],
            ["register", "raum 1/größe ☂"],
            ["send", "end"]
        ]),
    );
    stream.next_event();
    let results = node.results("names");
    assert_eq!(
        [results.error(1).0, results.error(2).0],
        ["invalid", "invalid"]
    );
    results.ok(3);
    node.publish("raum 1/größe ☂", "heard");
    assert_eq!(stream.next_event().data, "heard");
}

fn removing_what_is_not_there_is_not_found(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "here",
        json!([["upgrade"], ["register", "news"], ["send", "registered"]]),
    );
    stream.next_event();
    let id = node.connection("here");
    assert_refused(
        &node,
        json!(["remove", "news", "nobody"]),
        "not-found",
        &["\"nobody\""],
    );
    assert_refused(
        &node,
        json!(["remove", "other", &id]),
        "not-found",
        &[&id, "\"other\""],
    );
    node.run(json!([["remove", "news", &id]])).all_ok();
    assert_refused(&node, json!(["remove", "news", &id]), "not-found", &[&id]);
    stream.wait_end();
}

fn who_hears_a_channel_is_counted_and_named(flavour: Flavour) {
    let node = flavour.start();
    assert_eq!(node.ask(json!(["subscribers", "news"])), 0);
    assert_eq!(node.ask(json!(["presence", "news"])), json!([]));
    let _streams: Vec<_> = (0..3)
        .map(|n| {
            let mut stream = node.listen(
                &n.to_string(),
                json!([["upgrade"], ["register", "news"], ["send", "registered"]]),
            );
            stream.next_event();
            stream
        })
        .collect();
    let mut ids: Vec<_> = (0..3).map(|n| node.connection(&n.to_string())).collect();
    ids.sort();
    assert_eq!(node.ask(json!(["subscribers", "news"])), 3);
    assert_eq!(node.ask(json!(["presence", "news"])), json!(ids));
}

fn the_history_gives_the_newest_events_as_they_were_published(flavour: Flavour) {
    let node = flavour.configured("[apps.probe.history]\nevents = 3");
    let events = [
        json!({ "id": "one", "type": "t", "data": "a\nb", "retry": 7 }),
        json!({ "id": { "any": "zwei ☂" }, "type": null, "data": { "json": "{\"a\": 1}" }, "retry": null }),
        json!({ "id": "three", "type": null, "data": "", "retry": null }),
        json!({ "id": "four", "type": null, "data": "4", "retry": null }),
    ];
    assert_eq!(node.ask(json!(["history", "news", 10])), json!([]));
    node.run(json!([
        ["publish", "news", &events[0]],
        ["publish", "news", &events[1]]
    ]))
    .all_ok();
    assert_eq!(node.ask(json!(["history", "news", 10])), json!(events[..2]));
    node.run(json!([
        ["publish", "news", &events[2]],
        ["publish", "news", &events[3]]
    ]))
    .all_ok();
    assert_eq!(node.ask(json!(["history", "news", 10])), json!(events[1..]));
    assert_eq!(node.ask(json!(["history", "news", 2])), json!(events[2..]));
    assert_eq!(node.ask(json!(["history", "news", 0])), json!([]));
    assert_eq!(node.ask(json!(["history", "other", 10])), json!([]));
}

fn a_receipt_tells_the_id_and_how_many_it_went_to(flavour: Flavour) {
    let node = flavour.start();
    let _streams = [node.subscribe("news"), node.subscribe("news")];
    let first = node.ask(json!(["publish", "news", "x"]));
    let second = node.ask(json!(["publish", "news", "x"]));
    assert_eq!(
        (&first["delivered"], &first["duplicate"]),
        (&json!(2), &json!(false))
    );
    assert_ne!(first["id"], second["id"]);
    let own = node.ask(json!(["publish", "news", { "id": "own", "data": "x" }]));
    assert_eq!(
        own,
        json!({ "id": "own", "delivered": 2, "duplicate": false })
    );
}
