//! Mistakes of form, which are told together: keys that are missing or not known, values of a wrong type.

use super::*;

#[test]
fn all_mistakes_of_form_are_told_in_the_order_of_the_file() {
    let all = mistakes(
        "[apps.b]\nroute = 7\ncomponent = \"b\"\nruote = \"/\"\ncolour = 1\n[apps.b.limits]\n\
         memory = \"1 stone\"\n[apps.a]\ncomponent = \"a\"\ncapabilities.redis = [\"*:1\", \"fine:1\", 3]\n\
         [listen]\naddress = \"localhost\"\n[node]\nshards = -1\n[apps.c]\n",
    );
    let starts = [
        "2:9: apps.b.route: expected text, found a number",
        "4:1: apps.b.ruote: not a known key",
        "5:1: apps.b.colour: not a known key",
        "7:10: apps.b.limits.memory: ",
        "10:23: apps.a.capabilities.redis[0]: ",
        "10:40: apps.a.capabilities.redis[2]: ",
        "12:11: listen.address: must be an IP address and a port",
        "14:10: node.shards: expected a whole number from 0",
        "15:1: apps.c: the key `component` is missing",
    ];
    assert_eq!(all.len(), starts.len(), "{all:#?}");
    for (said, start) in all.iter().zip(starts) {
        assert!(said.starts_with(start), "{said:?} is not {start:?}");
    }
}

#[test]
fn what_follows_from_a_mistake_is_not_told_as_another() {
    for text in [
        "[apps.a]\ncomponent = 7",
        "[apps.a]\ncomponnet = \"a.wasm\"",
        "[brokers.x]\ntype = \"rabbit\"\nurl = \"nats://h\"",
        "[brokers.x]\ntype = \"nats\"\nurl = 7\nsync-channel = \"s\"",
        "[brokers.x]\ntype = \"kafka\"\nservers = [\"h:1\"]\ntopic = 7",
        "[admin]\naddress = 9090",
    ] {
        mistake(text);
    }
    // The label is one, whatever is wrong with the broker.
    let all = mistakes(
        "[brokers.x]\ntype = 1\n[apps.a]\ncomponent = \"a\"\ncapabilities.brokers = [\"x\"]",
    );
    assert_eq!(all.len(), 1, "{all:#?}");
}

#[test]
fn mistakes_that_are_told_at_once_are_bounded() {
    let many: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
    assert_eq!(mistakes(&many).len(), 50);
}

#[test]
fn tables_have_single_brackets() {
    says(
        "\n[[apps.hello]]\ncomponent = \"a\"",
        "2:1: apps.hello: expected a table, found an array; write `[apps.hello]`",
    );
    says(
        "[[listen]]\naddress = \"127.0.0.1:80\"",
        "1:1: listen: expected a table, found an array; write `[listen]`",
    );
    says(
        "node = [true]",
        "1:8: node: expected a table, found an array; write `[node]`",
    );
    says(
        "[[brokers.x]]\ntype = \"memory\"\n[apps.a]\ncomponent = \"a\"",
        "1:1: brokers.x: expected a table, found an array; write `[brokers.x]`",
    );
}
