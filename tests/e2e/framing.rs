//! How a stream is framed: chunks of all sizes, bodies that end with the socket, what stands before and after it.

use std::io::Write;

use fanfare_tests::{
    client::{Head, Request, Socket, chunks::chunks},
    node::Node,
    stream::End,
};
use serde_json::{Value, json};

use crate::probe::{self, Probe};

/// Sizes of frames, in bytes: where the size of a chunk gets one digit more, and where the host begins a new piece.
const SIZES: [usize; 25] = [
    0x0e, 0x0f, 0x10, 0x11, 0xfe, 0xff, 0x100, 0x101, 0xffe, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2000,
    0x3fff, 0x4000, 0xfffe, 0xffff, 0x10000, 0x10001, 0x1ffff, 0x20000, 0xfffff, 0x100000,
    0x1000ff,
];
/// More than the largest of them, in every bound; and no pings.
const ROOM: &str = "[apps.probe.streams]\nping-interval = \"0\"\n\
                    [apps.probe.limits]\nqueue-bytes = \"64MiB\"\nevent-data = \"32MiB\"\n\
                    memory = \"256MiB\"\ncpu-time = \"20s\"\n";

/// The data of an event without an id whose frame has so many bytes: `data: …\n\n`.
fn filler(size: usize) -> Value {
    json!({ "data": { "repeat": [letter(size), size - 8] } })
}

fn frame(size: usize) -> String {
    format!("data: {}\n\n", letter(size).repeat(size - 8))
}

/// Each size has another letter than its neighbours.
fn letter(size: usize) -> String {
    char::from(b'a' + (size % 26) as u8).to_string()
}

/// A script for a stream that hears `news`.
fn listening() -> Value {
    json!([["upgrade"], ["register", "news"], ["send", "hello"]])
}

const HELLO: &str = "data: hello\n\n";

/// Reads until the socket is closed: the head of a stream in chunks, and everything after it.
#[track_caller]
fn to_the_end(socket: &mut Socket) -> (Head, Vec<u8>) {
    let head = socket.head();
    (head, socket.wait_closed())
}

/// Holds that a body in chunks is whole, says this, and that nothing follows it.
#[track_caller]
fn assert_whole(raw: &[u8], expected: &str) {
    let chunks = chunks(raw);
    let (said, wanted) = (chunks.data.len(), expected.len());
    assert!(
        chunks.data == expected.as_bytes(),
        "{said} bytes, and not these {wanted}"
    );
    assert!(chunks.ended, "the last chunk is missing");
    assert!(
        chunks.after.is_empty(),
        "{:?}",
        String::from_utf8_lossy(&chunks.after)
    );
}

#[test]
fn a_chunk_of_every_size_is_written_as_it_is() {
    let node = probe::configured(ROOM);
    let mut socket = node.connect();
    socket.send(
        &probe::request("sizes", &json!([["upgrade"], ["register", "news"]]))
            .header("connection", "close"),
    );
    let head = socket.head();
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    node.results("sizes").all_ok();
    // One at a time, so that nothing joins it; an event that is published has an id before the data.
    let (mut raw, mut expected) = (Vec::new(), String::new());
    for size in SIZES {
        let id = format!("{size:x}");
        let before = format!("id: {id}\ndata: \n\n").len();
        if size <= before {
            continue;
        }
        let data = json!({ "id": id, "data": { "repeat": [letter(size), size - before] } });
        node.run(json!([["publish", "news", data]])).all_ok();
        expected += &format!("id: {id}\ndata: {}\n\n", letter(size).repeat(size - before));
        while chunks(&raw).data.len() < expected.len() {
            let some = socket.read_some(usize::MAX);
            assert!(!some.is_empty(), "the stream was cut at {size:#x}");
            raw.extend(some);
        }
        assert!(chunks(&raw).data == expected.as_bytes(), "{size:#x}");
    }
    let id = node.connection("sizes");
    node.run(json!([["remove", "news", id]])).all_ok();
    raw.extend(socket.wait_closed());
    assert_whole(&raw, &expected);
}

#[test]
fn what_waits_leaves_together_and_whole() {
    let node = probe::configured(ROOM);
    // Pairs whose sum is about what leaves at once, then everything, in both orders.
    let mut sizes: Vec<_> = (0xfff0 - 0x20..0xfff0 + 0x20)
        .step_by(3)
        .flat_map(|size| [size, 0x10])
        .collect();
    sizes.extend(SIZES);
    sizes.extend(SIZES.iter().rev());
    let mut steps = vec![json!(["upgrade"]), json!(["register", "news"])];
    steps.extend(sizes.iter().map(|size| json!(["send", filler(*size)])));
    steps.push(json!(["close"]));
    let body = Value::from(steps).to_string();
    let expected: String = sizes.iter().map(|size| frame(*size)).collect();
    let mut sockets = [node.connect(), Socket::connect_narrow(node.address)];
    for socket in &mut sockets {
        socket.send(
            &Request::post("/script?as=together", body.clone()).header("connection", "close"),
        );
        node.results("together").all_ok();
        node.run(json!([["unset", "results:together"]])).all_ok();
        let (_, raw) = to_the_end(socket);
        assert_whole(&raw, &expected);
    }
}

#[test]
fn thousands_of_events_that_wait_arrive_in_order() {
    const EVENTS: usize = 20_000;
    let node = probe::configured(ROOM);
    let mut socket = Socket::connect_narrow(node.address);
    socket.send(&probe::request("many", &listening()));
    node.results("many").all_ok();
    node.run(json!([["publish-many", "news", EVENTS]])).all_ok();
    let id = node.connection("many");
    node.run(json!([["remove", "news", id]])).all_ok();
    // Only now it is read: most of it waited in the node.
    let mut stream = socket.stream("GET");
    assert_eq!(stream.next_event().data, "hello");
    for n in 0..EVENTS {
        assert_eq!(stream.next_event().data, n.to_string());
    }
    assert_eq!(stream.wait_end(), End::Complete);
}

#[test]
fn a_frame_larger_than_all_buffers_arrives_whole() {
    const BYTES: usize = 24 << 20;
    let node = probe::configured(&ROOM.replace("64MiB", "64KiB"));
    let mut sockets = [node.connect(), Socket::connect_narrow(node.address)];
    let mut expected = HELLO.to_owned();
    for (n, socket) in sockets.iter_mut().enumerate() {
        let name = format!("large-{n}");
        socket.send(&probe::request(&name, &listening()).header("connection", "close"));
        node.results(&name).all_ok();
    }
    let large = json!({ "id": "large", "data": { "repeat": ["0123456789abcdef", BYTES / 16] } });
    node.run(json!([["publish", "news", large]])).all_ok();
    expected += &format!(
        "id: large\ndata: {}\n\n",
        "0123456789abcdef".repeat(BYTES / 16)
    );
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.head();
        let mut raw = Vec::new();
        while raw.len() < expected.len() {
            let some = socket.read_some(1 << 20);
            assert!(!some.is_empty(), "cut after {} bytes", raw.len());
            raw.extend(some);
        }
        let id = node.connection(&format!("large-{n}"));
        node.run(json!([["remove", "news", id]])).all_ok();
        raw.extend(socket.wait_closed());
        assert_whole(&raw, &expected);
    }
}

#[test]
fn a_stream_over_http_1_0_is_plain_and_ends_with_its_socket() {
    let node = probe::configured(ROOM);
    for (n, header) in ["", "connection: keep-alive\r\n", "connection: close\r\n"]
        .into_iter()
        .enumerate()
    {
        let name = format!("old-{n}");
        let mut socket = node.connect();
        let target = probe::target(&name, &listening());
        socket.write(format!("GET {target} HTTP/1.0\r\nhost: x\r\n{header}\r\n"));
        node.results(&name).all_ok();
        let mut expected = HELLO.to_owned();
        for size in [0x100, 0x10000, 0x100000] {
            let id = format!("{n}-{size:x}");
            let data = json!({ "id": id, "data": { "repeat": [letter(size), size] } });
            node.run(json!([["publish", "news", data]])).all_ok();
            expected += &format!("id: {id}\ndata: {}\n\n", letter(size).repeat(size));
        }
        let id = node.connection(&name);
        node.run(json!([["remove", "news", id]])).all_ok();
        let (head, raw) = to_the_end(&mut socket);
        assert_eq!(head.header("transfer-encoding"), None);
        assert_eq!(head.header("content-length"), None);
        assert!(raw == expected.as_bytes(), "{} bytes", raw.len());
    }
}

#[test]
fn the_end_of_a_stream_is_the_last_chunk_and_then_the_end_of_the_socket() {
    let node = probe::start();
    let mut socket = node.connect();
    let steps = json!([["upgrade"], ["send", "bye"]]);
    socket.send(&probe::request("", &steps).header("connection", "close"));
    let (_, raw) = to_the_end(&mut socket);
    assert_whole(&raw, "data: bye\n\n");
}

/// What follows a stream on its socket is the answer to this request, or the end of the socket.
#[track_caller]
fn assert_page_or_end(socket: &mut Socket, mut after: Vec<u8>) {
    after.extend(socket.wait_closed());
    if !after.is_empty() {
        let text = String::from_utf8_lossy(&after);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text:?}");
        assert!(text.ends_with("<title>probe</title>"), "{text:?}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text:?}");
    }
}

#[test]
fn after_the_end_of_a_stream_its_socket_serves_on_or_is_closed() {
    let node = probe::start();
    for _ in 0..20 {
        let mut socket = node.connect();
        socket.send(&probe::request("", &json!([["upgrade"], ["send", "bye"]])));
        socket.head();
        let mut raw = Vec::new();
        while !chunks(&raw).ended {
            let some = socket.read_some(usize::MAX);
            assert!(!some.is_empty(), "the end of the stream was cut");
            raw.extend(some);
        }
        let chunks = chunks(&raw);
        assert_eq!(chunks.data, b"data: bye\n\n");
        let page = Request::get("/page").header("connection", "close");
        let _ = socket.try_write(page.encode("x"));
        assert_page_or_end(&mut socket, chunks.after);
    }
}

#[test]
fn a_request_that_is_sent_behind_that_for_a_stream_does_no_harm() {
    let node = probe::start();
    let page = Request::get("/page")
        .header("connection", "close")
        .encode("x");
    for round in 0..20 {
        let name = format!("behind-{round}");
        let mut socket = node.connect();
        let mut both = probe::request(&name, &listening()).encode("x");
        if round % 2 == 0 {
            both.extend(&page);
            socket.write(both);
        } else {
            socket.write(both);
            socket.write(&page);
        }
        node.results(&name).all_ok();
        node.run(json!([["publish", "news", { "id": name, "data": "live" }]]))
            .all_ok();
        node.run(json!([["remove", "news", node.connection(&name)]]))
            .all_ok();
        let head = socket.head();
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        let raw = socket.wait_closed();
        let chunks = chunks(&raw);
        assert!(chunks.ended, "the end of the stream was cut");
        let said = format!("{HELLO}id: {name}\ndata: live\n\n");
        assert_eq!(String::from_utf8_lossy(&chunks.data), said);
        assert_page_or_end(&mut socket, chunks.after);
    }
}

/// Holds that a socket has become a stream that hears what is published.
#[track_caller]
fn assert_becomes_a_stream(node: &Node, socket: Socket) {
    let mut stream = socket.stream("GET");
    assert_eq!(
        stream.head().header("content-type"),
        Some("text/event-stream")
    );
    assert_eq!(stream.next_event().data, "hello");
    node.publish("news", "live");
    assert_eq!(stream.next_event().data, "live");
}

#[test]
fn ordinary_answers_before_a_stream_on_the_same_socket_are_whole() {
    let node = probe::start();
    let mut socket = node.connect();
    for n in 0..10 {
        let steps = json!([["request.respond", { "body": n.to_string() }]]);
        let answer = socket.request(&Request::post("/run", steps.to_string()));
        assert_eq!(answer.text(), n.to_string());
        assert_eq!(socket.request(&Request::new("HEAD", "/page")).status(), 200);
        assert_eq!(socket.request(&Request::get("/healthz")).status(), 200);
    }
    socket.send(&probe::request("", &listening()));
    assert_becomes_a_stream(&node, socket);
}

#[test]
fn a_request_for_a_stream_in_one_packet_with_those_before_it_is_served() {
    let node = probe::start();
    for before in 1..4 {
        let mut socket = node.connect();
        let mut packet = Vec::new();
        for n in 0..before {
            let steps = json!([["request.respond", { "body": n.to_string() }]]).to_string();
            packet.extend(Request::post("/run", steps).encode("x"));
        }
        packet.extend(probe::request("", &listening()).encode("x"));
        socket.write(packet);
        for n in 0..before {
            assert_eq!(socket.response("POST").text(), n.to_string());
        }
        assert_becomes_a_stream(&node, socket);
    }
}

#[test]
fn a_large_answer_that_is_still_on_its_way_is_whole_before_the_stream_begins() {
    const TIMES: usize = 400_000;
    let node = probe::configured(ROOM);
    let mut socket = Socket::connect_narrow(node.address);
    let large = json!([["request.respond", { "body": { "repeat": ["0123456789", TIMES] } }]]);
    let mut packet = Request::post("/run", large.to_string()).encode("x");
    packet.extend(probe::request("", &listening()).encode("x"));
    socket.write(packet);
    let answer = socket.response("POST");
    assert!(answer.text() == "0123456789".repeat(TIMES));
    assert_becomes_a_stream(&node, socket);
}

#[test]
fn a_request_for_a_stream_that_comes_byte_after_byte_is_served() {
    let node = probe::start();
    let socket = node.connect();
    for byte in probe::request("", &listening()).encode("x") {
        (&mut socket.tcp())
            .write_all(&[byte])
            .expect("a byte is taken");
    }
    assert_becomes_a_stream(&node, socket);
}

#[test]
fn head_leaves_nothing_of_a_stream_on_the_socket() {
    let node = probe::start();
    for (n, version) in ["1.1", "1.0"].into_iter().enumerate() {
        let name = format!("head-{n}");
        let target = probe::target(&name, &listening());
        let mut socket = node.connect();
        socket.write(format!(
            "HEAD {target} HTTP/{version}\r\nhost: x\r\nconnection: close\r\n\r\n"
        ));
        let told = node.disconnection(&node.connection(&name));
        assert_eq!(told["reason"], "ClientGone");
        let receipt = node.ask(json!(["publish", "news", "unheard"]));
        assert_eq!(receipt["delivered"], 0);
        let (head, raw) = to_the_end(&mut socket);
        assert_eq!(
            (head.status, head.header("content-type")),
            (200, Some("text/event-stream"))
        );
        assert_eq!(String::from_utf8_lossy(&raw), "");
    }
    // A GET in the same packet is answered as if it had come alone.
    let mut socket = node.connect();
    let mut packet = Request::new("HEAD", &probe::target("", &listening())).encode("x");
    packet.extend(probe::request("", &listening()).encode("x"));
    socket.write(packet);
    assert!(socket.response("HEAD").body.is_empty());
    assert_becomes_a_stream(&node, socket);
}
