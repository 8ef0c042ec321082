//! The quickstart, in every language: the same flow, the same answers.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    servers::redis::RedisServer,
    sse::Event,
    stream::End,
};

use crate::guests;

/// For a language, a test of each thing that its quickstart does.
macro_rules! quickstart {
    ($($language:ident: $component:ident,)*) => {$(
        mod $language {
            use super::*;

            #[test]
            fn publishes_ten_events_and_ends() {
                super::publishes_ten_events_and_ends(guests::$component);
            }

            #[test]
            fn names_events_as_the_client_asks() {
                super::names_events_as_the_client_asks(guests::$component);
            }

            #[test]
            fn serves_two_connections_at_once() {
                super::serves_two_connections_at_once(guests::$component);
            }

            #[test]
            fn has_a_page_and_refuses_the_rest() {
                super::has_a_page_and_refuses_the_rest(guests::$component);
            }

            #[test]
            fn answers_other_origins() {
                super::answers_other_origins(guests::$component);
            }

            #[test]
            fn says_what_is_wrong() {
                super::says_what_is_wrong(guests::$component);
            }

            #[test]
            fn stops_when_its_client_leaves() {
                super::stops_when_its_client_leaves(guests::$component);
            }

            #[test]
            fn carries_events_over_redis() {
                super::carries_events_over_redis(guests::$component);
            }
        }
    )*};
}

quickstart! {
    rust: QUICKSTART,
    rust_async: QUICKSTART_ASYNC,
    javascript: QUICKSTART_JAVASCRIPT,
    python: QUICKSTART_PYTHON,
    python_async: QUICKSTART_PYTHON_ASYNC,
    c: QUICKSTART_C,
}

/// How long the host may take to compile a language's engine, on a busy machine.
const COMPILING: Duration = Duration::from_secs(180);
/// The guests that the host has in its cache of compiled code.
static COMPILED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

/// A node that serves a guest. The first one compiles it, alone; the others take it from the cache.
fn serve(guest: &'static str) -> Setup {
    // A guest that does not compile fails its own tests alone.
    let compiled = COMPILED.lock();
    let mut compiled = compiled.unwrap_or_else(PoisonError::into_inner);
    if !compiled.contains(&guest) {
        Node::serve(guest).patience(COMPILING).start().stop();
        compiled.push(guest);
    }
    Node::serve(guest)
}

fn publishes_ten_events_and_ends(guest: &'static str) {
    let node = serve(guest).var("interval-ms", "1").start();
    let mut stream = node.events("/events?name=tick");
    let (events, end) = stream.rest();
    assert_eq!(end, End::Complete);
    assert_eq!(events.len(), 10);

    let first_id = events[0].last_event_id.clone();
    let (epoch, first) = first_id.rsplit_once('-').expect("an id is `epoch-number`");
    let first: usize = first.parse().expect("an id is `epoch-number`");
    let expected: String = (0..10)
        .map(|index| {
            format!(
                "id: {epoch}-{}\nevent: tick\ndata: {index}\n\n",
                first + index
            )
        })
        .collect();
    assert_eq!(stream.text(), expected);
    node.stop();
}

fn names_events_as_the_client_asks(guest: &'static str) {
    let node = serve(guest).var("interval-ms", "1").start();
    for (query, expected) in [
        ("", "message"),
        ("?name=", "message"),
        ("?other=x&name=first&name=second", "first"),
        ("?name=gr%C3%BC%C3%9Fe%20x", "grüße x"),
        ("?n%61me=100%+a%2Bb%", "100% a+b%"),
        // What is not UTF-8 cannot be handed to the host.
        ("?name=%C3x", "\u{fffd}x"),
    ] {
        let (events, _) = node.events(&format!("/events{query}")).rest();
        assert!(
            events.iter().all(|event| event.event_type == expected),
            "{query}: {events:?}"
        );
        assert_eq!(events.len(), 10);
    }
}

fn serves_two_connections_at_once(guest: &'static str) {
    let node = serve(guest).var("interval-ms", "50").start();
    let mut streams =
        ["a", "b"].map(|channel| node.events(&format!("/events?name={channel}&channel={channel}")));
    // Both run: neither waits for the end of the other.
    for stream in &mut streams {
        assert_eq!(stream.next_event().data, "0");
    }
    for (stream, name) in streams.iter_mut().zip(["a", "b"]) {
        let (events, end) = stream.rest();
        assert_eq!(end, End::Complete);
        let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(data, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert!(events.iter().all(|event| event.event_type == name));
    }
}

fn has_a_page_and_refuses_the_rest(guest: &'static str) {
    let node = serve(guest).start();
    let page = node.get("/");
    assert_eq!(
        (page.status(), page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let expected = include_str!("../../guest-examples/rust/quickstart/src/page.html");
    assert!(page.text() == expected, "it is the page of the quickstart");
    let nowhere = node.get("/nowhere");
    assert_eq!((nowhere.status(), nowhere.text()), (404, "not found\n"));
    let post = node.post("/events", "");
    assert_eq!((post.status(), post.header("allow")), (405, Some("GET")));
    assert_eq!(post.text(), "allowed here: GET\n");
    assert_eq!(node.request(&Request::new("HEAD", "/events")).status(), 405);
}

fn answers_other_origins(guest: &'static str) {
    let node = serve(guest)
        .var("allowed-origins", " https://a.example, ,https://b.example")
        .var("interval-ms", "1")
        .start();
    let from = |method, origin| Request::new(method, "/events").header("origin", origin);
    for origin in ["https://a.example", "https://b.example"] {
        let (events, _) = node.open(&from("GET", origin)).rest();
        assert_eq!(events.len(), 10, "{origin}");
    }
    let refused = node.request(&from("GET", "https://c.example"));
    assert_eq!(refused.status(), 403);
    let preflight = from("OPTIONS", "https://a.example");
    let preflight = preflight.header("access-control-request-method", "GET");
    assert_eq!(node.request(&preflight).status(), 204);
}

fn says_what_is_wrong(guest: &'static str) {
    let node = serve(guest).var("interval-ms", "soon").start();
    let answer = node.get("/events");
    assert_eq!(answer.status(), 500);
    assert!(answer.text().contains("`interval-ms`"), "{}", answer.text());

    // After the upgrade the error is an event, and the stream ends.
    let node = serve(guest).start();
    let (events, end) = node.events("/events?channel=").rest();
    assert_eq!(end, End::Complete);
    assert!(events.len() <= 1, "{events:?}");
    assert!(
        events
            .iter()
            .all(|event| event.event_type == "fanfare-error"),
        "{events:?}"
    );

    let node = serve(guest)
        .var("redis-url", "redis://127.0.0.1:1/")
        .start_waiting();
    node.wait_for_log("--allow-redis");
}

fn stops_when_its_client_leaves(guest: &'static str) {
    // The first goes on for long enough that the second hears some of it.
    let node = serve(guest).var("interval-ms", "500").start();
    let mut first = node.events("/events?name=first");
    first.next_event();
    let mut second = node.events("/events?name=second");
    while second.next_event().event_type != "second" {}
    first.close();
    let (events, _) = second.rest();
    let stopped =
        |event: &Event| (event.event_type.as_str(), event.data.as_str()) != ("first", "9");
    assert!(events.iter().all(stopped), "it went on: {events:?}");
    assert_eq!(events.last().map(|event| event.data.as_str()), Some("9"));
}

fn carries_events_over_redis(guest: &'static str) {
    let redis = RedisServer::start();
    let node = || {
        serve(guest)
            .var("redis-url", &redis.url())
            .arg("--allow-redis")
            .arg(redis.address())
            .var("interval-ms", "500")
            .start()
    };
    let (one, other) = (node(), node());
    let mut listener = one.events("/events?name=one");
    assert_eq!(listener.next_event().data, "0");
    let _other = other.events("/events?name=other");
    while listener.next_event().event_type != "other" {}
}
