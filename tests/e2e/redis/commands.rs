//! What guests ask Redis, and what they are not let.

use std::thread;

use fanfare_tests::{
    node::{Node, Setup},
    servers::redis::{Options, RedisServer},
};
use serde_json::{Value, json};

use super::error;
use crate::guests;

/// A node whose app may use Redis there, and whose publisher is in memory.
fn relay(granted: &[String]) -> Setup {
    Node::config(&format!(
        "[redis]\ntimeout = '5s'\n[apps.relay]\ncomponent = '{}'\ncapabilities.redis = {granted:?}\n",
        guests::RELAY
    ))
}

/// What a command to the server of this URL answers.
fn ask(node: &Node, url: &str, command: &[&str]) -> Value {
    let url = url
        .replace('%', "%25")
        .replace('&', "%26")
        .replace('#', "%23");
    node.post(&format!("/redis?url={url}"), json!(command).to_string())
        .json()
}

#[test]
fn what_is_wrong_with_a_connection_is_told() {
    let server = RedisServer::start_with(Options {
        password: Some("hunter2"),
        tls: None,
        ..Options::default()
    });
    let address = server.address();
    let mut gone = RedisServer::start();
    gone.stop();
    let node = relay(&[address.clone(), gone.address()]).start();

    assert_eq!(ask(&node, &server.url(), &["address"]), json!(address));
    let answer = ask(&node, &format!("redis://:guess@{address}"), &["address"]);
    assert_eq!(error(&answer).0, "denied");
    assert!(error(&answer).1.contains("user and password"), "{answer}");
    let answer = ask(&node, &format!("redis://{address}"), &["get", "key"]);
    assert_eq!(error(&answer).0, "denied");
    assert!(error(&answer).1.contains("password"), "{answer}");
    let answer = ask(&node, &gone.url(), &["address"]);
    assert_eq!(error(&answer).0, "unavailable");
    assert!(error(&answer).1.contains(&gone.address()), "{answer}");
    for malformed in [
        "",
        "http://127.0.0.1:6379",
        "redis://",
        "redis://h:port",
        "redis://h/nine",
    ] {
        assert_eq!(
            error(&ask(&node, malformed, &["address"])).0,
            "invalid",
            "{malformed:?}"
        );
    }
    let answer = ask(&node, "redis://127.0.0.1:1", &["address"]);
    assert_eq!(error(&answer).0, "denied");
    assert!(
        error(&answer)
            .1
            .contains(r#"capabilities.redis = ["127.0.0.1:1"]"#),
        "{answer}"
    );
    for answer in [
        ask(&node, &format!("redis://:guess@{address}"), &["address"]),
        answer,
    ] {
        assert!(
            !answer.to_string().contains("guess"),
            "a password is in an error: {answer}"
        );
    }
}

#[test]
fn guests_share_one_connection_for_each_address() {
    let server = RedisServer::start();
    let app = |name: &str| {
        format!(
            "[apps.{name}]\ncomponent = '{}'\nroute = '/{name}'\ncapabilities.redis = ['{}']\n",
            guests::RELAY,
            server.address()
        )
    };
    let node = Node::config(&(app("one") + &app("other"))).start();
    thread::scope(|scope| {
        for index in 0..20 {
            let target = format!(
                "/{}/redis?url={}",
                ["one", "other"][index % 2],
                server.url()
            );
            let node = &node;
            scope.spawn(move || {
                assert!(
                    node.post(&target, r#"["incr", "calls", "1"]"#)
                        .json()
                        .is_i64()
                )
            });
        }
    });
    assert_eq!(server.ask(&["GET", "calls"]), "20");
    let clients = server.ask(&["CLIENT", "LIST"]);
    let others: Vec<_> = clients
        .lines()
        .filter(|line| !line.contains("cmd=client"))
        .collect();
    assert_eq!(others.len(), 1, "{clients}");
}

#[test]
fn guests_talk_to_redis() {
    let server = RedisServer::start();
    let node = relay(&[server.address()]).start();
    let ask = |command: &[&str]| ask(&node, &server.url(), command);

    assert_eq!(ask(&["get", "key"]), Value::Null);
    assert_eq!(ask(&["set", "key", "wörd\r\n☂"]), Value::Null);
    assert_eq!(ask(&["get", "key"]), "wörd\r\n☂");
    assert_eq!(ask(&["exists", "key"]), true);
    assert_eq!(ask(&["expire", "key", "60000"]), true);
    assert_eq!(ask(&["expire", "nokey", "60000"]), false);
    assert_eq!(ask(&["set-for", "brief", "x", "60000"]), Value::Null);
    for key in ["key", "brief"] {
        let left: u64 = server.ask(&["PTTL", key]).parse().expect("a number");
        assert!((1..=60_000).contains(&left), "{key}: {left}");
    }
    assert_eq!(ask(&["incr", "number", "41"]), 41);
    assert_eq!(ask(&["incr", "number", "-1"]), 40);
    let answer = ask(&["incr", "key", "1"]);
    assert_eq!(error(&answer).0, "other");
    assert!(error(&answer).1.contains("not an integer"), "{answer}");
    assert_eq!(ask(&["del", "key", "number", "nokey"]), 2);
    assert_eq!(ask(&["sadd", "set", "b", "a", "c", "a"]), 3);
    assert_eq!(ask(&["srem", "set", "c", "d"]), 1);
    assert_eq!(ask(&["smembers", "set"]), json!(["a", "b"]));
    assert_eq!(ask(&["publish", "nobody", "hears"]), 0);

    // Any command, and answers of any shape.
    assert_eq!(ask(&["execute", "PING"]), json!({ "status": "PONG" }));
    assert_eq!(
        ask(&["execute", "set", "a", "1"]),
        json!({ "status": "OK" })
    );
    assert_eq!(ask(&["execute", "MGET", "a", "nokey"]), json!(["1", null]));
    assert_eq!(ask(&["execute", "HSET", "map", "k", "v"]), 1);
    assert_eq!(ask(&["execute", "HGETALL", "map"]), json!(["k", "v"]));
    let script = "return {1, {'two', {}, {3, {ok = 'four'}}}, {err = 'FIVE six'}, false}";
    assert_eq!(
        ask(&["execute", "EVAL", script, "0"]),
        json!([1, ["two", [], [3, { "status": "four" }]], { "error": "FIVE six" }, null])
    );
    assert_eq!(error(&ask(&["execute", "NOSUCHCOMMAND"])).0, "other");
}

#[test]
fn commands_that_would_harm_others_are_denied() {
    let server = RedisServer::start();
    let node = relay(&[server.address()]).start();
    let commands: [&[&str]; 7] = [
        &["SUBSCRIBE", "c"],
        &["subscribe", "c"],
        &["MULTI"],
        &["SELECT", "1"],
        &["BLPOP", "list", "0"],
        &["MONITOR"],
        &["QUIT"],
    ];
    for command in commands {
        let answer = ask(&node, &server.url(), &[&["execute"], command].concat());
        assert_eq!(error(&answer).0, "denied", "{command:?}");
    }
    assert_eq!(
        ask(&node, &server.url(), &["execute", "PING"]),
        json!({ "status": "PONG" })
    );
}
