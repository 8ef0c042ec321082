//! `registry`, and `wasi:config/store`.

use serde_json::json;

use super::assert_refused;
use crate::{
    flavour::{Flavour, in_both_flavours},
    probe::Probe,
};
use fanfare_tests::node::Node;

in_both_flavours!(
    values_outlive_the_call_that_set_them,
    setting_replaces_a_value_of_any_kind_and_removing_tells_whether_there_was_one,
    the_wrong_kind_is_refused_and_both_kinds_are_named,
    names_are_checked,
    limits_are_named_and_a_refused_value_changes_nothing,
    apps_share_nothing,
    variables_are_read,
    nothing_else_of_the_machine_is_there,
);

fn values_outlive_the_call_that_set_them(flavour: Flavour) {
    let node = flavour.start();
    node.run(json!([
        ["set-text", "motto", "größe ☂"],
        ["set-bytes", "raw", "\u{0}\u{7f}"],
        ["set-text", "empty", ""]
    ]))
    .all_ok();
    let results = node.run(json!([
        ["get-text", "motto"],
        ["get-bytes", "raw"],
        ["get-text", "empty"],
        ["get-publisher", "publisher"],
        ["has", "motto"],
        ["has", "moto"],
        ["kind", "motto"],
        ["kind", "raw"],
        ["kind", "publisher"],
        ["kind", "moto"],
        ["keys"],
    ]));
    let values: Vec<_> = results.all_ok().into_iter().cloned().collect();
    assert_eq!(
        json!(values),
        json!([
            "größe ☂",
            "\\x00\\x7f",
            "",
            null,
            true,
            false,
            "Text",
            "Bytes",
            "Publisher",
            null,
            ["empty", "motto", "publisher", "raw"],
        ])
    );
}

fn setting_replaces_a_value_of_any_kind_and_removing_tells_whether_there_was_one(flavour: Flavour) {
    let node = flavour.start();
    let results = node.run(json!([
        ["set-text", "a", "1"],
        ["set-bytes", "a", "2"],
        ["kind", "a"],
        ["set-publisher", "a"],
        ["kind", "a"],
        ["unset", "a"],
        ["unset", "a"],
        ["has", "a"],
    ]));
    assert_eq!(results.ok(2), "Bytes");
    assert_eq!(results.ok(4), "Publisher");
    assert_eq!(
        (results.ok(5), results.ok(6), results.ok(7)),
        (&json!(true), &json!(false), &json!(false))
    );
}

fn the_wrong_kind_is_refused_and_both_kinds_are_named(flavour: Flavour) {
    let node = flavour.start();
    node.run(json!([
        ["set-text", "text", "x"],
        ["set-bytes", "bytes", "x"]
    ]))
    .all_ok();
    let names = [
        ("text", "a text"),
        ("bytes", "bytes"),
        ("publisher", "a publisher"),
    ];
    let getters = [
        ("get-text", "a text"),
        ("get-bytes", "bytes"),
        ("get-publisher", "a publisher"),
        ("get-redis", "a Redis client"),
    ];
    for (name, found) in names {
        for (getter, asked) in getters.iter().filter(|(_, asked)| *asked != found) {
            let sentence = format!("{name:?} in the registry is {found}, not {asked}");
            assert_refused(&node, json!([getter, name]), "wrong-type", &[&sentence]);
        }
    }
    for (getter, _) in getters {
        assert_refused(
            &node,
            json!([getter, "nothing"]),
            "not-found",
            &["\"nothing\""],
        );
    }
}

fn names_are_checked(flavour: Flavour) {
    let node = flavour.start();
    for name in ["", "a\nb", &"x".repeat(256)] {
        for setter in ["set-text", "set-bytes"] {
            assert_refused(
                &node,
                json!([setter, name, "x"]),
                "invalid",
                &["1 to 255 bytes"],
            );
        }
        assert_refused(
            &node,
            json!(["set-publisher", name]),
            "invalid",
            &["1 to 255 bytes"],
        );
    }
    assert_eq!(node.ask(json!(["keys"])), json!(["publisher"]));
    node.run(json!([["set-text", "x".repeat(255), "x"]]))
        .all_ok();
}

fn limits_are_named_and_a_refused_value_changes_nothing(flavour: Flavour) {
    let node =
        flavour.configured("[apps.probe.limits]\nregistry-entries = 3\nregistry-bytes = \"1KiB\"");
    // The publisher is one of the three.
    node.run(json!([["set-text", "a", "old"], ["set-text", "b", ""]]))
        .all_ok();
    assert_refused(
        &node,
        json!(["set-text", "c", ""]),
        "limited",
        &["`registry-entries`", "3"],
    );
    let large = json!({ "repeat": ["x", 1000] });
    assert_refused(
        &node,
        json!(["set-text", "a", large]),
        "limited",
        &["`registry-bytes`", "1024"],
    );
    assert_refused(
        &node,
        json!(["set-bytes", "a", large]),
        "limited",
        &["`registry-bytes`", "1024"],
    );
    assert_eq!(node.ask(json!(["get-text", "a"])), "old");
    node.run(json!([
        ["set-text", "a", "new"],
        ["unset", "b"],
        ["set-text", "c", ""]
    ]))
    .all_ok();
}

fn apps_share_nothing(flavour: Flavour) {
    let node = Node::config(&format!(
        "[apps.one]\ncomponent = {0:?}\nroute = \"/one\"\n[apps.two]\ncomponent = {0:?}\nroute = \"/two\"",
        flavour.probe()
    ))
    .start();
    let run = |app: &str, steps: serde_json::Value| {
        node.post(&format!("/{app}/run"), steps.to_string()).json()
    };
    run(
        "one",
        json!([["set-text", "a", "x"], ["publish", "news", "x"]]),
    );
    assert_eq!(
        run("one", json!([["keys"]]))[0]["ok"],
        json!(["a", "publisher"])
    );
    assert_eq!(run("two", json!([["keys"]]))[0]["ok"], json!(["publisher"]));
    assert_eq!(
        run("two", json!([["history", "news", 10]]))[0]["ok"],
        json!([])
    );
}

fn variables_are_read(flavour: Flavour) {
    let node = Node::serve(flavour.probe())
        .var("greeting", "hello = \"world\"")
        .var("empty", "")
        .start();
    let results = node.run(json!([
        ["config", "greeting"],
        ["config", "empty"],
        ["config", "nothing"],
        ["config-all"]
    ]));
    let values: Vec<_> = results.all_ok().into_iter().cloned().collect();
    let all = json!([["empty", ""], ["greeting", "hello = \"world\""]]);
    assert_eq!(json!(values), json!(["hello = \"world\"", "", null, all]));
}

fn nothing_else_of_the_machine_is_there(flavour: Flavour) {
    let node = Node::serve(flavour.probe())
        .env("SECRET_OF_THE_HOST", "x")
        .start();
    let results = node.run(json!([
        ["environment"],
        ["read-file", "/etc/hostname"],
        ["read-file", "fanfare.toml"],
        ["connect-tcp", node.address.to_string()],
    ]));
    assert_eq!(results.ok(0), &json!([]));
    for step in 1..4 {
        results.error(step);
    }
}
