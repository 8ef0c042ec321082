//! Requests one after another, to a server that does what a test tells it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use fanfare_load::{Answers, Requests};

/// For how long is asked.
const DURATION: Duration = Duration::from_secs(2);

const RIGHT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";

/// Answers the requests of each connection by `answer`, which gets the number of the request on it, from 0, until it has
/// no answer.
fn server(answer: impl Fn(usize) -> Option<&'static str> + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            socket.set_nodelay(true).unwrap();
            thread::spawn(move || {
                for number in 0.. {
                    let Some(text) = read(&mut socket).and_then(|()| answer(number)) else {
                        return;
                    };
                    // In two parts: an answer need not come at once.
                    let (first, rest) = text.split_at(text.len() / 2);
                    socket.write_all(first.as_bytes()).unwrap();
                    socket.write_all(rest.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

/// A request, which comes alone.
fn read(socket: &mut TcpStream) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        let count = socket.read(&mut bytes).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&bytes[..count]);
    }
    assert!(request.starts_with(b"GET /x HTTP/1.1\r\n"));
    Some(())
}

fn send(address: SocketAddr) -> Answers {
    let requests = Requests {
        target: format!("http://{address}/x").parse().unwrap(),
        connections: 3,
        body: b"yes".to_vec(),
        duration: DURATION,
    };
    requests.send().unwrap()
}

#[test]
fn connections_are_kept_and_answers_counted() {
    let answers = send(server(|number| match number % 2 {
        0 => Some(RIGHT),
        _ => Some("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n"),
    }));
    assert!(answers.right > 6, "{answers:?}");
    assert!(answers.wrong.is_empty(), "{answers:?}");
    assert_eq!(answers.latency.len(), answers.right);
    assert!(answers.elapsed >= DURATION);
}

#[test]
fn what_is_wrong_is_told_and_a_lost_connection_replaced() {
    let answers = send(server(|number| match number {
        0 => Some(RIGHT),
        1 => Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"),
        2 => Some("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"),
        _ => None,
    }));
    let of = |reason: &str| answers.wrong.get(reason).copied().unwrap_or_default();
    assert!(answers.right > 3, "{answers:?}");
    assert!(of("a wrong body") > 0, "{answers:?}");
    assert!(of("status 500") > 0, "{answers:?}");
    assert!(of("the server closed the connection") > 0, "{answers:?}");
}
