//! The whole chat, without WebAssembly: rooms, counts, and everything that is refused.

use std::{collections::BTreeMap, time::Duration};

use fanfare_guest::testing::{Host, Outcome, Request, Stream};

use super::*;

fn started() -> Host {
    let host = Host::new();
    host.start::<Chat>().unwrap();
    host
}

fn handle(host: &Host, request: Request) -> Outcome {
    host.handle::<Chat>(request)
}

fn enter(host: &Host, room: &str) -> Stream {
    let outcome = handle(host, Request::get(&format!("/rooms/{room}/events")));
    assert_eq!(outcome.result(), &Ok(()));
    outcome.into_stream()
}

fn form(room: &str, name: &str, text: &str) -> Request {
    Request::post(&format!("/rooms/{room}")).form(&[("name", name), ("text", text)])
}

/// Types and data of what was heard.
fn heard(stream: &Stream) -> Vec<(String, String)> {
    stream
        .heard()
        .into_iter()
        .map(|event| (event.event_type, event.data))
        .collect()
}

fn pair(event_type: &str, data: &str) -> (String, String) {
    (event_type.to_owned(), data.to_owned())
}

#[test]
fn everybody_in_the_room_hears_what_is_said() {
    let host = started();
    let (ada, bob, eve) = (
        enter(&host, "lobby"),
        enter(&host, "lobby"),
        enter(&host, "attic"),
    );

    let posted = handle(&host, form("lobby", " Ada ", "1 + 1 & <b>more</b>\nlines"));
    assert_eq!(posted.response().status, 204);
    let json =
        Request::post("/rooms/lobby").json(&BTreeMap::from([("name", "Bob"), ("text", "2!")]));
    assert_eq!(handle(&host, json).response().status, 204);

    let said = [
        pair(
            "message",
            r#"{"name":"Ada","text":"1 + 1 & <b>more</b>\nlines"}"#,
        ),
        pair("message", r#"{"name":"Bob","text":"2!"}"#),
    ];
    assert_eq!(heard(&ada)[2..], said);
    assert_eq!(heard(&bob)[1..], said);
    assert_eq!(heard(&eve), [pair("count", "1")]);
}

#[test]
fn the_count_follows_who_comes_and_goes() {
    let host = started();
    let ada = enter(&host, "lobby");
    let bob = enter(&host, "lobby");
    assert_eq!(heard(&ada), [pair("count", "1"), pair("count", "2")]);
    assert_eq!(heard(&bob), [pair("count", "2")]);

    bob.hang_up();
    assert_eq!(host.disconnected::<Chat>(), 1);
    assert_eq!(heard(&ada).last(), Some(&pair("count", "1")));

    ada.hang_up();
    let before = host.published().len();
    assert_eq!(host.disconnected::<Chat>(), 1);
    assert_eq!(host.published().len(), before, "nobody is left to be told");
}

#[test]
fn who_comes_back_hears_what_was_missed() {
    let host = started();
    let ada = enter(&host, "lobby");
    let last = ada.heard()[0].id.clone().unwrap();
    ada.hang_up();
    handle(&host, form("lobby", "Bob", "are you there?"));
    let back = handle(
        &host,
        Request::get("/rooms/lobby/events").last_event_id(&last),
    );
    assert_eq!(
        heard(back.stream()),
        [
            pair("message", r#"{"name":"Bob","text":"are you there?"}"#),
            pair("count", "1")
        ]
    );
}

#[test]
fn names_of_rooms() {
    let host = started();
    for room in ["lobby", "caf%C3%A9", "R2-D2_", &"x".repeat(40)] {
        assert!(enter(&host, room).is_open(), "{room}");
        assert_eq!(
            handle(&host, form(room, "Ada", "hi")).response().status,
            204,
            "{room}"
        );
    }
    for room in ["", "a%20b", "a%2Fb", "%00", "%F0%9F%98%80", &"x".repeat(41)] {
        let join = handle(&host, Request::get(&format!("/rooms/{room}/events")));
        assert_eq!(join.response().status, 400, "{room}");
        assert_eq!(join.result(), &Ok(()));
        assert_eq!(
            handle(&host, form(room, "Ada", "hi")).response().status,
            400,
            "{room}"
        );
    }
    assert_eq!(enter(&host, "caf%C3%A9").channels(), ["café"]);
}

#[test]
fn what_is_refused() {
    let host = started();
    let lobby = || Request::post("/rooms/lobby");
    let long = |length| "ü".repeat(length);
    let refused = [
        (form("lobby", "", "hi"), 422, "name"),
        (form("lobby", "a\nb", "hi"), 422, "name"),
        (form("lobby", &long(41), "hi"), 422, "name"),
        (form("lobby", "Ada", " \n "), 422, "nothing"),
        (form("lobby", "Ada", &long(2001)), 422, "2000"),
        (lobby().form(&[("name", "Ada")]), 400, "`text`"),
        (lobby().json(&["Ada"]), 400, "body"),
        (
            lobby().json(&BTreeMap::from([("name", "Ada")])),
            400,
            "`text`",
        ),
        (
            lobby().header("content-type", "application/json").body("{"),
            400,
            "body",
        ),
        (lobby().body("hi"), 415, "content-type"),
        (
            lobby().header("content-type", "text/plain").body("hi"),
            415,
            "content-type",
        ),
    ];
    for (request, status, word) in refused {
        let shown = format!("{request:?}");
        let outcome = handle(&host, request);
        assert_eq!(outcome.response().status, status, "{shown}");
        assert!(
            outcome.response().body_text().contains(word),
            "{shown}: {outcome:?}"
        );
    }
    assert!(host.published().is_empty());

    assert_eq!(
        handle(&host, form("lobby", &long(40), &long(2000)))
            .response()
            .status,
        204
    );
}

#[test]
fn the_page_and_what_is_none() {
    let host = started();
    let page = handle(&host, Request::get("/").route("/chat"));
    assert_eq!(page.response().status, 200);
    assert!(page.response().body_text().contains("EventSource"));

    for target in [
        "/rooms",
        "/rooms/lobby/events/more",
        "/rooms/lobby/other",
        "/favicon.ico",
        "//",
    ] {
        assert_eq!(
            handle(&host, Request::get(target)).response().status,
            404,
            "{target}"
        );
    }
    for (method, target, allowed) in [
        ("POST", "/", "GET"),
        ("PUT", "/rooms/lobby/events", "GET"),
        ("GET", "/rooms/lobby", "POST"),
    ] {
        let outcome = handle(&host, Request::new(method, target));
        assert_eq!(outcome.response().status, 405, "{target}");
        assert_eq!(outcome.response().header_value("allow"), Some(allowed));
    }
}

#[test]
fn origins_are_a_variable() {
    let host = started();
    let from_a = || Request::get("/rooms/lobby/events").header("origin", "https://a.example");
    assert_eq!(handle(&host, from_a()).response().status, 403);
    host.set_config("allowed-origins", "https://a.example");
    assert!(handle(&host, from_a()).is_stream());
}

#[test]
fn preflights_are_answered() {
    let host = started();
    host.set_config("allowed-origins", "https://a.example");
    let preflight = Request::new("OPTIONS", "/rooms/lobby/events")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "GET");
    let outcome = handle(&host, preflight);
    assert_eq!(outcome.response().status, 204);
    assert_eq!(outcome.problem(), None);
}

#[test]
fn who_leaves_at_once_is_nobodys_mistake() {
    let host = started();
    let ada = enter(&host, "lobby");
    let gone = Request::get("/rooms/lobby/events").hang_up_after(Duration::ZERO);
    assert_eq!(handle(&host, gone).problem(), None);
    assert_eq!(host.disconnected::<Chat>(), 1);
    assert_eq!(heard(&ada), [pair("count", "1")]);
}

#[test]
fn over_redis_nobody_is_counted_and_its_absence_is_told() {
    let host = Host::new();
    host.set_config("redis-url", "redis://redis.example")
        .grant_redis("redis.example:6379");
    host.start::<Chat>().unwrap();
    let ada = enter(&host, "lobby");

    host.set_redis_reachable("redis.example:6379", false);
    let refused = handle(&host, form("lobby", "Ada", "hi"));
    assert_eq!(refused.response().status, 503);
    assert_eq!(refused.problem(), None);
    host.set_redis_reachable("redis.example:6379", true);
    handle(&host, form("lobby", "Ada", "hi again"));
    assert_eq!(
        heard(&ada),
        [pair("message", r#"{"name":"Ada","text":"hi again"}"#)]
    );
}
