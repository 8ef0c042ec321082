//! Two nodes and a real Redis between them.

mod commands;

use std::{
    thread,
    time::{Duration, Instant},
};

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    servers::redis::{Options, RedisServer},
    sse::Event,
    stream::Stream,
    tls::Certificates,
    wait,
};
use serde_json::{Value, json};

use crate::guests;

/// A node whose publisher goes over this URL.
fn relay(server: &RedisServer, url: &str) -> Setup {
    relay_within(server, url, "5s")
}

/// The same, whose Redis has to answer within this time.
fn relay_within(server: &RedisServer, url: &str, timeout: &str) -> Setup {
    Node::config(&format!(
        "[redis]\ntimeout = '{timeout}'\n\
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

/// So many connections of the node were delivered to; nobody waits for that for longer than a second.
#[track_caller]
fn assert_delivered(receipt: &Value, connections: u64, begun: Instant) {
    let late = begun.elapsed() >= Duration::from_secs(1);
    assert!(receipt["delivered"] == connections || late, "{receipt}");
}

/// Waits until this node publishes again.
fn wait_until_it_publishes(node: &Node) {
    wait::until_true("the node publishes", || {
        publish(node, "whatever", "").get("id").is_some()
    });
}

/// The case of an error, and what it says.
#[track_caller]
fn error(answer: &Value) -> (&str, &str) {
    let case = answer["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no error: {answer}"));
    (
        case,
        answer["message"].as_str().expect("an error says something"),
    )
}

// === Events ===

#[test]
fn all_connections_of_all_nodes_hear_everything_once_and_in_one_order() {
    const EACH: usize = 200;
    let server = RedisServer::start();
    let nodes = pair(&server);
    let mut streams: Vec<_> = nodes
        .iter()
        .flat_map(|node| [hear(node, "c"), hear(node, "c")])
        .collect();

    let target = format!("/publish/c?count={EACH}");
    let ids: Vec<Value> = thread::scope(|scope| {
        let target = &target;
        let publish = |(node, name): (_, &'static str)| {
            scope.spawn(move || Node::post(node, target, name).json())
        };
        let publishers: Vec<_> = nodes.iter().zip(["a", "b"]).map(publish).collect();
        publishers
            .into_iter()
            .map(|publisher| publisher.join().expect("it publishes"))
            .collect()
    });
    for node in &nodes {
        publish(node, "c", "last");
    }

    let heard: Vec<Vec<Event>> = streams
        .iter_mut()
        .map(|stream| (0..2 * EACH).map(|_| stream.next_event()).collect())
        .collect();
    for other in &heard[1..] {
        let pairs = heard[0].iter().zip(other);
        assert_eq!(
            pairs.into_iter().find(|(one, other)| one != other),
            None,
            "the order is another"
        );
    }
    for (name, ids) in ["a", "b"].iter().zip(&ids) {
        let of_one: Vec<_> = heard[0]
            .iter()
            .filter(|event| event.data.starts_with(name))
            .collect();
        assert_eq!(
            of_one.iter().map(|event| &*event.data).collect::<Vec<_>>(),
            (0..EACH)
                .map(|index| format!("{name}{index}"))
                .collect::<Vec<_>>()
        );
        assert_eq!(
            json!(
                of_one
                    .iter()
                    .map(|event| &*event.last_event_id)
                    .collect::<Vec<_>>()
            ),
            *ids
        );
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
        let begun = Instant::now();
        let receipt = node.post("/publish/c?id=x&type=greeting", "hello").json();
        // The second is the first, on whatever node.
        let first = delivered == 1;
        assert_eq!(receipt["id"], "x");
        assert_eq!(receipt["duplicate"], !first);
        assert_delivered(&receipt, u64::from(first), begun);
        let begun = Instant::now();
        assert_delivered(&publish(node, "c", "more"), delivered, begun);
    }
    for stream in &mut streams {
        let event = stream.next_event();
        assert_eq!(
            (&*event.event_type, &*event.data, &*event.last_event_id),
            ("greeting", "hello", "x")
        );
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
    // Its node has heard it when it is published, and what was published before it, too.
    publish(&other, "c", "3");
    let mut stream = other.open(&Request::events("/events?channel=c").last_event_id(&last));
    let heard = [
        stream.next_event(),
        stream.next_event(),
        stream.next_event(),
    ];
    let data: Vec<_> = heard
        .iter()
        .filter(|event| event.event_type != "hello")
        .map(|event| &*event.data)
        .collect();
    assert_eq!(data, ["2", "3"]);
}

#[test]
fn what_redis_keeps_while_it_is_away_is_no_gap() {
    let mut server = RedisServer::start_with(Options {
        persistent: true,
        ..Options::default()
    });
    let nodes = pair(&server);
    let mut streams = [hear(&nodes[0], "c"), hear(&nodes[1], "c")];
    publish(&nodes[0], "c", "before");
    server.stop();
    server.restart();
    for node in &nodes {
        wait_until_it_publishes(node);
    }
    publish(&nodes[1], "c", "after");
    for stream in &mut streams {
        assert_eq!(stream.next_data(2), ["before", "after"]);
    }
}

#[test]
fn a_node_that_is_killed_is_no_trouble_to_the_other() {
    let server = RedisServer::start();
    let [one, other] = pair(&server);
    let mut stream = hear(&other, "c");
    publish(&one, "c", "from one");
    drop(one);
    let begun = Instant::now();
    assert_delivered(&publish(&other, "c", "from the other"), 1, begun);
    assert_eq!(stream.next_data(2), ["from one", "from the other"]);
    let one = relay(&server, &server.url()).start();
    publish(&one, "c", "from its successor");
    assert_eq!(stream.next_data(1), ["from its successor"]);
}

#[test]
fn people_chat_across_nodes() {
    let server = RedisServer::start();
    let chat = || {
        Node::serve(guests::CHAT)
            .var("redis-url", &server.url())
            .arg("--allow-redis")
            .arg(server.address())
            .start()
    };
    let nodes = [chat(), chat()];
    // Who comes with an id that nobody knows is told of a gap as soon as it hears the room.
    let enter = |node: &Node| {
        let mut stream =
            node.open(&Request::events("/rooms/garden/events").last_event_id("unknown"));
        assert_eq!(stream.next_event().event_type, "fanfare-gap");
        stream
    };
    let mut streams = [enter(&nodes[0]), enter(&nodes[1])];
    for (node, name) in nodes.iter().zip(["Ann", "Bob"]) {
        let said = json!({ "name": name, "text": "hello ☂" });
        let answer = node.request(
            &Request::post("/rooms/garden", said.to_string())
                .header("content-type", "application/json"),
        );
        assert_eq!(answer.status(), 204);
        for stream in &mut streams {
            let heard = stream.next_event().data;
            assert_eq!(serde_json::from_str::<Value>(&heard).expect("JSON"), said);
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
    let pushed = server.ask(&["PUBSUB", "CHANNELS"]);
    assert!(pushed.contains("{fanfare:relay:fan}:p:c"), "{pushed}");

    let refused = setup("").start_waiting();
    let line = refused.wait_for_log("`start` answered");
    assert!(
        line.contains("denied") && line.contains(r#"capabilities.brokers = ["main"]"#),
        "{line}"
    );
}

// === TLS and logins ===

#[test]
fn events_cross_over_tls_with_user_and_password() {
    let certificates = Certificates::new();
    let server = RedisServer::start_with(Options {
        password: Some("of-default"),
        tls: Some(&certificates),
        ..Options::default()
    });
    server.ask(&[
        "ACL",
        "SETUSER",
        "ann",
        "on",
        ">s3cr:t/@",
        // As `docs/deploying.md` says.
        "~{fanfare:relay:*",
        "&{fanfare:relay:*",
        "+@read",
        "+@write",
        "+@pubsub",
        "+@scripting",
        "+@connection",
        "+info",
        "+time",
    ]);
    let url = format!("rediss://ann:s3cr%3At%2F%40@{}", server.address());
    let secure = |url: &str, authority: bool| {
        let authority =
            authority.then(|| format!("ca-file = '{}'\n", certificates.authority().display()));
        Node::config(&format!(
            "[redis]\ntimeout = '5s'\n{}[apps.relay]\ncomponent = '{}'\ncapabilities.redis = ['{}']\n\
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
    assert!(
        line.contains("denied") && line.contains("user and password"),
        "{line}"
    );
    for node in [doubtful, stranger].iter().chain(&nodes) {
        let told = node.log().iter().any(|line| {
            ["s3cr", "guess", "%3At"]
                .iter()
                .any(|word| line.contains(word))
        });
        assert!(!told, "a secret is in the log: {:?}", node.log());
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
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "in {:?}",
            begun.elapsed()
        );
        assert_eq!(error(&node.get("/presence/c").json()).0, "unavailable");
    }
    server.restart();
    for node in &nodes {
        wait_until_it_publishes(node);
    }
    publish(&nodes[0], "c", "after");
    publish(&nodes[1], "c", "and on");
    for stream in &mut streams {
        let heard = [(); 4].map(|()| stream.next_event());
        // Others may have published while the nodes could not hear them; the stream says so.
        assert_eq!(
            heard.each_ref().map(|event| &*event.event_type),
            ["message", "fanfare-gap", "message", "message"]
        );
        assert_eq!(
            [0, 2, 3].map(|place| &*heard[place].data),
            ["before", "after", "and on"]
        );
    }
}

#[test]
fn a_redis_that_stands_still_is_unavailable() {
    let server = RedisServer::start();
    let node = relay_within(&server, &server.url(), "3s").start();
    let mut stream = hear(&node, "c");
    server.freeze();
    let begun = Instant::now();
    let answer = publish(&node, "c", "meanwhile");
    assert_eq!(error(&answer).0, "unavailable");
    let took = begun.elapsed();
    assert!(
        (Duration::from_millis(2900)..Duration::from_secs(10)).contains(&took),
        "a `redis.timeout` of 3s took {took:?}"
    );
    server.thaw();
    wait_until_it_publishes(&node);
    publish(&node, "c", "after");
    // Whether the one that got no answer was taken, and whether the node gave the connection up, nobody knows.
    let mut heard = stream.next_event();
    while heard.data == "meanwhile" || heard.event_type == "fanfare-gap" {
        heard = stream.next_event();
    }
    assert_eq!(heard.data, "after");
}

#[test]
fn an_app_starts_as_soon_as_redis_is_there() {
    let mut server = RedisServer::start();
    server.stop();
    let node = relay(&server, &server.url()).start_waiting();
    assert!(
        node.wait_for_log("`start` answered")
            .contains("unavailable")
    );
    assert_eq!(node.get("/readyz").status(), 503);
    assert_eq!(node.get("/presence/c").status(), 503);
    let turned_away = node.request(&Request::events("/events?channel=c"));
    assert_eq!(turned_away.status(), 200);
    assert!(
        turned_away.text().starts_with("retry:"),
        "{:?}",
        turned_away.text()
    );

    server.restart();
    wait::until_true("the app serves", || node.get("/readyz").status() == 200);
    let mut stream = hear(&node, "c");
    let begun = Instant::now();
    assert_delivered(&publish(&node, "c", "hello"), 1, begun);
    assert_eq!(stream.next_data(1), ["hello"]);
}
