//! `connections`: the upgrade, and the handle to what it makes.

use fanfare_tests::{client::Request, stream::End};
use serde_json::json;

use crate::{
    flavour::{Flavour, in_both_flavours},
    probe::{self, Probe},
};

in_both_flavours!(
    a_connection_tells_of_itself,
    ids_of_connections_differ,
    a_request_is_upgraded_or_answered_once,
    malformed_options_are_refused_and_the_request_may_still_be_answered,
    nothing_reaches_a_closed_connection,
    what_is_sent_is_checked,
    past_the_limit_of_connections_clients_are_told_to_come_back,
    a_connection_hears_so_many_channels,
    any_method_may_be_upgraded,
    the_end_of_a_connection_is_waited_for,
    waiting_for_an_end_is_bounded,
);

fn a_connection_tells_of_itself(flavour: Flavour) {
    let node = flavour.start();
    let steps = json!([
        ["upgrade"],
        ["id"],
        ["is-open"],
        ["channels"],
        ["register", "b"],
        ["register", "a"],
        ["channels"],
        ["close"],
        ["is-open"],
        ["channels"],
    ]);
    let mut stream = node.listen("told", steps);
    assert_eq!(stream.wait_end(), End::Complete);
    let results = node.results("told");
    let id = results.ok(0)["id"].as_str().expect("an id");
    assert!(
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{id}"
    );
    assert_eq!(results.ok(1), id);
    assert_eq!(results.ok(2), true);
    assert_eq!(results.ok(3), &json!([]));
    assert_eq!(results.ok(6), &json!(["a", "b"]));
    assert_eq!(results.ok(8), false);
    assert_eq!(results.ok(9), &json!([]));
}

fn ids_of_connections_differ(flavour: Flavour) {
    let node = flavour.start();
    let mut ids: Vec<_> = (0..20)
        .map(|n| {
            node.listen(&n.to_string(), json!([["upgrade"]])).rest();
            node.connection(&n.to_string())
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

fn a_request_is_upgraded_or_answered_once(flavour: Flavour) {
    let node = flavour.start();
    let steps = json!([
        ["upgrade"],
        ["register", "news"],
        ["upgrade"],
        ["request.respond", {}],
        ["send", "still open"]
    ]);
    let mut stream = node.listen("twice", steps);
    assert_eq!(stream.next_event().data, "still open");
    let results = node.results("twice");
    for step in [2, 3] {
        let (case, text) = results.error(step);
        assert_eq!(case, "invalid");
        assert!(
            text.contains("upgraded to an event stream already"),
            "{text}"
        );
    }

    let answer = node.request(&probe::request(
        "answered",
        &json!([
            ["request.respond", {}],
            ["request.respond", {}],
            ["upgrade"]
        ]),
    ));
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    let results = node.results("answered");
    for step in [1, 2] {
        let (case, text) = results.error(step);
        assert_eq!(case, "invalid");
        assert!(text.contains("answered already"), "{text}");
    }
}

fn malformed_options_are_refused_and_the_request_may_still_be_answered(flavour: Flavour) {
    let node = flavour.start();
    for (options, parts) in [
        (json!({ "ping": 99 }), ["ping-interval", "99", "100"]),
        (
            json!({ "inactivity": 1 }),
            ["inactivity-timeout", "1", "100"],
        ),
        (
            json!({ "origins": ["example.org"] }),
            ["allowed-origins", "example.org", "http"],
        ),
        (
            json!({ "origins": ["https://example.org/path"] }),
            ["allowed-origins", "example.org/path", "/"],
        ),
        (
            json!({ "origins": ["https://*.example.org"] }),
            ["allowed-origins", "*.example.org", ""],
        ),
    ] {
        let results = node.run(json!([["upgrade", options], ["has", "publisher"]]));
        let (case, text) = results.error(0);
        assert_eq!(case, "invalid", "{options}: {text}");
        for part in parts {
            assert!(
                text.contains(part),
                "{options}: {part:?} is not in {text:?}"
            );
        }
        // The results came as the answer, so the request could be answered.
        assert_eq!(results.ok(1), true);
    }
}

fn nothing_reaches_a_closed_connection(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "gone",
        json!([
            ["upgrade"],
            ["register", "news"],
            ["close"],
            ["send", "late"],
            ["register", "news"],
            ["remove", "news"],
            ["publish", "news", "x"],
            ["subscribers", "news"],
        ]),
    );
    assert_eq!(stream.wait_end(), End::Complete);
    let results = node.results("gone");
    assert_eq!(results.error(3).0, "closed");
    assert_eq!(results.error(4).0, "closed");
    assert_eq!(results.error(5).0, "not-found");
    assert_eq!(results.ok(6)["delivered"], 0);
    assert_eq!(results.ok(7), 0);
}

fn what_is_sent_is_checked(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "checked",
        json!([
            ["upgrade"], ["register", "news"],
            ["send", { "data": "x", "id": "a b" }],
            ["send", { "data": { "json": "{" } }],
            ["send", { "data": { "repeat": ["x", 1_048_577] } }],
            ["send", "good"],
        ]),
    );
    assert_eq!(stream.next_event().data, "good");
    let results = node.results("checked");
    assert_eq!(
        [results.error(2).0, results.error(3).0, results.error(4).0],
        ["invalid", "invalid", "limited"]
    );
}

fn past_the_limit_of_connections_clients_are_told_to_come_back(flavour: Flavour) {
    let node = flavour
        .configured("[apps.probe.limits]\nconnections = 1\n[node]\nreconnect-within = \"3s\"");
    let first = node.listen("first", json!([["upgrade"], ["register", "news"]]));
    node.results("first").all_ok();

    let mut refused = node.listen("second", json!([["upgrade"]]));
    assert_eq!(refused.wait_end(), End::Complete);
    let retry: u64 = refused
        .text()
        .strip_prefix("retry: ")
        .and_then(|text| text.trim().parse().ok())
        .expect("a retry");
    assert!(retry < 3000, "{retry}");
    let results = node.results("second");
    let (case, text) = results.error(0);
    assert_eq!(case, "limited");
    assert!(
        text.contains("`connections`") && text.contains('1'),
        "{text}"
    );

    // One that does not ask for a stream gets a status.
    let plain = node.request(&probe::request("third", &json!([["upgrade"]])));
    assert_eq!(plain.status(), 503);
    assert!(
        plain
            .header("retry-after")
            .is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|s| (1..=3).contains(&s)))
    );

    // A place becomes free with the end of the first.
    first.close();
    node.disconnection(&node.connection("first"));
    let mut fourth = node.listen(
        "fourth",
        json!([["upgrade"], ["register", "news"], ["send", "registered"]]),
    );
    assert_eq!(fourth.next_event().data, "registered");
}

fn a_connection_hears_so_many_channels(flavour: Flavour) {
    let node = flavour.configured("[apps.probe.limits]\nchannels-per-connection = 2");
    let mut stream = node.listen(
        "many",
        json!([
            ["upgrade"],
            ["register", "a"],
            ["register", "b"],
            ["register", "c"],
            ["register", "a"],
            ["channels"],
            ["remove", "a"],
            ["register", "c"],
            ["channels"],
        ]),
    );
    let results = node.results("many");
    let (case, text) = results.error(3);
    assert_eq!(case, "limited");
    assert!(
        text.contains("`channels-per-connection`") && text.contains('2'),
        "{text}"
    );
    assert_eq!(results.ok(5), &json!(["a", "b"]));
    assert_eq!(results.ok(8), &json!(["b", "c"]));
    node.publish("c", "heard");
    assert_eq!(stream.next_event().data, "heard");
}

fn any_method_may_be_upgraded(flavour: Flavour) {
    let node = flavour.start();
    for method in ["GET", "POST", "PUT", "REPORT"] {
        let request = Request::new(
            method,
            &probe::target("", &json!([["upgrade"], ["send", "hello"]])),
        );
        assert_eq!(node.open(&request).next_event().data, "hello", "{method}");
    }
}

fn the_end_of_a_connection_is_waited_for(flavour: Flavour) {
    let node = flavour.start();
    let steps = json!([
        ["upgrade"],
        ["register", "news"],
        ["send", "hello"],
        ["closed"],
        ["closed", 0]
    ]);
    let mut left = node.listen("left", steps.clone());
    assert_eq!(left.next_event().data, "hello");
    left.close();
    // A second time it is known at once.
    for step in [3, 4] {
        assert_eq!(node.results("left").ok(step), "ClientGone");
    }

    let mut removed = node.listen("removed", steps);
    assert_eq!(removed.next_event().data, "hello");
    let id = node.connection("removed");
    node.run(json!([["remove", "news", id]])).all_ok();
    assert_eq!(node.results("removed").ok(3), "Closed");
    assert_eq!(removed.wait_end(), End::Complete);
}

fn waiting_for_an_end_is_bounded(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.listen(
        "open",
        json!([
            ["upgrade"],
            ["closed", 0],
            ["closed", 20],
            ["send", "still open"],
            ["closed", 60_000]
        ]),
    );
    assert_eq!(stream.next_event().data, "still open");
    stream.close();
    // Far sooner than the bound.
    let results = node.results("open");
    assert!(results.ok(1).is_null() && results.ok(2).is_null());
    assert_eq!(results.ok(4), "ClientGone");
}
