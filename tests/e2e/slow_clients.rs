//! Clients that read slowly, stop, reset, or send without end: each costs itself, and nobody else.

mod wire;

use std::{
    io::{ErrorKind, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use fanfare_tests::{
    client::{Request, Socket, chunks::chunks},
    sse::Item,
    stream::{End, Stream},
    wait,
};
use serde_json::{Value, json};

use self::wire::{Server, Wire};
use crate::probe::{self, Probe};

/// What one client may have waiting, for how long it likes.
const PATIENT: &str =
    "[listen]\nwrite-timeout = \"1h\"\n[apps.probe.limits]\nqueue-bytes = \"256KiB\"\n";
/// A history that holds whatever a test publishes.
const KEPT: &str = "[apps.probe.history]\nevents = 100_000\nbytes = \"256MiB\"\n";

/// The data of the n-th event: about 20 kB, different in each.
fn data(n: usize) -> String {
    format!("{n:04} ").repeat(4000)
}

/// A step that publishes it.
fn publish(n: usize) -> Value {
    json!(["publish", "news", { "data": { "repeat": [format!("{n:04} "), 4000] } }])
}

/// A script for a stream that hears `news`.
fn listening() -> Value {
    json!([["upgrade"], ["register", "news"], ["send", "hello"]])
}

/// Reads the events of these numbers, and no other in between.
#[track_caller]
fn assert_hears(stream: &mut Stream, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let event = stream.next_event();
        assert!(event.data == data(n), "{n} was to come: {event:.80?}");
    }
}

/// Lets a client stop reading among others, until it is closed. Returns the id it heard last, the number of the next
/// event, and of those that were published.
#[track_caller]
fn stop_reading(server: &Server, good: &mut [Stream]) -> (String, usize, usize) {
    let node = &server.node;
    let mut slow = server.stalled(&probe::request("slow", &listening()));
    assert_eq!(slow.next_event().data, "hello");
    node.run(json!([publish(0)])).all_ok();
    assert_hears(&mut slow, 0..1);
    for stream in &mut *good {
        assert_hears(stream, 0..1);
    }

    // From here on it reads nothing. Publishing returns and the others hear every event while it does not.
    let id = node.connection("slow");
    let mut published = 1;
    while node.get("/disconnected").json().get(&id).is_none() {
        assert!(
            published < 1000,
            "20 MB wait for a client that reads nothing"
        );
        let next = published..published + 5;
        node.run(next.clone().map(publish).collect()).all_ok();
        for stream in &mut *good {
            assert_hears(stream, next.clone());
        }
        published = next.end;
    }
    assert_eq!(
        node.disconnection(&id),
        json!({ "channels": ["news"], "reason": "Slow", "times": 1 })
    );
    assert_eq!(node.ask(json!(["subscribers", "news"])), good.len());

    // What it finds when it reads again is a part of the stream.
    let found = server.left(slow);
    for (n, event) in (1..).zip(&found) {
        assert!(event.data == data(n), "{n} was to be found: {event:.80?}");
    }
    let last = found.last().map(|event| event.last_event_id.clone());
    let last = last.expect("something had left before");
    (last, found.len() + 1, published)
}

/// A client that stops reading is closed as slow, the others hear everything, and it comes back to what it missed.
fn a_reader_that_stops(wire: Wire) {
    let server = Server::start(wire, &format!("{PATIENT}{KEPT}"));
    let mut good: Vec<_> = (0..3).map(|_| server.subscribe("news")).collect();
    let (last, next, published) = stop_reading(&server, &mut good);

    let mut back = server.open(&probe::request("back", &listening()).last_event_id(&last));
    assert_hears(&mut back, next..published);
    assert_eq!(back.next_event().data, "hello");
    server.node.run(json!([publish(published)])).all_ok();
    good.push(back);
    for stream in &mut good {
        assert_hears(stream, published..published + 1);
    }
}

#[test]
fn a_reader_that_stops_is_closed_and_comes_back_to_what_it_missed() {
    a_reader_that_stops(Wire::Http1);
}

#[test]
fn a_reader_that_stops_is_closed_over_tls_too() {
    a_reader_that_stops(Wire::Tls);
}

#[test]
fn a_reader_that_stops_is_closed_over_http_2_too() {
    a_reader_that_stops(Wire::Http2);
}

#[test]
fn a_reader_that_stops_is_closed_over_http_2_and_tls_too() {
    a_reader_that_stops(Wire::TlsHttp2);
}

#[test]
fn a_reader_that_missed_more_than_the_history_has_is_told_of_the_gap_first() {
    let history = "[apps.probe.history]\nevents = 5\nbytes = \"256MiB\"\n";
    let server = Server::start(Wire::Http1, &format!("{PATIENT}{history}"));
    let mut good = [server.subscribe("news")];
    let (last, _, mut published) = stop_reading(&server, &mut good);
    for _ in 0..10 {
        server.node.run(json!([publish(published)])).all_ok();
        published += 1;
    }
    let mut back = server.open(&probe::request("back", &listening()).last_event_id(&last));
    let gap = back.next_event();
    assert_eq!(gap.event_type, "fanfare-gap");
    let told: Value = serde_json::from_str(&gap.data).expect("a gap event is JSON");
    assert_eq!(told, json!({ "channel": "news", "last-event-id": last }));
    assert_hears(&mut back, published - 5..published);
}

#[test]
fn a_reader_that_takes_byte_after_byte_stays_and_reads_all() {
    const EVENTS: usize = 24;
    /// Bytes in a second, unless the machine is slower: all of it takes longer than the write timeout.
    const PACE: f64 = 60_000.0;
    let node = probe::configured(
        "[listen]\nwrite-timeout = \"5s\"\n[apps.probe.limits]\nqueue-bytes = \"1MiB\"\n\
         [apps.probe.streams]\nping-interval = \"0\"\n",
    );
    let mut slow = Socket::connect_narrow(node.address);
    slow.send(&probe::request("slow", &listening()));
    let id = node.connection("slow");
    node.results("slow").all_ok();
    let ids: Vec<_> = (0..EVENTS)
        .map(|n| {
            node.run(json!([publish(n)])).ok(0)["id"]
                .as_str()
                .expect("an id")
                .to_owned()
        })
        .collect();
    let mut expected = b"data: hello\n\n".to_vec();
    for (n, id) in ids.iter().enumerate() {
        expected.extend(format!("id: {id}\ndata: {}\n\n", data(n)).bytes());
    }

    let head = slow.head();
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    let (mut raw, begun) = (Vec::new(), Instant::now());
    let mut read = |raw: &mut Vec<u8>| {
        let byte = slow.read_some(1);
        raw.extend_from_slice(&byte);
        let ahead = raw.len() as f64 / PACE - begun.elapsed().as_secs_f64();
        if ahead > 0.01 {
            thread::sleep(Duration::from_secs_f64(ahead));
        }
        !byte.is_empty()
    };
    while raw.len() < expected.len() {
        assert!(
            read(&mut raw),
            "it was cut after {} of {} bytes",
            raw.len(),
            expected.len()
        );
    }
    // It is still there, and so is the end.
    assert_eq!(node.get("/disconnected").json().get(&id), None);
    node.run(json!([["remove", "news", id]])).all_ok();
    while !raw.ends_with(b"\r\n0\r\n\r\n") {
        assert!(read(&mut raw), "the end of the stream was cut");
    }
    let chunks = chunks(&raw);
    assert!(chunks.ended && chunks.data == expected);
    assert_eq!(node.disconnection(&id)["reason"], "Closed");
}

#[test]
fn a_reader_that_is_cut_off_has_read_an_intact_part() {
    let server = Server::start(Wire::Http1, &format!("{PATIENT}{KEPT}"));
    let node = &server.node;
    let mut slow = Socket::connect_narrow(node.address);
    slow.send(&probe::request("slow", &listening()));
    let id = node.connection("slow");
    node.results("slow").all_ok();
    slow.head();
    // It reads a byte for every five events: too little by far.
    let (mut raw, mut published) = (Vec::new(), 0);
    while node.get("/disconnected").json().get(&id).is_none() {
        assert!(published < 1000, "20 MB wait for a client that reads a few");
        node.run((published..published + 5).map(publish).collect())
            .all_ok();
        published += 5;
        raw.extend(slow.read_some(1));
    }
    assert_eq!(node.disconnection(&id)["reason"], "Slow");
    raw.extend(slow.wait_closed());
    let chunks = chunks(&raw);
    assert!(chunks.after.is_empty());
    // Ids are the host's affair; everything else is known.
    let text = String::from_utf8(chunks.data).expect("an event stream is UTF-8");
    let said: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("data: "))
        .collect();
    assert_eq!(said[0], "data: hello");
    let last = said.len() - 1;
    for (n, line) in said.iter().skip(1).enumerate() {
        let whole = format!("data: {}", data(n));
        // The last one may be cut; not where the stream was ended in peace, which it may be between two events.
        let intact = if n + 1 == last && !chunks.ended {
            whole.starts_with(line)
        } else {
            whole == *line
        };
        assert!(intact, "{n}: {line:.80}");
    }
}

/// Clients that reset in the middle of a burst are told as gone, each once, and the others hear everything.
fn clients_that_reset(wire: Wire) {
    const EVENTS: usize = 300;
    // Nobody can be too slow here.
    let server = Server::start(wire, "[apps.probe.limits]\nqueue-bytes = \"64MiB\"\n");
    let node = &server.node;
    let mut good: Vec<_> = (0..3).map(|_| server.subscribe("news")).collect();
    let names: Vec<_> = (0..6).map(|n| format!("victim-{n}")).collect();
    let mut victims: Vec<_> = names
        .iter()
        .map(|name| server.open(&probe::request(name, &listening())))
        .collect();
    for victim in &mut victims {
        assert_eq!(victim.next_event().data, "hello");
    }
    let ids: Vec<_> = names.iter().map(|name| node.connection(name)).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..EVENTS).step_by(10) {
                node.run((n..n + 10).map(publish).collect()).all_ok();
            }
        });
        for (n, mut victim) in victims.into_iter().enumerate() {
            scope.spawn(move || {
                assert_hears(&mut victim, 0..1 + 7 * n);
                victim.reset();
            });
        }
        for stream in &mut good {
            scope.spawn(|| assert_hears(stream, 0..EVENTS));
        }
    });
    for id in &ids {
        assert_eq!(
            node.disconnection(id),
            json!({ "channels": ["news"], "reason": "ClientGone", "times": 1 })
        );
    }
    assert_eq!(node.ask(json!(["subscribers", "news"])), good.len());
}

#[test]
fn clients_that_reset_in_a_burst_harm_nobody() {
    clients_that_reset(Wire::Http1);
}

#[test]
fn clients_that_reset_in_a_burst_harm_nobody_over_tls() {
    clients_that_reset(Wire::Tls);
}

#[test]
fn clients_that_reset_in_a_burst_harm_nobody_over_http_2() {
    clients_that_reset(Wire::Http2);
}

#[test]
fn a_client_that_closes_its_half_is_gone_though_it_reads_on() {
    for wire in [Wire::Http1, Wire::Tls] {
        let server = Server::start(wire, "");
        let node = &server.node;
        let mut good = server.subscribe("news");
        let mut socket = node.connect();
        socket.send(&probe::request("half", &listening()));
        node.results("half").all_ok();
        node.run(json!([publish(0)])).all_ok();
        socket.half_close();
        assert_eq!(
            node.disconnection(&node.connection("half")),
            json!({ "channels": ["news"], "reason": "ClientGone", "times": 1 })
        );
        // Its socket is closed, too, and the others go on.
        socket.wait_closed();
        node.run(json!([publish(1)])).all_ok();
        assert_hears(&mut good, 0..2);
    }
}

#[test]
fn a_client_that_takes_nothing_of_what_waits_is_dropped_and_one_for_whom_nothing_waits_stays() {
    for wire in [Wire::Http1, Wire::Tls] {
        let server = Server::start(
            wire,
            "[listen]\nwrite-timeout = \"5s\"\n[apps.probe.limits]\nqueue-bytes = \"64MiB\"\n\
             [apps.probe.streams]\nping-interval = \"0\"\n",
        );
        let node = &server.node;
        let mut quiet = server.stalled(&probe::request(
            "quiet",
            &json!([["upgrade"], ["register", "other"], ["send", "hello"]]),
        ));
        assert_eq!(quiet.next_event().data, "hello");
        let mut deaf = server.stalled(&probe::request("deaf", &listening()));
        assert_eq!(deaf.next_event().data, "hello");
        let id = node.connection("deaf");
        let mut good = server.subscribe("news");
        // Far more than sockets hold, and less than would make it slow.
        let many = 0..1000;
        thread::scope(|scope| {
            scope.spawn(|| assert_hears(&mut good, many.clone()));
            for n in many.clone().step_by(20) {
                node.run((n..n + 20).map(publish).collect()).all_ok();
            }
        });
        assert_eq!(node.disconnection(&id)["reason"], "ClientGone");
        drop(deaf);
        // The other one had as long, and nothing to take.
        assert_eq!(node.ask(json!(["subscribers", "other"])), 1);
        node.publish("other", "late");
        assert_eq!(quiet.next_event().data, "late");
    }
}

/// A client that sends this for ever after its request harms nobody. It may be cut off; else it hears everything.
fn endless(bytes: &[u8]) {
    let node = probe::start();
    let mut good = node.subscribe("news");
    let mut socket = node.connect();
    socket.send(&probe::request("flood", &listening()));
    let id = node.connection("flood");
    let tcp = socket.tcp().try_clone().expect("a socket can be cloned");
    let mut stream = socket.stream("GET");
    assert_eq!(stream.next_event().data, "hello");
    // What a node takes for a few events more is not what is looked for.
    let before = node.memory();
    let flood = bytes.repeat((1 << 20) / bytes.len());
    let mut open = true;
    for n in 0..100 {
        open = open && send_what_fits(&tcp, &flood);
        node.publish("news", &n.to_string());
        assert_eq!(good.next_event().data, n.to_string());
        if open {
            match stream.next_item() {
                Ok(Item::Event(event)) => assert_eq!(event.data, n.to_string()),
                other => {
                    assert_eq!(other, Err(End::Cut));
                    open = false;
                }
            }
        }
    }
    // To give it back may take a moment.
    wait::until_right(|| {
        let grown = node.memory().saturating_sub(before);
        if grown < 32 << 20 {
            return String::new();
        }
        format!("it takes {grown} bytes more for a client that sends")
    });
    drop(tcp);
    stream.reset();
    // At the latest when something is written to it.
    wait::until_true("its end is noticed", || {
        node.publish("news", "on");
        node.get("/disconnected").json().get(&id).is_some()
    });
    assert_eq!(node.disconnection(&id)["reason"], "ClientGone");
}

/// Writes until the other side takes no more for now, or all of it; false when it has cut the socket.
fn send_what_fits(mut tcp: &TcpStream, mut bytes: &[u8]) -> bool {
    tcp.set_nonblocking(true).expect("a socket has options");
    let open = loop {
        match tcp.write(bytes) {
            Ok(0) => break true,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break false,
        }
    };
    tcp.set_nonblocking(false).expect("a socket has options");
    open
}

#[test]
fn a_client_that_sends_requests_without_end_harms_nobody() {
    endless(b"GET /page HTTP/1.1\r\nhost: x\r\n\r\n");
}

#[test]
fn a_client_that_sends_garbage_without_end_harms_nobody() {
    endless(b"\0garbage\xff");
}

#[test]
fn clients_that_send_and_do_not_read_are_closed_as_slow() {
    let server = Server::start(Wire::Http1, &format!("{PATIENT}{KEPT}"));
    let node = &server.node;
    let socket = node.connect();
    (&mut socket.tcp())
        .write_all(&probe::request("slow", &listening()).encode("x"))
        .expect("a request is taken");
    let id = node.connection("slow");
    node.results("slow").all_ok();
    let mut good = server.subscribe("news");
    let page = Request::get("/page").encode("x").repeat(1000);
    let (mut published, mut open) = (0, true);
    while node.get("/disconnected").json().get(&id).is_none() {
        assert!(published < 1000, "20 MB wait for a client that only sends");
        open = open && send_what_fits(socket.tcp(), &page);
        node.run((published..published + 5).map(publish).collect())
            .all_ok();
        assert_hears(&mut good, published..published + 5);
        published += 5;
    }
    let told = node.disconnection(&id);
    let known = told["reason"] == "Slow" || !open && told["reason"] == "ClientGone";
    assert!(known, "{told}");
    wait::until_true("it is forgotten", || {
        node.ask(json!(["subscribers", "news"])) == 1
    });
}
