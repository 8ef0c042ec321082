//! The proxy of the harness.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use fanfare_tests::{
    servers::{
        proxy::{
            Middle, Proxy,
            Way::{ToClient, ToServer},
        },
        redis::RedisServer,
    },
    wait,
};

fn connect(proxy: &Proxy) -> TcpStream {
    let socket = TcpStream::connect(proxy.address()).expect("the proxy takes connections");
    let set = socket.set_read_timeout(Some(wait::PATIENCE));
    set.expect("a socket has options");
    socket
}

#[track_caller]
fn send(socket: &mut TcpStream, bytes: &str) {
    socket.write_all(bytes.as_bytes()).expect("bytes go");
}

#[track_caller]
fn expect(socket: &mut TcpStream, bytes: &str) {
    let mut read = vec![0; bytes.len()];
    socket.read_exact(&mut read).expect("bytes come");
    assert_eq!(String::from_utf8_lossy(&read), bytes);
}

#[track_caller]
fn expect_end(socket: &mut TcpStream) {
    // Cut connections may be reset.
    assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn an_answer_is_lost_after_the_server_has_done_what_it_was_asked() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.address());
    let mut client = connect(&proxy);
    send(&mut client, "SET key one\r\n");
    expect(&mut client, "+OK\r\n");
    assert_eq!(proxy.passed(ToClient), 5);

    proxy.hold(ToClient);
    send(&mut client, "SET key two\r\n");
    proxy.wait_until_held(ToClient);
    assert_eq!(server.ask(&["GET", "key"]), "two");
    proxy.cut();
    expect_end(&mut client);
    assert_eq!(proxy.passed(ToClient), 5, "what was held is lost");
    wait::until_true("nothing is left of it", || proxy.held(ToClient) == 0);
}

#[test]
fn what_is_held_comes_later_and_whole() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.address());
    let mut client = connect(&proxy);
    proxy.hold(ToServer);
    send(&mut client, "SET key one\r\n");
    proxy.wait_until_held(ToServer);
    assert_eq!(server.ask(&["GET", "key"]), "");
    // An end is held too.
    send(&mut client, "GET key\r\n");
    client
        .shutdown(std::net::Shutdown::Write)
        .expect("a socket can end");
    proxy.resume(ToServer);
    expect(&mut client, "+OK\r\n$3\r\none\r\n");
    expect_end(&mut client);
    wait::until_true("no connection is left", || proxy.connections() == 0);
}

#[test]
fn connections_are_refused_and_led_elsewhere() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let proxy = Proxy::start(&servers[0].address());
    let mut client = connect(&proxy);
    send(&mut client, "SET server first\r\n");
    expect(&mut client, "+OK\r\n");

    proxy.refuse();
    TcpStream::connect(proxy.address()).expect_err("nobody listens");
    send(&mut client, "GET server\r\n");
    expect(&mut client, "$5\r\nfirst\r\n");

    proxy.lead_to(&servers[1].address());
    proxy.accept();
    let mut client = connect(&proxy);
    send(&mut client, "GET server\r\n");
    expect(&mut client, "$-1\r\n");
    proxy.cut();
    expect_end(&mut client);
}

#[test]
fn an_exchange_is_cut_in_its_middle() {
    let server = RedisServer::start();
    let proxy = Proxy::start(&server.address());
    for (middle, kept, comes) in [
        (Middle::Request, "first", ""),
        (Middle::Between, "next", ""),
        (Middle::Answer, "next", "+OK"),
    ] {
        server.ask(&["SET", "key", "first"]);
        let mut client = connect(&proxy);
        // Others go on.
        proxy.cut_in(b"key next", middle);
        send(&mut client, "GET key\r\n");
        expect(&mut client, "$5\r\nfirst\r\n");
        send(&mut client, "SET key next\r\n");
        expect(&mut client, comes);
        expect_end(&mut client);
        proxy.wait_until_cut();
        assert_eq!(server.ask(&["GET", "key"]), kept, "{middle:?}");
    }
    let mut client = connect(&proxy);
    send(&mut client, "SET key next\r\n");
    expect(&mut client, "+OK\r\n");
}
