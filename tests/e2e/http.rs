//! HTTP in all the forms that clients speak it in.

use std::net::Shutdown;

use fanfare_tests::{
    client::{Request, Socket},
    http2::Http2,
    node::Node,
    stream::End,
    tls::Certificates,
};
use serde_json::json;

use crate::{
    guests,
    probe::{self, Probe},
};

/// A script for a stream that says hello and goes on to hear a channel.
fn hello() -> serde_json::Value {
    json!([["upgrade"], ["register", "news"], ["send", "hello"]])
}

/// A node that speaks TLS, and who trusts it.
fn with_tls(certificates: &Certificates) -> Node {
    probe::configured(&format!(
        "[listen.tls]\ncertificate = {:?}\nkey = {:?}",
        certificates.certificate(),
        certificates.key()
    ))
}

#[test]
fn http_1_0_is_spoken() {
    let node = probe::start();
    let mut socket = node.connect();
    socket.write(format!(
        "GET {} HTTP/1.0\r\n\r\n",
        probe::target("old", &hello())
    ));
    let mut stream = socket.stream("GET");
    assert_eq!(stream.head().status, 200);
    assert_eq!(
        stream.head().header("content-type"),
        Some("text/event-stream")
    );
    assert_eq!(stream.head().header("transfer-encoding"), None);
    assert_eq!(stream.next_event().data, "hello");
    node.publish("news", "live");
    assert_eq!(stream.next_event().data, "live");
    node.run(json!([["remove", "news", node.connection("old")]]));
    assert_eq!(stream.wait_end(), End::Complete);
}

#[test]
fn a_socket_serves_request_after_request_and_a_stream_at_last() {
    let node = probe::start();
    let mut socket = node.connect();
    for n in 0..3 {
        let answer = socket.request(&Request::get(&format!("/page?{n}")));
        assert_eq!(
            (answer.status(), answer.header("content-type")),
            (200, Some("text/html; charset=utf-8"))
        );
    }
    let mut stream = socket.open(&probe::request("", &hello()));
    assert_eq!(stream.next_event().data, "hello");
}

#[test]
fn after_a_stream_has_ended_so_has_its_socket_and_says_so_before() {
    let node = probe::start();
    let mut socket = node.connect();
    let ended = socket.request(&probe::request("", &json!([["upgrade"], ["send", "bye"]])));
    assert_eq!(ended.header("connection"), Some("close"));
    assert_eq!(ended.text(), "data: bye\n\n");
    assert_eq!(socket.wait_closed(), b"");
}

#[test]
fn head_is_answered_without_a_body_and_leaves_no_connection() {
    let node = probe::start();
    let mut socket = node.connect();
    let request = Request::new(
        "HEAD",
        &probe::target("head", &json!([["upgrade"], ["register", "news"]])),
    );
    let head = socket.request(&request);
    assert_eq!(
        (head.status(), head.header("content-type")),
        (200, Some("text/event-stream"))
    );
    assert!(head.body.is_empty());
    assert_eq!(
        node.disconnection(&node.connection("head"))["reason"],
        "ClientGone"
    );
    // Nothing of a body is in the way of the next answer.
    assert_eq!(socket.request(&Request::get("/page")).status(), 200);
    let page = socket.request(&Request::new("HEAD", "/page"));
    assert_eq!(
        (page.status(), page.header("content-length")),
        (200, Some("35"))
    );
}

#[test]
fn head_over_http_2_is_answered_without_a_body_too() {
    let node = probe::start();
    let http2 = Http2::connect(node.address);
    for path in ["/page", "/healthz", "/readyz"] {
        let head = http2.request(&Request::new("HEAD", path));
        assert_eq!((head.status(), head.text()), (200, ""), "{path}");
        assert!(head.header("content-length").is_some(), "{path}");
    }
}

#[test]
fn a_chunked_body_is_read() {
    let node = probe::start();
    let mut socket = node.connect();
    socket.write("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    socket.write("8\r\n[[\"reque\r\n");
    socket.write("b;ext=1\r\nst.method\"]\r\n1\r\n]\r\n0\r\ntrailer: x\r\n\r\n");
    assert_eq!(socket.response("POST").json(), json!([{ "ok": "POST" }]));
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let node = probe::start();
    let mut socket = node.connect();
    socket
        .write("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(socket.head().status, 100);
    socket.write("[]");
    assert_eq!(socket.response("POST").status(), 200);
}

#[test]
fn http_2_carries_many_streams_over_one_socket() {
    let node = probe::start();
    let http2 = Http2::connect(node.address);
    let mut streams: Vec<_> = (0..20)
        .map(|n| http2.stream(&probe::request(&n.to_string(), &hello())))
        .collect();
    for stream in &mut streams {
        assert_eq!(
            stream.head().header("content-type"),
            Some("text/event-stream")
        );
        assert_eq!(stream.head().header("cache-control"), Some("no-store"));
        assert_eq!(stream.next_event().data, "hello");
    }
    let ordinary = http2.request(&Request::post("/run", "[[\"request.method\"]]"));
    assert_eq!(ordinary.json(), json!([{ "ok": "POST" }]));

    // One of them goes and the others stay.
    streams.remove(0).reset();
    assert_eq!(
        node.disconnection(&node.connection("0"))["reason"],
        "ClientGone"
    );
    let receipt = node.ask(json!(["publish", "news", "live"]));
    assert_eq!(receipt["delivered"], 19);
    for stream in &mut streams {
        assert_eq!(stream.next_event().data, "live");
    }
    // So does the end of one.
    node.run(json!([["remove", "news", node.connection("1")]]));
    assert_eq!(streams[0].wait_end(), End::Complete);
    node.publish("news", "again");
    assert_eq!(streams[1].next_event().data, "again");
}

#[test]
fn handlers_see_the_headers_of_http_2_as_those_of_http_1() {
    let node = probe::start();
    let steps = json!([
        ["request.header", "host"],
        ["request.header", "cookie"],
        ["request.headers"]
    ]);
    let request = Request::post("/run", steps.to_string())
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    let results = Http2::connect(node.address).request(&request).json();
    assert_eq!(results[0]["ok"], node.address.to_string());
    assert_eq!(results[1]["ok"], "a=1; b=2");
    let names = results[2]["ok"].as_array().expect("a list").iter();
    assert!(
        names
            .into_iter()
            .all(|header| !header[0].as_str().expect("a name").starts_with(':'))
    );
}

#[test]
fn http_2_knows_the_origin_of_the_apps_own_pages() {
    let node = probe::start();
    let http2 = Http2::connect(node.address);
    let from = |origin: &str| {
        http2
            .stream(&probe::request("", &hello()).header("origin", origin))
            .head()
            .status
    };
    assert_eq!(from(&node.url("")), 200);
    assert_eq!(from("http://elsewhere.example"), 403);
}

#[test]
fn a_slow_stream_of_http_2_is_closed_and_the_others_go_on() {
    let node = probe::configured("[apps.probe.limits]\nqueue-bytes = \"64KiB\"");
    let http2 = Http2::connect(node.address);
    // A stream whose window is never opened again: it is read by nobody.
    let slow = http2.stalled(&probe::request("slow", &hello()));
    let mut good = http2.stream(&probe::request("good", &hello()));
    good.next_event();
    let id = node.connection("slow");
    let large = json!({ "data": { "repeat": ["x", 60_000] } });
    let mut rounds = 0;
    while node.get("/disconnected").json().get(&id).is_none() {
        rounds += 1;
        assert!(rounds < 500, "the slow client is not noticed");
        node.run(json!([["publish", "news", &large]])).all_ok();
        assert_eq!(good.next_event().data.len(), 60_000);
    }
    assert_eq!(node.disconnection(&id)["reason"], "Slow");
    drop(slow);
}

#[test]
fn an_http_2_client_that_takes_nothing_is_let_go() {
    let node = probe::configured(
        "[listen]\nwrite-timeout = \"300ms\"\n[apps.probe.limits]\nconnections = 1",
    );
    let http2 = Http2::connect(node.address);
    let stuck = http2.stalled(&probe::request("stuck", &hello()));
    let id = node.connection("stuck");
    // More than its window and the library's own buffer take, and less than would make it slow.
    let event = json!({ "data": { "repeat": ["x", 100_000] } });
    for _ in 0..6 {
        node.run(json!([["publish", "news", &event]])).all_ok();
    }
    assert_eq!(node.disconnection(&id)["reason"], "ClientGone");
    // Its place is free again.
    let mut next = node.listen("next", hello());
    next.next_event();
    drop(stuck);
}

#[test]
fn tls_serves_http_1_and_2_as_the_client_prefers() {
    let certificates = Certificates::new();
    let node = with_tls(&certificates);
    let stdout = node.printed().join("\n");
    assert!(
        stdout.contains(&format!("is served at https://{}/", node.address)),
        "{stdout}"
    );

    let both = certificates.client(&["h2", "http/1.1"]);
    let http2 = Http2::connect_tls(node.address, both);
    let mut second = http2.stream(&probe::request("second", &hello()));
    let only_first = Socket::connect_tls(node.address, certificates.client(&["http/1.1"]));
    assert_eq!(only_first.alpn().as_deref(), Some("http/1.1"));
    let mut first = only_first.open(&probe::request("first", &hello()));
    let mut without_alpn = Socket::connect_tls(node.address, certificates.client(&[]))
        .open(&probe::request("", &hello()));
    for stream in [&mut first, &mut second, &mut without_alpn] {
        assert_eq!(stream.next_event().data, "hello");
    }
    let publish = Request::post("/run", json!([["publish", "news", "live"]]).to_string());
    let receipt = http2.request(&publish).json();
    assert_eq!(receipt[0]["ok"]["delivered"], 3);
    for stream in [&mut first, &mut second, &mut without_alpn] {
        assert_eq!(stream.next_event().data, "live");
    }
}

#[test]
fn a_client_without_tls_harms_nobody_on_a_listener_with_it() {
    let certificates = Certificates::new();
    let node = with_tls(&certificates);
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff",
        &[0; 5000],
    ] {
        let mut socket = node.connect();
        // It may be cut off before all of it is sent.
        let _ = socket.try_write(garbage);
        let _ = socket.tcp().shutdown(Shutdown::Write);
        socket.wait_closed();
    }
    let mut socket = Socket::connect_tls(node.address, certificates.client(&["http/1.1"]));
    assert_eq!(socket.request(&Request::get("/page")).status(), 200);
}

#[test]
fn a_certificate_that_does_not_fit_its_key_stops_the_start() {
    let (one, other) = (Certificates::new(), Certificates::new());
    let start = |certificate: &std::path::Path, key: &std::path::Path| {
        probe::setup(&format!(
            "[listen.tls]\ncertificate = {certificate:?}\nkey = {key:?}"
        ))
        .run()
    };
    for (certificate, key, part) in [
        (one.certificate(), other.key(), "do not go together"),
        (one.key(), one.key(), "listen.tls.certificate"),
        (one.certificate(), one.certificate(), "listen.tls.key"),
        ("/nowhere.pem".into(), one.key(), "/nowhere.pem"),
    ] {
        let ended = start(&certificate, &key);
        assert!(!ended.status.success());
        assert!(
            ended.stderr.contains(part),
            "{part:?} is not in {:?}",
            ended.stderr
        );
    }
}

#[test]
fn unknown_paths_tell_in_development_where_apps_are() {
    let toml = |development: bool| {
        format!(
            "[node]\ndevelopment = {development}\n[apps.a]\ncomponent = {:?}\nroute = \"/a\"",
            guests::PROBE
        )
    };
    let told = Node::config(&toml(true)).start().get("/b?x");
    assert_eq!(told.status(), 404);
    assert!(
        told.text().contains("/b") && told.text().contains("/a"),
        "{}",
        told.text()
    );
    let untold = Node::config(&toml(false)).start().get("/b");
    assert_eq!((untold.status(), untold.text()), (404, "Not found.\n"));
}

#[test]
fn sockets_past_the_limit_wait_for_their_turn() {
    let node = probe::configured("[listen]\nmax-connections = 2");
    let [first, _second] = ["a", "b"].map(|channel| node.subscribe(channel));
    let mut third = node.connect();
    third.send(&Request::get("/page"));
    first.close();
    assert_eq!(third.response("GET").status(), 200);
}

#[test]
fn every_answer_has_an_id_of_its_own() {
    let node = probe::start();
    let mut ids: Vec<_> = ["/page", "/page", "/disconnected"]
        .map(|path| node.get(path).header("x-request-id").unwrap().to_owned())
        .into();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}
