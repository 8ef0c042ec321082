//! `events`: what is no event is refused, and says why.

use serde_json::{Value, json};

use super::assert_refused;
use crate::{
    flavour::{Flavour, in_both_flavours},
    probe::{self, Probe},
};

in_both_flavours!(
    ids_that_break_a_stream_or_cost_a_preflight_are_refused,
    types_that_break_a_stream_are_refused,
    json_mistakes_are_named_by_line_and_column,
    data_over_the_limit_is_refused_and_the_limit_named,
    a_ready_made_event_beats_the_fields,
    a_message_with_neither_event_nor_data_is_refused,
);

fn publish(message: Value) -> Value {
    json!(["publish", "news", message])
}

fn ids_that_break_a_stream_or_cost_a_preflight_are_refused(flavour: Flavour) {
    let node = flavour.start();
    let long = "x".repeat(10_240);
    for (id, parts) in [
        (json!(""), ["empty", "leave it out"]),
        (json!({ "any": "" }), ["empty", "leave it out"]),
        (json!("a b"), ["`plain`", "`any`"]),
        (json!("a\nb"), ["`plain`", "'\\n'"]),
        (json!("größe"), ["`plain`", "'ö'"]),
        (json!("x".repeat(129)), ["128", "129"]),
        (json!(long), ["128", "10240"]),
        (json!({ "any": "a\nb" }), ["CR, LF or NUL", "'\\n'"]),
        (json!({ "any": "a\rb" }), ["CR, LF or NUL", "'\\r'"]),
        (json!({ "any": "a\0b" }), ["CR, LF or NUL", "'\\0'"]),
        (json!({ "any": long }), ["1024", "10240"]),
        (json!({ "any": "x".repeat(1025) }), ["1024", "1025"]),
    ] {
        assert_refused(
            &node,
            publish(json!({ "data": "x", "id": id })),
            "invalid",
            &parts,
        );
    }
}

fn types_that_break_a_stream_are_refused(flavour: Flavour) {
    let node = flavour.start();
    for (event_type, part) in [
        (json!("a\nb"), "'\\n'"),
        (json!("a\rb"), "'\\r'"),
        (json!("a\0b"), "'\\0'"),
        (json!("x".repeat(1025)), "1025"),
    ] {
        assert_refused(
            &node,
            publish(json!({ "data": "x", "type": event_type })),
            "invalid",
            &["event type", part],
        );
    }
    node.run(json!([publish(
        json!({ "data": "x", "type": "x".repeat(1024) })
    )]))
    .all_ok();
}

fn json_mistakes_are_named_by_line_and_column(flavour: Flavour) {
    let node = flavour.start();
    for (text, place) in [
        ("{\"a\": tru}", "line 1 column 10"),
        ("{\n  \"a\": 1,\n}", "line 3 column 1"),
        ("", "line 1 column 0"),
        ("1 2", "line 1 column 3"),
        ("{'a': 1}", "line 1 column 2"),
    ] {
        assert_refused(
            &node,
            publish(json!({ "data": { "json": text } })),
            "invalid",
            &["not JSON", place],
        );
    }
    let deep = json!({ "json": { "repeat": ["[", 500_000] } });
    assert_refused(
        &node,
        publish(json!({ "data": deep })),
        "invalid",
        &["not JSON", "line 1"],
    );
}

fn data_over_the_limit_is_refused_and_the_limit_named(flavour: Flavour) {
    let node =
        flavour.configured("[apps.probe.limits]\nevent-data = \"1KiB\"\nmemory = \"256MiB\"");
    for bytes in [1025, 50 << 20] {
        let message = json!({ "data": { "repeat": ["x", bytes] } });
        assert_refused(
            &node,
            publish(message),
            "limited",
            &["`event-data`", "1024", &bytes.to_string()],
        );
    }
    node.run(json!([publish(
        json!({ "data": { "repeat": ["x", 1024] } })
    )]))
    .all_ok();
    // Nothing of the refused is in the history.
    assert_eq!(
        node.ask(json!(["history", "news", 10]))
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

fn a_ready_made_event_beats_the_fields(flavour: Flavour) {
    let node = flavour.start();
    let mut stream = node.subscribe("news");
    let ready = json!({ "id": "ready", "type": "ready", "data": "ready" });
    node.run(json!([publish(
        json!({ "event": ready, "id": "field", "type": "field", "data": "field" })
    )]))
    .all_ok();
    assert_eq!(stream.next_event(), probe::event("ready", "ready", "ready"));
    // All of them, what the event leaves out as well, and those that would be refused.
    let receipt = node.ask(publish(
        json!({ "event": { "data": "bare" }, "id": "a b", "type": "a\nb" }),
    ));
    let id = receipt["id"].as_str().unwrap();
    assert_eq!(stream.next_event(), probe::event("message", "bare", id));
    assert_ne!(id, "a b");
}

fn a_message_with_neither_event_nor_data_is_refused(flavour: Flavour) {
    let node = flavour.start();
    assert_refused(&node, publish(json!({})), "invalid", &["neither", "data"]);
    assert_refused(
        &node,
        publish(json!({ "id": "a", "type": "b", "retry": 3 })),
        "invalid",
        &["neither", "data"],
    );
    node.run(json!([publish(json!({ "data": "" }))])).all_ok();
}
