//! The example `llm-relay`: what a language model streams becomes events.

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    upstream::Upstream,
};
use serde_json::Value;

use crate::guests;

/// A node whose model is this upstream, at this path.
fn relay(upstream: &Upstream, path: &str) -> Setup {
    Node::serve(guests::LLM_RELAY)
        .var("upstream-url", &format!("{}{path}", upstream.origin()))
        .arg("--allow-http")
        .arg(upstream.origin())
}

#[test]
fn tokens_of_a_model_become_events_one_by_one() {
    let upstream = Upstream::start();
    let node = relay(&upstream, "/v1/chat?x=1")
        .var("api-key", "sk-secret")
        .start();
    assert!(node.get("/").text().contains("EventSource"));
    // Who comes with an id that nobody knows is told of a gap as soon as it hears the channel.
    let mut also = node.open(&Request::events("/hear/a").last_event_id("unknown"));
    assert_eq!(also.next_event().event_type, "fanfare-gap");
    let mut stream = node.events("/ask/a?q=why%3F");

    let mut exchange = upstream.accept();
    assert_eq!(exchange.line, "POST /v1/chat?x=1 HTTP/1.1");
    let address = upstream.address().to_string();
    assert_eq!(exchange.header("host"), Some(address.as_str()));
    assert_eq!(exchange.header("authorization"), Some("Bearer sk-secret"));
    assert_eq!(exchange.header("connection"), Some("close"));
    let question: Value = serde_json::from_slice(&exchange.body).expect("the body is JSON");
    assert_eq!(question["messages"][0]["content"], "why?");

    exchange.head("200 OK", &["content-type: text/event-stream"]);
    // The next token leaves only after everybody has heard this one.
    for token in ["be", "cause", "{\"choices\":[]}"] {
        exchange.event(token);
        assert_eq!(stream.next_event().data, token);
        assert_eq!(also.next_event().data, token);
    }
    // An event may come in pieces.
    exchange.chunk("data: a\ndata");
    exchange.chunk(": b\n\n");
    assert_eq!(stream.next_event().data, "a\nb");
    exchange.event("[DONE]");
    assert_eq!(stream.next_event().event_type, "done");
    exchange.wait_closed();

    // Who comes back after a break hears what was missed, and asks nothing.
    let id = also.last_event_id().to_owned();
    let mut again = node.open(&Request::events("/ask/a?q=why").last_event_id(&id));
    assert_eq!(again.next_event().data, "a\nb");
    assert_eq!(again.next_event().event_type, "done");
    upstream.assert_untouched();
}

#[test]
fn a_model_that_nobody_listens_to_is_stopped() {
    let upstream = Upstream::start();
    let node = relay(&upstream, "").start();
    let mut stream = node.events("/ask/a?q=why");
    let mut exchange = upstream.accept();
    exchange.head("200 OK", &[]);
    exchange.event("be");
    assert_eq!(stream.next_event().data, "be");
    stream.close();
    // It says nothing more, and is closed all the same.
    exchange.wait_closed();

    // So is one that has not even begun.
    let stream = node.events("/ask/b?q=why");
    let silent = upstream.accept();
    stream.close();
    silent.wait_closed();
}

#[test]
fn a_model_that_fails_is_told_of_without_its_words() {
    let upstream = Upstream::start();
    let node = relay(&upstream, "").start();
    let mut stream = node.events("/ask/a?q=why");
    upstream
        .accept()
        .answer("401 Unauthorized", &[], "wrong key sk-secret");
    let event = stream.next_event();
    assert_eq!(
        (event.event_type.as_str(), event.data.as_str()),
        ("failed", "the answer broke off")
    );
    node.wait_for_log("status 401");
}
