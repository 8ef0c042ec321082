//! What strangers may send: refused or cut off, and the node serves on.

use std::thread;

use fanfare_tests::{client::Request, node::Node, wait::until_true};
use serde_json::json;

use crate::probe::{self, Probe};

/// Holds that the node serves: what was there before, and what is new.
fn assert_serves(node: &Node) {
    assert_eq!(node.get("/page").status(), 200);
    let mut stream = node.subscribe("news");
    node.publish("news", "on");
    assert_eq!(stream.next_event().data, "on");
}

#[test]
fn a_head_that_is_too_large_is_answered_with_431() {
    let node = probe::configured("[listen]\nhead-bytes = \"8KiB\"");
    let mut kept = node.subscribe("kept");
    let mut socket = node.connect();
    let head = format!(
        "GET /page HTTP/1.1\r\nhost: x\r\nx-large: {}",
        "x".repeat(8 * 1024)
    );
    socket.write(head);
    assert_eq!(socket.head().status, 431);
    let small = Request::get("/page").header("x-large", &"x".repeat(6 * 1024));
    assert_eq!(node.request(&small).status(), 200);
    assert_serves(&node);
    node.publish("kept", "untouched");
    assert_eq!(kept.next_event().data, "untouched");
}

#[test]
fn too_many_headers_are_refused() {
    let node = probe::start();
    let mut request = Request::get("/page");
    for n in 0..200 {
        request = request.header(&format!("x-{n}"), "");
    }
    assert_eq!(node.request(&request).status(), 431);
    assert_serves(&node);
}

#[test]
fn a_body_that_is_too_large_is_answered_with_413() {
    let node = probe::configured("[apps.probe.limits]\nrequest-body = \"4KiB\"");
    let over = node.post("/run", " ".repeat(4097));
    assert_eq!(over.status(), 413);
    assert!(
        over.text().contains("`request-body`") && over.text().contains("4096"),
        "{}",
        over.text()
    );
    assert_eq!(
        node.post("/run", format!("[]{}", " ".repeat(4094)))
            .status(),
        200
    );

    let mut socket = node.connect();
    socket.write("POST /run HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1001\r\n");
    socket.write(" ".repeat(4097));
    assert_eq!(socket.response("POST").status(), 413);

    // One that says so is refused before it has sent anything.
    let mut socket = node.connect();
    socket.write("POST /run HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(socket.head().status, 413);
    assert_serves(&node);
}

#[test]
fn bodies_past_what_the_node_has_room_for_are_answered_with_503() {
    let node = probe::configured("[listen]\nbodies = \"64KiB\"");
    let steps = json!([["set-text", "begun", ""], ["wait-for", "go"]]).to_string();
    let mut first = node.connect();
    first.send(&Request::post(
        "/run",
        format!("{steps}{}", " ".repeat(60 << 10)),
    ));
    node.run(json!([["wait-for", "begun"]])).all_ok();
    assert_eq!(
        node.post("/run", format!("[]{}", " ".repeat(10 << 10)))
            .status(),
        503
    );
    // Those that fit are served, and so are those without.
    assert_eq!(node.get("/page").status(), 200);
    node.run(json!([["set-text", "go", ""]])).all_ok();
    assert_eq!(first.response("POST").status(), 200);
    // The handler may still be about to leave.
    until_true("there is room again", || {
        let body = format!("[]{}", " ".repeat(10 << 10));
        node.post("/run", body).status() == 200
    });
}

#[test]
fn a_body_that_never_ends_is_answered_with_408() {
    // Bodies that do end have no more time.
    let node = probe::configured("[listen]\nbody-timeout = \"3s\"");
    let endless = [
        "content-length: 10\r\n\r\n[",
        "transfer-encoding: chunked\r\n\r\n1\r\n[\r\n",
    ]
    .map(|framing| {
        let mut socket = node.connect();
        socket.write(format!("POST /run HTTP/1.1\r\nhost: x\r\n{framing}"));
        socket
    });
    for mut socket in endless {
        assert_eq!(socket.response("POST").status(), 408);
    }
    assert_serves(&node);
}

#[test]
fn a_body_that_breaks_off_reaches_no_handler() {
    let node = probe::start();
    let mut socket = node.connect();
    let steps = "[[\"set-text\",\"reached\",\"\"]]";
    socket.write(format!(
        "POST /run HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{steps}",
        steps.len() + 1
    ));
    socket.reset();
    assert_serves(&node);
    assert_eq!(node.ask(json!(["has", "reached"])), false);
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    // Heads that do end have no more time.
    let node = probe::configured("[listen]\nhead-timeout = \"2s\"");
    let mut kept = node.subscribe("kept");
    // A socket on which nothing was sent at all has no more time, and a stream all the time in the world.
    let silent = node.connect();
    let slow = (0..50).map(|_| {
        let mut socket = node.connect();
        socket.write("GET /page HTTP/1.1\r\nhost: x\r\nx-slow: ");
        socket
    });
    for mut socket in slow.chain([silent]).collect::<Vec<_>>() {
        socket.wait_closed();
    }
    assert_serves(&node);
    node.publish("kept", "untouched");
    assert_eq!(kept.next_event().data, "untouched");
}

#[test]
fn garbage_is_refused() {
    let node = probe::start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let flood = [preface.as_slice(), &[0xff; 4096]].concat();
    for garbage in [
        &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /run HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /run HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        &[b'A'; 100_000],
        &flood,
    ] {
        let mut socket = node.connect();
        // It may be refused before all of it is sent.
        let _ = socket.try_write(garbage);
        let answer = socket.wait_closed();
        let status = answer.strip_prefix(b"HTTP/1.1 ").map(|rest| rest[..1].to_vec());
        assert!(status.is_none_or(|class| class == b"4"), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_serves(&node);
}

#[test]
fn odd_targets_reach_no_app_or_are_read_as_they_came() {
    let node = probe::start();
    for target in [
        "*",
        "http://elsewhere.example/page",
        "//page",
        "/../../etc/passwd",
        "/%00",
        "/%",
    ] {
        let mut socket = node.connect();
        socket.write(format!(
            "OPTIONS {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 18\r\n\r\n[[\"request.path\"]]"
        ));
        let answer = socket.response("OPTIONS");
        let path = target
            .strip_prefix("http://elsewhere.example")
            .unwrap_or(target);
        match answer.status() {
            200 if path == "/page" => {}
            200 => assert_eq!(answer.json()[0]["ok"], path),
            status => assert_eq!(status, 404, "{target}"),
        }
    }
    assert_serves(&node);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    const REQUESTS: usize = 200;
    let node = probe::start();
    let mut socket = node.connect();
    let mut all = Vec::new();
    for n in 0..REQUESTS {
        all.extend(Request::post(&format!("/x?{n}"), "[[\"request.query\"]]").encode("x"));
    }
    let writer = socket.tcp().try_clone().expect("a socket can be cloned");
    thread::scope(|scope| {
        scope.spawn(move || {
            std::io::Write::write_all(&mut &writer, &all).expect("the node takes them")
        });
        for n in 0..REQUESTS {
            assert_eq!(socket.response("POST").json()[0]["ok"], n.to_string());
        }
    });
    assert_serves(&node);
}

#[test]
fn what_is_sent_on_after_a_stream_was_opened_does_it_no_harm() {
    let node = probe::start();
    let mut socket = node.connect();
    socket.send(&probe::request(
        "piped",
        &json!([["upgrade"], ["register", "news"]]),
    ));
    socket.send(&Request::get("/page"));
    let id = node.connection("piped");
    node.run(json!([
        ["wait-subscribers", "news", 1],
        ["publish", "news", "x"],
        ["remove", "news", id]
    ]))
    .all_ok();
    let stream = socket.response("GET");
    assert_eq!(stream.header("connection"), Some("close"));
    assert!(stream.text().ends_with("data: x\n\n"));
    assert_eq!(socket.wait_closed(), b"");
}
