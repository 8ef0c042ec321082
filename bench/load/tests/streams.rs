//! Loads against a server that does what a test tells it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use fanfare_load::{Expect, Load, Plan};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const SOON: Duration = Duration::from_secs(10);

/// Answers each connection by `serve`, which gets the number of the connection, from 0; the requests come out.
fn server(
    serve: impl Fn(usize, TcpStream) + Copy + Send + 'static,
) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (requests, receiver) = channel();
    thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let (requests, mut socket) = (requests.clone(), socket.unwrap());
            thread::spawn(move || {
                let mut request = vec![0; 4096];
                let count = socket.read(&mut request).unwrap();
                request.truncate(count);
                // The test may have ended.
                let _ = requests.send(String::from_utf8(request).unwrap());
                serve(number, socket);
            });
        }
    });
    (address, receiver)
}

fn plan(address: SocketAddr, streams: usize) -> Plan {
    Plan::new(format!("http://{address}/{{n}}").parse().unwrap(), streams)
}

fn say(socket: &mut TcpStream, text: &str) {
    // The client may have left.
    let _ = socket.write_all(text.as_bytes());
}

/// Until the client leaves.
fn wait(mut socket: TcpStream) {
    let _ = socket.read(&mut [0]);
}

#[test]
fn streams_open_and_hear() {
    let (address, requests) = server(|_, mut socket| {
        say(&mut socket, HEAD);
        say(&mut socket, "id: a\ndata: x\n\nevent: own\ndata: y\n\nda");
        thread::sleep(Duration::from_millis(20));
        say(&mut socket, "ta: z\n\n: comment\n\n");
        wait(socket);
    });
    let load = Load::start(Plan {
        skip_type: Some("own".into()),
        last_event_id: Some("before".into()),
        in_flight: 2,
        ..plan(address, 5)
    })
    .unwrap();
    assert!(load.wait(SOON, |progress| progress.open == 5 && progress.events == 10));
    let report = load.stop(None).unwrap();
    assert_eq!((report.opened, report.closed, report.payloads), (5, 0, 0));
    assert_eq!(report.last_event_id.as_deref(), Some("a"));
    assert_eq!((report.connect.len(), report.first_event.len()), (5, 5));
    let mut requests: Vec<String> = requests.iter().take(5).collect();
    requests.sort();
    assert!(
        requests[4].starts_with("GET /4 HTTP/1.1\r\n"),
        "{requests:?}"
    );
    assert!(requests[4].contains("\r\nLast-Event-ID: before\r\n"));
}

#[test]
fn a_stream_comes_back_when_and_where_its_server_says() {
    let (address, requests) = server(|number, mut socket| {
        say(&mut socket, HEAD);
        say(
            &mut socket,
            &format!("retry: 10\nid: e{number}\ndata: x\n\nid: never\ndata: y\n"),
        );
    });
    let load = Load::start(Plan {
        reconnect: Some(SOON * 10),
        ..plan(address, 1)
    })
    .unwrap();
    assert!(load.wait(SOON, |progress| progress.closed >= 3));
    let report = load.stop(None).unwrap();
    assert!(report.returned >= 2 && report.opened == report.returned + 1);
    let requests: Vec<String> = requests.iter().take(3).collect();
    assert!(!requests[0].contains("Last-Event-ID"));
    assert!(
        requests[1].contains("\r\nLast-Event-ID: e0\r\n"),
        "{requests:?}"
    );
    assert!(
        requests[2].contains("\r\nLast-Event-ID: e1\r\n"),
        "{requests:?}"
    );
}

#[test]
fn streams_that_leave_are_replaced() {
    let (address, _requests) = server(|_, mut socket| {
        say(&mut socket, HEAD);
        say(&mut socket, "data: x\n\ndata: y\n\n");
        wait(socket);
    });
    let load = Load::start(Plan {
        leave_after: Some(1),
        ..plan(address, 3)
    })
    .unwrap();
    assert!(load.wait(SOON, |progress| progress.opened > 20));
    let report = load.stop(None).unwrap();
    assert!(report.left > 10 && report.closed == 0 && report.failed.is_empty());
    assert_eq!(report.events, report.left);
}

#[test]
fn what_cannot_be_opened_is_told_by_its_reason() {
    let (address, _requests) = server(|number, mut socket| {
        let answer = match number {
            0 => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            1 => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
            2 => "hello\r\n\r\n",
            _ => "",
        };
        say(&mut socket, answer);
    });
    let load = Load::start(Plan {
        in_flight: 1,
        ..plan(address, 4)
    })
    .unwrap();
    assert!(load.wait(SOON, |progress| progress.failed == 4));
    let report = load.stop(None).unwrap();
    let reasons: Vec<&str> = report.failed.keys().map(String::as_str).collect();
    assert!(reasons.contains(&"status 404"), "{reasons:?}");
    assert!(
        reasons.contains(&"what was answered is no event stream"),
        "{reasons:?}"
    );
    assert!(
        reasons.iter().any(|reason| reason.contains("is no HTTP")),
        "{reasons:?}"
    );
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("before an answer")),
        "{reasons:?}"
    );
}

#[test]
fn a_stuck_stream_reads_nothing() {
    let (address, _requests) = server(|number, mut socket| {
        say(&mut socket, HEAD);
        thread::sleep(Duration::from_millis(20));
        say(&mut socket, &format!("data: {number}\n\n"));
        wait(socket);
    });
    let load = Load::start(Plan {
        stuck: 1,
        ..plan(address, 2)
    })
    .unwrap();
    assert!(load.wait(SOON, |progress| progress.open == 2 && progress.events == 1));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(load.progress().events, 1);
}

#[test]
fn payloads_are_checked_and_resets_keep_what_was_wrong() {
    let (address, _requests) = server(|_, mut socket| {
        say(&mut socket, HEAD);
        for number in [0, 1, 3] {
            let payload = fanfare_bench_protocol::Payload { number, nanos: 0 };
            say(&mut socket, &format!("data: {}\n\n", payload.text(40)));
        }
        wait(socket);
    });
    let load = Load::start(Plan {
        expect: Expect::PayloadsFrom {
            size: 40,
            number: 0,
        },
        ..plan(address, 2)
    })
    .unwrap();
    assert!(load.wait(SOON, |progress| progress.payloads == 6));
    assert_eq!(load.report().unwrap().faults.lost, 2);
    load.reset().unwrap();
    assert_eq!(load.progress().payloads, 0);
    let report = load.stop(Some(6)).unwrap();
    // One of each is missing in the middle, two at the end.
    assert_eq!((report.payloads, report.faults.lost), (0, 6));
}
