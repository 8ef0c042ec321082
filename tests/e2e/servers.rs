//! The harness itself: each kind of server keeps and loses what it says, stands still when it is told to, and leaves
//! nothing behind.

mod proxy;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use fanfare_tests::{
    servers::{
        cluster::RedisCluster,
        kafka::{self, KafkaServer},
        nats::{self, NatsServer},
        postgres::{self, PostgresServer},
        process::{Program, Server},
        proxy::Proxy,
        redis::{self, RedisServer, Software},
        sentinel::Sentinels,
    },
    tls::Certificates,
    wait,
};
use serde_json::json;

/// Long enough for any server that runs to answer.
const SILENCE: Duration = Duration::from_millis(300);

/// A frozen server takes connections and answers nothing, and answers once it is thawed.
#[track_caller]
fn assert_freezes<P: Program>(server: &Server<P>, question: &[u8]) {
    server.freeze();
    let mut socket = TcpStream::connect(server.address()).expect("the system takes connections");
    socket.write_all(question).expect("the system takes bytes");
    let timeout = |socket: &TcpStream, timeout| {
        let set = socket.set_read_timeout(Some(timeout));
        set.expect("a socket has options");
    };
    timeout(&socket, SILENCE);
    socket
        .read(&mut [0])
        .expect_err("a frozen server is silent");
    server.thaw();
    timeout(&socket, wait::PATIENCE);
    let read = socket.read(&mut [0]);
    assert_eq!(read.expect("a thawed server answers"), 1);
}

#[track_caller]
fn assert_stopped<P: Program>(server: &mut Server<P>) {
    server.stop();
    TcpStream::connect(server.address()).expect_err("nobody listens");
}

#[track_caller]
fn check_redis(software: Software, name: &str) {
    let [mut kept, mut lost] = [true, false].map(|persistent| {
        RedisServer::start_with(redis::Options {
            software,
            persistent,
            ..redis::Options::default()
        })
    });
    assert!(kept.ask(&["INFO", "server"]).contains(name));
    for (server, after) in [(&mut kept, "value"), (&mut lost, "")] {
        assert_eq!(server.ask(&["SET", "key", "value"]), "OK");
        assert_freezes(server, b"PING\r\n");
        assert_stopped(server);
        server.restart();
        assert_eq!(server.ask(&["GET", "key"]), after);
    }
    kept.restart_empty();
    assert_eq!(kept.ask(&["GET", "key"]), "");
}

#[test]
fn redis_keeps_what_it_is_to_keep() {
    check_redis(Software::Redis, "redis_version:");
}

#[test]
fn valkey_keeps_what_it_is_to_keep() {
    check_redis(Software::Valkey, "server_name:valkey");
}

#[test]
fn sentinels_replace_a_primary_that_is_lost_or_told_to_go() {
    let mut group = Sentinels::start_with(
        3,
        redis::Options {
            password: Some("secret"),
            ..redis::Options::default()
        },
    );
    assert_eq!(group.primary(), 0);
    assert_eq!(group.servers[0].ask(&["SET", "key", "value"]), "OK");
    // A primary does not ask its replica before it says so.
    assert_eq!(group.servers[0].ask(&["WAIT", "1", "20000"]), "1");
    group.fail_over();
    assert_eq!(group.primary(), 1);
    assert_eq!(group.servers[1].ask(&["GET", "key"]), "value");

    group.wait_until_ready();
    group.lose_primary();
    assert_eq!(group.primary(), 0);
    assert_eq!(group.servers[0].ask(&["GET", "key"]), "value");
    group.servers[1].restart();
    group.wait_until_ready();
    assert_eq!(group.servers[1].ask(&["GET", "key"]), "value");
}

#[test]
fn a_cluster_shares_its_keys_and_misses_a_node_that_is_gone() {
    let mut cluster = RedisCluster::start();
    let keys: Vec<String> = (0..10).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        let owner = cluster.owner(key);
        assert_eq!(cluster.nodes[owner].ask(&["SET", key, "value"]), "OK");
        let moved = cluster.nodes[(owner + 1) % 3].ask(&["GET", key]);
        assert!(moved.starts_with("MOVED ") && moved.ends_with(&cluster.nodes[owner].address()));
    }
    let mut owners: Vec<_> = keys.iter().map(|key| cluster.owner(key)).collect();
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners, [0, 1, 2]);

    cluster.nodes[2].stop();
    wait::until_true("the cluster notices", || {
        let info = cluster.nodes[0].ask(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:fail")
    });
    cluster.nodes[2].restart();
    cluster.wait_until_serving();
}

#[test]
fn nats_keeps_its_streams() {
    let mut server = NatsServer::start_with(nats::Options {
        password: Some("secret"),
        ..nats::Options::default()
    });
    assert!(server.url().starts_with("nats://fanfare:secret@127.0.0.1:"));
    let ask = |server: &NatsServer, subject: &str, payload: &str| {
        let answer = server.connect().request(subject, payload.as_bytes());
        answer.expect("somebody answers")
    };
    let stream = json!({ "name": "events", "subjects": ["events.>"] }).to_string();
    let made = ask(&server, "$JS.API.STREAM.CREATE.events", &stream);
    assert_eq!(made["config"]["storage"], "file", "{made}");
    assert_eq!(ask(&server, "events.one", "hello")["seq"], 1);
    // Its first line comes unasked.
    assert_freezes(&server, b"");
    assert_stopped(&mut server);

    server.restart();
    let first = "$JS.API.STREAM.MSG.GET.events";
    let kept = ask(&server, first, r#"{"seq":1}"#);
    assert_eq!(kept["message"]["data"], "aGVsbG8=", "{kept}");
    server.restart_empty();
    let gone = ask(&server, first, r#"{"seq":1}"#);
    assert_eq!(gone["error"]["code"], 404, "{gone}");
}

#[test]
fn postgres_keeps_what_was_committed() {
    let certificates = Certificates::new();
    let mut server = PostgresServer::start_with(postgres::Options {
        password: Some("secret"),
        tls: Some(&certificates),
    });
    server.ask("CREATE TABLE events (data text)");
    server.ask("INSERT INTO events VALUES ('one'), ('two')");
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(server.ask(encrypted), "t");
    // That it speaks TLS is asked before anything else: the length, and a number that stands for it.
    assert_freezes(&server, &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    assert_stopped(&mut server);

    server.restart();
    assert_eq!(server.ask("SELECT data FROM events"), "one\ntwo");
    server.restart_empty();
    assert_eq!(server.ask("SELECT to_regclass('events') IS NULL"), "t");
}

#[test]
fn kafka_keeps_its_records() {
    let mut server = KafkaServer::start();
    server.create_topic("events", 1);
    server.produce("events", &[("a", "one"), ("b", "two")]);
    // Which requests it takes (`ApiVersions`, version 0), asked without a name.
    let versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    assert_freezes(&server, &versions);
    assert_stopped(&mut server);

    server.restart();
    let kept = [("a", "one"), ("b", "two")].map(|(key, value)| (key.into(), value.into()));
    assert_eq!(server.consume("events", 2), kept);
    server.restart_empty();
    server.produce("events", &[("c", "three")]);
    assert_eq!(server.consume("events", 1), [("c".into(), "three".into())]);
}

#[test]
fn kafka_speaks_tls_and_asks_for_a_password() {
    let certificates = Certificates::new();
    let server = KafkaServer::start_with(kafka::Options {
        password: Some("secret"),
        tls: Some(&certificates),
        ..kafka::Options::default()
    });
    server.produce("events", &[("a", "one")]);
    assert_eq!(server.consume("events", 1), [("a".into(), "one".into())]);
}

#[test]
fn kafka_sends_those_who_come_through_a_proxy_back_to_it() {
    // Where it leads until there is a broker, nobody listens.
    let proxy = Proxy::start("127.0.0.1:1");
    let _server = KafkaServer::start_with(kafka::Options {
        behind: Some(&proxy),
        ..kafka::Options::default()
    });
    let mut client = TcpStream::connect(proxy.address()).expect("the proxy takes connections");
    let set = client.set_read_timeout(Some(wait::PATIENCE));
    set.expect("a socket has options");
    // Which brokers there are (`Metadata`, version 0, of all topics), asked without a name.
    let metadata = [0, 0, 0, 14, 0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0];
    client.write_all(&metadata).expect("bytes go");
    // The length, the number of the request, one broker, its number, its host.
    let mut answer = [0; 4 + 4 + 4 + 4 + 2 + 9 + 4];
    client.read_exact(&mut answer).expect("an answer comes");
    assert_eq!(answer[8..16], [0, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(&answer[18..27], b"127.0.0.1");
    assert_eq!(answer[27..], u32::from(proxy.port()).to_be_bytes());
}
