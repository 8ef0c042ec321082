//! The whole handler, without WebAssembly and without waiting. `quickstart-async` is held to the same tests.

use std::{collections::BTreeSet, time::Duration};

use fanfare_guest::{CloseReason, Error};

use super::{
    testing::{Host, Outcome, Request, Stream},
    *,
};

const TEN: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

fn started() -> Host {
    let host = Host::new();
    host.start::<Quickstart>().unwrap();
    host
}

fn get(host: &Host, target: &str) -> Outcome {
    host.handle::<Quickstart>(Request::get(target))
}

#[test]
fn ten_events_two_seconds_apart() {
    let host = started();
    let outcome = get(&host, "/events?name=greeting");
    assert_eq!(outcome.result(), &Ok(()));

    let stream = outcome.stream();
    assert_eq!(stream.data(), TEN);
    for (index, event) in stream.heard().iter().enumerate() {
        assert_eq!(event.event_type, "greeting");
        assert_eq!(event.at, Duration::from_secs(2 * index as u64));
    }
    assert_eq!(stream.end(), Some(CloseReason::Closed));
    assert_eq!(host.elapsed(), Duration::from_secs(20));
}

#[test]
fn without_a_name_they_are_messages() {
    let outcome = get(&started(), "/events");
    assert_eq!(outcome.stream().heard()[9].event_type, "message");
}

#[test]
fn the_name_is_decoded() {
    let outcome = get(&started(), "/events?name=gr%C3%BC%C3%9Fe+dich");
    assert_eq!(outcome.stream().heard()[0].event_type, "grüße dich");
}

#[test]
fn the_interval_is_a_variable() {
    let host = started();
    host.set_config("interval-ms", "5");
    assert_eq!(get(&host, "/events").stream().data(), TEN);
    assert_eq!(host.elapsed(), Duration::from_millis(50));

    host.set_config("interval-ms", "soon");
    let outcome = get(&host, "/events");
    assert!(
        matches!(outcome.result(), Err(Error::Invalid(message)) if message.contains("interval-ms"))
    );
    assert_eq!(outcome.response().status, 500);
}

#[test]
fn visitors_of_one_channel_hear_each_other() {
    let host = started();
    host.after(Duration::from_secs(9), |host| {
        get(host, "/events?name=second");
    });
    host.after(Duration::from_secs(9), |host| {
        get(host, "/events?name=elsewhere&channel=other");
    });
    get(&host, "/events?name=first");

    let [first, second, elsewhere] = &host.streams()[..] else {
        panic!("{:?}", host.streams())
    };
    let types = |stream: &Stream| -> BTreeSet<_> {
        let heard = stream.heard().into_iter();
        heard.map(|event| event.event_type).collect()
    };
    assert_eq!(types(first), ["first".into(), "second".into()].into());
    assert_eq!(second.heard()[0].event_type, "second");
    assert_eq!(types(elsewhere), ["elsewhere".into()].into());
}

#[test]
fn it_stops_when_the_client_leaves() {
    let host = started();
    let request = Request::get("/events").hang_up_after(Duration::from_secs(5));
    let outcome = host.handle::<Quickstart>(request);
    assert_eq!(outcome.result(), &Ok(()));
    assert_eq!(outcome.stream().data(), ["0", "1", "2"]);
    assert_eq!(outcome.stream().end(), Some(CloseReason::ClientGone));
    assert_eq!(host.published().len(), 3);
    assert_eq!(host.elapsed(), Duration::from_secs(5));
}

#[test]
fn a_client_that_comes_back_hears_what_it_missed() {
    let host = started();
    let first =
        host.handle::<Quickstart>(Request::get("/events").hang_up_after(Duration::from_secs(5)));
    let last = first.stream().heard()[1].id.clone().unwrap();
    let second = host.handle::<Quickstart>(Request::get("/events").last_event_id(&last));
    assert_eq!(second.stream().data()[..3], ["2", "0", "1"]);
}

#[test]
fn a_mistake_closes_the_stream() {
    let host = started();
    for target in ["/events?channel=", "/events?name=two%0Alines"] {
        let outcome = get(&host, target);
        assert!(
            matches!(outcome.result(), Err(Error::Invalid(_))),
            "{target}"
        );
        assert!(!outcome.stream().is_open(), "{target}");
    }
}

#[test]
fn origins_are_a_variable() {
    let host = started();
    let from =
        |origin: &str| host.handle::<Quickstart>(Request::get("/events").header("origin", origin));
    assert_eq!(from("https://a.example").response().status, 403);
    assert!(from("http://localhost").is_stream());
    host.set_config("allowed-origins", "https://a.example, https://b.example");
    assert!(from("https://a.example").is_stream());
    assert!(from("https://b.example").is_stream());
    assert_eq!(from("https://c.example").response().status, 403);
}

#[test]
fn preflights_are_answered_for_the_allowed_origins() {
    let host = started();
    host.set_config("allowed-origins", "https://a.example");
    let preflight = |origin: &str| {
        let request = Request::new("OPTIONS", "/events")
            .header("origin", origin)
            .header("access-control-request-method", "GET");
        let outcome = host.handle::<Quickstart>(request);
        assert_eq!(outcome.problem(), None);
        outcome.response().status
    };
    assert_eq!(preflight("https://a.example"), 204);
    assert_eq!(preflight("https://b.example"), 403);
    assert!(host.streams().is_empty());
}

#[test]
fn a_client_that_is_gone_at_once_is_no_mistake() {
    let host = started();
    let gone = Request::get("/events").hang_up_after(Duration::ZERO);
    assert_eq!(host.handle::<Quickstart>(gone).problem(), None);
    assert!(host.published().is_empty());
}

#[test]
fn redis_is_a_variable() {
    let host = Host::new();
    host.set_config("redis-url", "redis://redis.example");
    assert!(matches!(host.start::<Quickstart>(), Err(Error::Denied(_))));
    host.grant_redis("redis.example:6379")
        .set_redis_reachable("redis.example:6379", false);
    assert!(matches!(
        host.start::<Quickstart>(),
        Err(Error::Unavailable(_))
    ));
    host.set_redis_reachable("redis.example:6379", true);
    assert_eq!(host.start::<Quickstart>(), Ok(()));
    assert_eq!(get(&host, "/events").stream().data(), TEN);
}

#[test]
fn a_second_start_keeps_the_publisher() {
    let host = started();
    host.set_config("redis-url", "redis://not.granted");
    assert_eq!(host.start::<Quickstart>(), Ok(()));
}

#[test]
fn the_page_and_what_is_none() {
    let host = started();
    let page = get(&host, "/");
    assert_eq!(page.response().status, 200);
    assert_eq!(
        page.response().header_value("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.response().body_text().contains("EventSource"));

    assert_eq!(get(&host, "/favicon.ico").response().status, 404);
    let post = host.handle::<Quickstart>(Request::post("/events"));
    assert_eq!(post.response().status, 405);
    assert_eq!(post.response().header_value("allow"), Some("GET"));
}
