//! The whole relay, without WebAssembly: the test plays the model.

use fanfare_guest::testing::{Host, Request, Upstream};

use super::*;

const MODEL: &str = "https://model.example.org";

fn started(answer: impl Fn(&http::Request) -> Upstream + 'static) -> Host {
    let host = Host::new();
    host.set_config("upstream-url", format!("{MODEL}/v1/chat"));
    host.upstream(MODEL, answer);
    host.start::<Relay>().unwrap();
    host
}

/// Types and data of what the asker hears.
fn asked(host: &Host, request: Request) -> Vec<(String, String)> {
    let stream = host.handle::<Relay>(request).into_stream();
    let heard = stream.heard().into_iter();
    heard.map(|event| (event.event_type, event.data)).collect()
}

fn pair(event_type: &str, data: &str) -> (String, String) {
    (event_type.to_owned(), data.to_owned())
}

#[test]
fn tokens_become_events_and_done_ends_the_answer() {
    let host = started(|request| {
        assert_eq!(request.method, "POST");
        assert_eq!(request.url, "https://model.example.org/v1/chat");
        assert_eq!(request.header_value("authorization"), Some("Bearer key"));
        let question: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(question["model"], "small");
        assert_eq!(question["messages"][0]["content"], "why?");
        Upstream::new(200).data("be").data("cause").data("[DONE]")
    });
    host.set_config("api-key", "key")
        .set_config("model", "small");
    let expected = [
        pair("message", "be"),
        pair("message", "cause"),
        pair("done", ""),
    ];
    assert_eq!(asked(&host, Request::get("/ask/a?q=why%3F")), expected);
    assert_eq!(asked(&host, Request::post("/ask/b").body("why?")), expected);
}

#[test]
fn who_hears_the_channel_reads_along() {
    let host = started(|_| Upstream::new(200).data("because").data("[DONE]"));
    let other = host.handle::<Relay>(Request::get("/hear/a")).into_stream();
    asked(&host, Request::get("/ask/a?q=why"));
    assert_eq!(other.data(), ["because", ""]);
}

#[test]
fn who_comes_back_asks_nothing_again() {
    let host = started(|_| Upstream::new(200).data("because").data("[DONE]"));
    let first = host
        .handle::<Relay>(Request::get("/ask/a?q=why"))
        .into_stream();
    let id = first.heard()[0].id.clone().unwrap();
    first.hang_up();
    let again = Request::get("/ask/a?q=why").last_event_id(&id);
    assert_eq!(asked(&host, again), [pair("done", "")]);
}

#[test]
fn failures_are_an_event_without_what_the_model_said() {
    for answer in [
        Upstream::new(401).chunk("your key sk-secret is wrong"),
        Upstream::new(503),
        Upstream::new(200).data("be").cut(),
        Upstream::new(200).data("be"),
    ] {
        let host = started(move |_| answer.clone());
        let heard = asked(&host, Request::get("/ask/a?q=why"));
        assert_eq!(heard.last(), Some(&pair("failed", "the answer broke off")));
        assert!(!format!("{heard:?}").contains("sk-secret"));
    }
}

#[test]
fn an_answer_that_nobody_hears_is_dropped() {
    let minute = Duration::from_secs(60);
    let pausing = Upstream::new(200).data("be").pause(minute).data("cause");
    let late = Upstream::new(200).begins_after(minute).data("be");
    for (answer, expected) in [(pausing, vec![pair("message", "be")]), (late, vec![])] {
        let host = started(move |_| answer.clone());
        let leaves = Request::get("/ask/a?q=why").hang_up_after(Duration::from_millis(2500));
        assert_eq!(asked(&host, leaves), expected);
        let elapsed = host.elapsed();
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
        let last = host.published().pop().unwrap();
        assert_eq!(last.event.event_type.as_deref(), Some("stopped"));
    }
}

#[test]
fn what_is_no_question_is_refused() {
    let host = started(|_| unreachable!("nothing is asked"));
    for request in [
        Request::get("/ask/a"),
        Request::get("/ask/a?q=%20"),
        Request::post("/ask/a"),
    ] {
        assert_eq!(host.handle::<Relay>(request).response().status, 400);
    }
    assert_eq!(
        host.handle::<Relay>(Request::new("PUT", "/ask/a"))
            .response()
            .status,
        405
    );
    assert_eq!(
        host.handle::<Relay>(Request::get("/elsewhere"))
            .response()
            .status,
        404
    );
}

#[test]
fn a_node_that_cannot_ask_does_not_start() {
    assert!(Host::new().start::<Relay>().is_err());
}
