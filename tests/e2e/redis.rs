//! Two nodes and a real Redis between them.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    redis::{Options, RedisServer},
    sse::Event,
    stream::Stream,
    tls::Certificates,
    wait,
};
use serde_json::{Value, json};

use crate::guests;

/// A node whose publisher goes over this URL.
fn relay(server: &RedisServer, url: &str) -> Setup {
    Node::config(&format!(
        "[redis]\ntimeout = '1s'\n\
         [apps.relay]\ncomponent = '{}'\n\
         capabilities.redis = ['{}']\n\
         variables.redis-url = {{ value = '{url}', secret = true }}\n",
        guests::RELAY,
        server.address()
    ))
}

/// Two nodes over one server.
fn pair(server: &RedisServer) -> [Node; 2] {
    [(); 2].map(|()| relay(server, &server.url()).start())
}

/// A node whose app may use Redis there, and whose publisher is in memory.
fn commands(granted: &[String]) -> Setup {
    Node::config(&format!(
        "[redis]\ntimeout = '1s'\n[apps.relay]\ncomponent = '{}'\ncapabilities.redis = {granted:?}\n",
        guests::RELAY
    ))
}

/// A stream that hears the channel from now on.
#[track_caller]
fn hear(node: &Node, channel: &str) -> Stream {
    let mut stream = node.events(&format!("/events?channel={channel}"));
    assert_eq!(stream.next_event().event_type, "hello");
    stream
}

fn publish(node: &Node, channel: &str, data: &str) -> Value {
    node.post(&format!("/publish/{channel}"), data).json()
}

/// Waits until this node publishes again.
fn wait_until_it_publishes(node: &Node) {
    wait::until_true("the node publishes", || publish(node, "whatever", "").get("id").is_some());
}

/// What a command to the server of this URL answers.
fn ask(node: &Node, url: &str, command: &[&str]) -> Value {
    let url = url.replace('%', "%25").replace('&', "%26").replace('#', "%23");
    node.post(&format!("/redis?url={url}"), json!(command).to_string()).json()
}

/// The case of an error, and what it says.
#[track_caller]
fn error(answer: &Value) -> (&str, &str) {
    let case = answer["error"].as_str().unwrap_or_else(|| panic!("no error: {answer}"));
    (case, answer["message"].as_str().expect("an error says something"))
}

// === Events ===

#[test]
fn all_connections_of_all_nodes_hear_everything_once_and_in_one_order() {
    const EACH: usize = 200;
    let server = RedisServer::start();
    let nodes = pair(&server);
    let mut streams: Vec<_> = nodes.iter().flat_map(|node| [hear(node, "c"), hear(node, "c")]).collect();

    let target = format!("/publish/c?count={EACH}");
    let ids: Vec<Value> = thread::scope(|scope| {
        let target = &target;
        let publish = |(node, name): (_, &'static str)| scope.spawn(move || Node::post(node, target, name).json());
        let publishers: Vec<_> = nodes.iter().zip(["a", "b"]).map(publish).collect();
        publishers.into_iter().map(|publisher| publisher.join().expect("it publishes")).collect()
    });
    for node in &nodes {
        publish(node, "c", "last");
    }

    let heard: Vec<Vec<Event>> =
        streams.iter_mut().map(|stream| (0..2 * EACH).map(|_| stream.next_event()).collect()).collect();
    for other in &heard[1..] {
        assert_eq!(*other, heard[0]);
    }
    for (name, ids) in ["a", "b"].iter().zip(&ids) {
        let of_one: Vec<_> = heard[0].iter().filter(|event| event.data.starts_with(name)).collect();
        assert_eq!(of_one.iter().map(|event| &*event.data).collect::<Vec<_>>(), (0..EACH).map(|index| format!("{name}{index}")).collect::<Vec<_>>());
        assert_eq!(json!(of_one.iter().map(|event| &*event.last_event_id).collect::<Vec<_>>()), *ids);
    }
    for stream in &mut streams {
        assert_eq!(stream.next_data(2), ["last", "last"], "nothing twice");
    }
}

#[test]
fn a_receipt_counts_the_connections_of_its_own_node() {
    let server = RedisServer::start();
    let [one, other] = pair(&server);
    let mut streams = [hear(&one, "c"), hear(&other, "c"), hear(&other, "c")];
    for (node, delivered) in [(&one, 1), (&other, 2)] {
        let receipt = node.post("/publish/c?id=x&type=greeting", "hello").json();
        // The second is the first, on whatever node.
        assert_eq!(receipt, json!({ "id": "x", "delivered": if delivered == 1 { 1 } else { 0 }, "duplicate": delivered == 2 }));
        let delivered_now = publish(node, "c", "more")["delivered"].clone();
        assert_eq!(delivered_now, delivered);
    }
    for stream in &mut streams {
        let event = stream.next_event();
        assert_eq!((&*event.event_type, &*event.data, &*event.last_event_id), ("greeting", "hello", "x"));
        assert_eq!(stream.next_data(2), ["more", "more"]);
    }
}

#[test]
fn a_client_that_goes_to_another_node_hears_what_it_missed() {
    let server = RedisServer::start();
    let [one, other] = pair(&server);
    let mut stream = hear(&one, "c");
    publish(&other, "c", "1");
    assert_eq!(stream.next_data(1), ["1"]);
    let last = stream.last_event_id().to_owned();
    stream.close();
    publish(&one, "c", "2");
    // With its own receipt, the event is in the history of its node; with that of the other, in both.
    publish(&other, "c", "3");
    let mut stream = other.open(&Request::events("/events?channel=c").last_event_id(&last));
    let heard = [stream.next_event(), stream.next_event(), stream.next_event()];
    let data: Vec<_> = heard.iter().filter(|event| event.event_type != "hello").map(|event| &*event.data).collect();
    assert_eq!(data, ["2", "3"]);
}

#[test]
fn a_node_that_is_killed_is_no_trouble_to_the_other() {
    let server = RedisServer::start();
    let [one, other] = pair(&server);
    let mut stream = hear(&other, "c");
    publish(&one, "c", "from one");
    drop(one);
    assert_eq!(publish(&other, "c", "from the other")["delivered"], 1);
    assert_eq!(stream.next_data(2), ["from one", "from the other"]);
    let one = relay(&server, &server.url()).start();
    publish(&one, "c", "from its successor");
    assert_eq!(stream.next_data(1), ["from its successor"]);
}

#[test]
fn people_chat_across_nodes() {
    let server = RedisServer::start();
    let chat = || {
        Node::serve(guests::CHAT).var("redis-url", &server.url()).arg("--allow-redis").arg(server.address()).start()
    };
    let nodes = [chat(), chat()];
    let mut streams: Vec<_> = nodes.iter().map(|node| node.events("/rooms/garden/events")).collect();
    // Both are in before anybody speaks.
    for stream in &mut streams {
        assert_eq!(stream.next_event().event_type, "count");
    }
    for (node, name) in nodes.iter().zip(["Ann", "Bob"]) {
        let said = json!({ "name": name, "text": "hello ☂" }).to_string();
        let answer = node.request(&Request::post("/rooms/garden", said.clone()).header("content-type", "application/json"));
        assert_eq!(answer.status(), 204);
        for stream in &mut streams {
            let mut event = stream.next_event();
            while event.event_type == "count" {
                event = stream.next_event();
            }
            assert_eq!(serde_json::from_str::<Value>(&event.data).unwrap(), serde_json::from_str::<Value>(&said).unwrap());
        }
    }
}

#[test]
fn a_broker_is_opened_by_its_label() {
    let server = RedisServer::start();
    let setup = |granted: &str| {
        Node::config(&format!(
            "[brokers.main]\ntype = 'redis'\nurl = '${{BROKER}}'\nsync-channel = 'fan'\n\
             [apps.relay]\ncomponent = '{}'\ncapabilities.brokers = [{granted}]\nvariables.broker = 'main'\n",
            guests::RELAY
        ))
        .env("BROKER", &server.url())
    };
    let nodes = [setup("'main'").start(), setup("'main'").start()];
    let mut stream = hear(&nodes[1], "c");
    publish(&nodes[0], "c", "hello");
    assert_eq!(stream.next_data(1), ["hello"]);
    assert_eq!(server.ask(&["PUBSUB", "CHANNELS"]), "fanfare:relay:fan");

    let refused = setup("").start_waiting();
    let line = refused.wait_for_log("`start` answered");
    assert!(line.contains("denied") && line.contains(r#"capabilities.brokers = ["main"]"#), "{line}");
}

// === TLS and logins ===

#[test]
fn events_cross_over_tls_with_user_and_password() {
    let certificates = Certificates::new();
    let server = RedisServer::start_with(Options { password: Some("of-default"), tls: Some(&certificates) });
    server.ask(&["ACL", "SETUSER", "ann", "on", ">s3cr:t/@", "~*", "&*", "+@all"]);
    let url = format!("rediss://ann:s3cr%3At%2F%40@{}", server.address());
    let secure = |url: &str, authority: bool| {
        let authority = authority.then(|| format!("ca-file = '{}'\n", certificates.authority().display()));
        Node::config(&format!(
            "[redis]\ntimeout = '1s'\n{}[apps.relay]\ncomponent = '{}'\ncapabilities.redis = ['{}']\n\
             variables.redis-url = {{ value = '{url}', secret = true }}\n",
            authority.unwrap_or_default(),
            guests::RELAY,
            server.address()
        ))
    };
    let nodes = [(); 2].map(|()| secure(&url, true).start());
    let mut streams = [hear(&nodes[0], "c"), hear(&nodes[1], "c")];
    for node in &nodes {
        publish(node, "c", "hello");
    }
    for stream in &mut streams {
        assert_eq!(stream.next_data(2), ["hello", "hello"]);
    }
    assert!(server.ask(&["CLIENT", "LIST"]).contains("user=ann"));

    // Who the server is, is not known without its authority; and who comes has to say so.
    let doubtful = secure(&url, false).start_waiting();
    let line = doubtful.wait_for_log("`start` answered");
    assert!(line.contains("unavailable"), "{line}");
    let stranger = secure(&url.replace("s3cr", "guess"), true).start_waiting();
    let line = stranger.wait_for_log("`start` answered");
    assert!(line.contains("denied") && line.contains("user and password"), "{line}");
    for node in [doubtful, stranger].iter().chain(&nodes) {
        let told = node.log().iter().any(|line| ["s3cr", "guess", "%3At"].iter().any(|word| line.contains(word)));
        assert!(!told, "a secret is in the log: {:?}", node.log());
    }
}

#[test]
fn what_is_wrong_with_a_connection_is_told() {
    let server = RedisServer::start_with(Options { password: Some("hunter2"), tls: None });
    let address = server.address();
    let mut gone = RedisServer::start();
    gone.stop();
    let node = commands(&[address.clone(), gone.address()]).start();

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
    for malformed in ["", "http://127.0.0.1:6379", "redis://", "redis://h:port", "redis://h/nine"] {
        assert_eq!(error(&ask(&node, malformed, &["address"])).0, "invalid", "{malformed:?}");
    }
    let answer = ask(&node, "redis://127.0.0.1:1", &["address"]);
    assert_eq!(error(&answer).0, "denied");
    assert!(error(&answer).1.contains(r#"capabilities.redis = ["127.0.0.1:1"]"#), "{answer}");
    for answer in [ask(&node, &format!("redis://:guess@{address}"), &["address"]), answer] {
        assert!(!answer.to_string().contains("guess"), "a password is in an error: {answer}");
    }
}

// === A server that goes away ===

#[test]
fn redis_may_go_away_and_come_back() {
    let mut server = RedisServer::start();
    let nodes = pair(&server);
    let mut streams = [hear(&nodes[0], "c"), hear(&nodes[1], "c")];
    publish(&nodes[0], "c", "before");

    server.stop();
    for node in &nodes {
        let begun = Instant::now();
        assert_eq!(error(&publish(node, "c", "meanwhile")).0, "unavailable");
        assert!(begun.elapsed() < Duration::from_secs(4), "in {:?}", begun.elapsed());
        assert_eq!(node.get("/presence/c").json(), 1, "subscribers stay");
    }
    server.restart();
    for node in &nodes {
        wait_until_it_publishes(node);
    }
    publish(&nodes[0], "c", "after");
    publish(&nodes[1], "c", "and on");
    for stream in &mut streams {
        assert_eq!(stream.next_data(3), ["before", "after", "and on"]);
    }
}

#[test]
fn a_redis_that_stands_still_is_unavailable() {
    let server = RedisServer::start();
    let [node, _] = pair(&server);
    let mut stream = hear(&node, "c");
    server.freeze(true);
    let begun = Instant::now();
    let answer = publish(&node, "c", "meanwhile");
    assert_eq!(error(&answer).0, "unavailable");
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&took), "a `redis.timeout` of 1s took {took:?}");
    server.freeze(false);
    wait_until_it_publishes(&node);
    publish(&node, "c", "after");
    // Whether the one that got no answer was taken, nobody knows.
    let heard = stream.next_data(1);
    assert!(heard == ["after"] || heard == ["meanwhile"] && stream.next_data(1) == ["after"], "{heard:?}");
}

#[test]
fn an_app_starts_as_soon_as_redis_is_there() {
    let mut server = RedisServer::start();
    server.stop();
    let node = relay(&server, &server.url()).start_waiting();
    assert!(node.wait_for_log("`start` answered").contains("unavailable"));
    assert_eq!(node.get("/readyz").status(), 503);
    assert_eq!(node.get("/presence/c").status(), 503);
    let turned_away = node.request(&Request::events("/events?channel=c"));
    assert_eq!(turned_away.status(), 200);
    assert!(turned_away.text().starts_with("retry:"), "{:?}", turned_away.text());

    server.restart();
    wait::until_true("the app serves", || node.get("/readyz").status() == 200);
    let mut stream = hear(&node, "c");
    assert_eq!(publish(&node, "c", "hello")["delivered"], 1);
    assert_eq!(stream.next_data(1), ["hello"]);
}

// === Commands ===

#[test]
fn guests_share_one_connection_for_each_address() {
    let server = RedisServer::start();
    let app = |name: &str| {
        format!("[apps.{name}]\ncomponent = '{}'\nroute = '/{name}'\ncapabilities.redis = ['{}']\n", guests::RELAY, server.address())
    };
    let node = Node::config(&(app("one") + &app("other"))).start();
    thread::scope(|scope| {
        for index in 0..20 {
            let target = format!("/{}/redis?url={}", ["one", "other"][index % 2], server.url());
            let node = &node;
            scope.spawn(move || assert!(node.post(&target, r#"["incr", "calls", "1"]"#).json().is_i64()));
        }
    });
    assert_eq!(server.ask(&["GET", "calls"]), "20");
    let clients = server.ask(&["CLIENT", "LIST"]);
    let others: Vec<_> = clients.lines().filter(|line| !line.contains("cmd=client")).collect();
    assert_eq!(others.len(), 1, "{clients}");
}

#[test]
fn guests_talk_to_redis() {
    let server = RedisServer::start();
    let node = commands(&[server.address()]).start();
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
    let (case, text) = (&ask(&["incr", "key", "1"])["error"], &ask(&["incr", "key", "1"])["message"]);
    assert_eq!(case, "other");
    assert!(text.as_str().is_some_and(|text| text.contains("not an integer")), "{text}");
    assert_eq!(ask(&["del", "key", "number", "nokey"]), 2);
    assert_eq!(ask(&["sadd", "set", "b", "a", "c", "a"]), 3);
    assert_eq!(ask(&["srem", "set", "c", "d"]), 1);
    assert_eq!(ask(&["smembers", "set"]), json!(["a", "b"]));
    assert_eq!(ask(&["publish", "nobody", "hears"]), 0);

    // Any command, and answers of any shape.
    assert_eq!(ask(&["execute", "PING"]), json!({ "status": "PONG" }));
    assert_eq!(ask(&["execute", "set", "a", "1"]), json!({ "status": "OK" }));
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
    let node = commands(&[server.address()]).start();
    let commands: [&[&str]; 7] = [
        &["SUBSCRIBE", "c"],
        &["subscribe", "c"],
        &["MULTI"],
        &["SELECT", "1"],
        &["BLPOP", "list", "0"],
        &["MONITOR"],
        &["QUIT"],
    ];
    let denied: HashSet<String> = commands
        .iter()
        .map(|command| {
            let answer = ask(&node, &server.url(), &[&["execute"], *command].concat());
            error(&answer).0.to_owned()
        })
        .collect();
    assert_eq!(denied, HashSet::from(["denied".to_owned()]));
    assert_eq!(ask(&node, &server.url(), &["execute", "PING"]), json!({ "status": "PONG" }));
}
