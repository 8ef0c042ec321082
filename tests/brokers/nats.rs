//! NATS JetStream.

use std::time::{Duration, Instant};

use fanfare::broker::{
    Broker, BrokerError, Retention,
    nats::{Nats, NatsUrl, Settings},
};
use fanfare_tests::{
    servers::{
        nats::{Connection, NatsServer, Options},
        proxy::Proxy,
    },
    tls::Certificates,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::{
    kept::check_unreadable,
    kit::{Kit, RETENTION, TIMEOUT},
    members::{check_known_again, ids, until_unknown},
    nodes::{Heard, Node, name, run},
};

/// A server whose streams are kept in files, and where its brokers find it.
struct Server(NatsServer, String);

fn settings(url: &str) -> Settings {
    Settings {
        url: NatsUrl::parse(url).unwrap(),
        ca_file: None,
        timeout: TIMEOUT,
        replicas: 1,
    }
}

fn broker(settings: Settings, log: &str, retention: Retention) -> Box<dyn Broker> {
    Box::new(Nats::new(settings, log.into(), retention, Handle::current()).unwrap())
}

impl Kit for Server {
    const NAME: &'static str = "nats";

    fn start() -> Self {
        let server = NatsServer::start();
        let url = server.url();
        Self(server, url)
    }

    fn start_behind(proxy: &Proxy) -> Option<Self> {
        let server = NatsServer::start();
        proxy.lead_to(&server.address());
        Some(Self(server, format!("nats://{}", proxy.address())))
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        broker(settings(&self.1), log, retention)
    }

    breaks_as_its_server!();
}

conformance!(Server);

/// A node with these settings.
fn node(settings: &Settings) -> Node {
    Node::over(broker(settings.clone(), "log", RETENTION), RETENTION)
}

fn api(connection: &mut Connection, subject: &str, request: Value) -> Value {
    let payload = request.to_string();
    let answer = connection.request(&format!("$JS.API.{subject}"), payload.as_bytes());
    let answer = answer.expect("JetStream answers");
    assert!(answer.get("error").is_none(), "{answer}");
    answer
}

/// The name of the one stream of the log.
fn stream(connection: &mut Connection) -> String {
    let subject = json!({ "subject": "fanfare.log.event.*" });
    let names = api(connection, "STREAM.NAMES", subject);
    assert_eq!(names["total"], 1, "{names}");
    names["streams"][0].as_str().unwrap().into()
}

/// Publishes until that is accepted, and returns the id.
async fn publish_at_last(node: &Node, channel: &str, data: &str) -> String {
    let begun = Instant::now();
    loop {
        match node.publish(channel, data).await {
            Ok(published) => return published.id,
            Err(error) => assert!(begun.elapsed() < 20 * TIMEOUT, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_wrong_password_is_denied_and_not_shown() {
    run(async {
        let server = NatsServer::start_with(Options {
            password: Some("s3cret-right"),
            ..Options::default()
        });
        let wrong = format!("nats://fanfare:s3cret-wrong@{}", server.address());
        let token = format!("nats://s3cret-token@{}", server.address());
        for url in [wrong, token] {
            let settings = settings(&url);
            let error = node(&settings).feed.start().await.unwrap_err();
            assert!(matches!(error, BrokerError::Denied(_)), "{error}");
            let shown = format!("{error} {error:?} {settings:?}");
            assert!(shown.contains(&server.address()), "{shown}");
            assert!(!shown.contains("s3cret"), "{shown}");
        }
        let node = node(&settings(&server.url()));
        node.feed.start().await.unwrap();
        node.publish("news", "0").await.unwrap();
    });
}

#[test]
fn the_server_is_trusted_for_its_authority() {
    run(async {
        let certificates = Certificates::new();
        let server = NatsServer::start_with(Options {
            tls: Some(&certificates),
            ..Options::default()
        });
        let untrusting = settings(&server.url());
        let error = node(&untrusting).feed.start().await.unwrap_err();
        assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
        let trusting = Settings {
            ca_file: Some(certificates.authority()),
            ..untrusting
        };
        let node = node(&trusting);
        node.feed.start().await.unwrap();
        let mut client = node.client(None, &["news"]).await;
        node.publish("news", "0").await.unwrap();
        assert_eq!(client.data(1).await, ["0"]);
    });
}

#[test]
fn what_others_publish_is_an_event_if_it_is_text() {
    run(async {
        let kit = Server::start();
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut client = a.client(None, &["raum 1"]).await;
        let first = a.publish("raum 1", "0").await.unwrap().id;
        let mut other = kit.0.connect();
        let subject = "fanfare.log.event.raum%201";
        let large = vec![b'x'; (1 << 20) - 1];
        for payload in ["from afar, größe\n".as_bytes(), b"\xff\xfe", b""] {
            let ack = other.request(subject, payload).unwrap();
            assert!(ack["seq"].is_u64(), "{ack}");
        }
        // As much as an event may have, and what nobody made up.
        assert!(other.request(subject, &large).unwrap()["seq"].is_u64());
        other.is_heard("fanfare.log.pushed.event.raum%201").unwrap();
        a.publish("raum 1", "1").await.unwrap();
        let heard = client.data(5).await;
        let large = String::from_utf8(large).unwrap();
        assert_eq!(heard, ["0", "from afar, größe", "", &large, "1"]);
        let mut client = b.client(Some(&first), &["raum 1"]).await;
        assert_eq!(client.data(4).await, heard[1..]);
    });
}

#[test]
fn a_node_receives_only_what_its_clients_hear() {
    run(async {
        let kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let mut server = kit.0.connect();
        let mut is_heard = |channel: &str| {
            let subject = format!("fanfare.log.pushed.event.{channel}");
            server.is_heard(&subject).unwrap()
        };
        let mut client = node.client(None, &["news"]).await;
        node.publish("weather", "0").await.unwrap();
        assert!(is_heard("news") && !is_heard("weather"));
        node.publish("news", "1").await.unwrap();
        assert_eq!(client.data(1).await, ["1"]);
        drop(client);
        let begun = Instant::now();
        while is_heard("news") {
            assert!(begun.elapsed() < Duration::from_secs(20), "it still hears");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_stream_that_is_deleted_is_made_anew() {
    run(async {
        let kit = Server::start();
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut client = a.client(None, &["news"]).await;
        let old = a.publish_numbers("news", 0..20).await;
        assert_eq!(client.data(20).await.len(), 20);
        let mut server = kit.0.connect();
        let first = stream(&mut server);
        api(&mut server, &format!("STREAM.DELETE.{first}"), json!({}));
        let id = b.publish("news", "after").await.unwrap().id;
        assert_ne!(stream(&mut server), first);
        assert_ne!(id.split('-').next(), old[19].split('-').next());
        // Whoever listens may be told of a gap, but hears it.
        let heard = client.until("after").await;
        assert!(
            heard.iter().all(|heard| matches!(heard, Heard::Gap(_))),
            "{heard:?}"
        );
        let mut client = b.client(Some(&old[19]), &["news"]).await;
        assert_eq!(client.next().await, Heard::Gap("news".into()));
        let mut client = a.client(Some(&id), &["news"]).await;
        a.publish("news", "end").await.unwrap();
        assert_eq!(client.until("end").await, []);
        assert_eq!(b.feed.history(&name("news"), 9).await.unwrap().len(), 2);
    });
}

#[test]
fn a_server_that_lost_everything_is_a_gap() {
    run(async {
        let mut kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["news"]).await;
        node.publish_numbers("news", 0..20).await;
        assert_eq!(client.data(20).await.len(), 20);
        kit.0.restart_empty();
        assert_eq!(client.next().await, Heard::Gap("news".into()));
        publish_at_last(&node, "news", "after").await;
        assert_eq!(client.data(1).await, ["after"]);
    });
}

#[test]
fn an_event_that_cannot_be_read_is_a_gap() {
    run(async {
        // Of another version, and garbled.
        for payload in [b"2t\nnewer".as_slice(), b"1t\nno event"] {
            let kit = Server::start();
            check_unreadable(&kit, || {
                let subject = "fanfare.log.event.news";
                let ack = kit.0.connect().request(subject, payload);
                assert!(ack.unwrap()["seq"].is_u64());
            })
            .await;
        }
    });
}

#[test]
fn an_event_that_is_too_large_for_the_server_is_told_apart() {
    run(async {
        let kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["news"]).await;
        node.publish("news", "0").await.unwrap();
        let large = "x".repeat(1 << 20);
        for published in [
            node.publish("news", &large).await,
            node.publish_own("news", &large[..1000]).await,
            node.publish("news", &large).await,
        ] {
            match published {
                Ok(published) => assert_eq!(published.id.len(), 1000),
                Err(BrokerError::TooLarge(text)) => {
                    assert!(text.contains("max_payload` of 1048576 bytes"), "{text}");
                    assert!(text.contains("message of 1048587 bytes"), "{text}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        node.publish("news", "1").await.unwrap();
        assert_eq!(client.data(3).await, ["0", &large[..1000], "1"]);
    });
}

/// As after a power failure, of a server that does not write each event to the disk at once.
#[test]
fn a_server_that_lost_the_newest_begins_anew() {
    run(async {
        let mut kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["news"]).await;
        node.publish_numbers("news", 0..50).await;
        assert_eq!(client.data(50).await.len(), 50);
        {
            let mut server = kit.0.connect();
            let name = stream(&mut server);
            let info = api(&mut server, &format!("STREAM.INFO.{name}"), json!({}));
            api(&mut server, &format!("STREAM.DELETE.{name}"), json!({}));
            api(
                &mut server,
                &format!("STREAM.CREATE.{name}"),
                info["config"].clone(),
            );
        }
        kit.0.restart();
        assert_eq!(client.next().await, Heard::Gap("news".into()));
        publish_at_last(&node, "news", "after").await;
        assert_eq!(client.data(1).await, ["after"]);
    });
}

#[test]
fn the_stream_is_as_the_newest_configuration_says() {
    run(async {
        let kit = Server::start();
        let _first = Node::start(&kit, "log").await;
        let less = Retention {
            events: 7,
            age: Duration::from_secs(60),
        };
        let second = Node::with(&kit, "log", less).await;
        second.publish_numbers("news", 0..9).await;
        let mut server = kit.0.connect();
        let name = stream(&mut server);
        let events = json!({ "subjects_filter": "fanfare.log.event.*" });
        let info = api(&mut server, &format!("STREAM.INFO.{name}"), events);
        let config = &info["config"];
        assert_eq!(config["max_msgs_per_subject"], 7, "{config}");
        assert_eq!(config["max_age"], 60_000_000_000_u64);
        assert_eq!(config["duplicate_window"], 60_000_000_000_u64);
        let kept = json!({ "fanfare.log.event.news": 7 });
        assert_eq!(info["state"]["subjects"], kept, "{info}");
    });
}

#[test]
fn a_stream_of_another_program_is_told() {
    run(async {
        let kit = Server::start();
        let config = json!({ "name": "MINE", "subjects": ["fanfare.>"], "num_replicas": 1,
            "retention": "limits", "storage": "file", "discard": "old" });
        api(&mut kit.0.connect(), "STREAM.CREATE.MINE", config);
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        assert!(matches!(error, BrokerError::Denied(_)), "{error}");
        assert!(error.to_string().contains("MINE"), "{error}");
    });
}

#[test]
fn members_are_known_again_where_what_nodes_said_of_them_was_deleted() {
    run(async {
        let kit = Server::start();
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut clients = vec![
            a.client(None, &["news"]).await,
            b.client(None, &["news"]).await,
        ];
        for node in [&a, &b] {
            node.until_members("news", &ids(&clients)).await;
        }
        let mut server = kit.0.connect();
        let delete = "STREAM.DELETE.fanfare-log-presence-log";
        api(&mut server, delete, json!({}));
        clients.push(a.client(None, &["news"]).await);
        b.until_members("news", &ids(&clients)).await;
        let late = Node::start(&kit, "log").await;
        late.until_members("news", &ids(&clients)).await;
        drop(clients.remove(0));
        for node in [&a, &b, &late] {
            node.until_members("news", &ids(&clients)).await;
        }
    });
}

#[test]
fn a_node_that_was_away_for_longer_than_a_lease_is_known_again() {
    run(async {
        let kit = Server::start();
        let proxy = Proxy::start(&kit.0.address());
        let away = node(&settings(&format!("nats://{}", proxy.address())));
        away.feed.start().await.unwrap();
        let node = Node::start(&kit, "log").await;
        check_known_again(&proxy, &away, &node).await;
    });
}

#[test]
fn where_nodes_may_not_say_who_hears_channels_events_are_carried_all_the_same() {
    run(async {
        let kit = Server::start();
        let mut server = kit.0.connect();
        let config = json!({ "name": "MINE", "subjects": ["fanfare.log.presence"] });
        api(&mut server, "STREAM.CREATE.MINE", config);
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut clients = vec![a.client(None, &["news"]).await];
        b.publish_numbers("news", 0..20).await;
        assert_eq!(clients[0].data(20).await.len(), 20);
        until_unknown(&b, &["fanfare-log-presence-log", "overlap", "$JS.API.>"]).await;
        api(&mut server, "STREAM.DELETE.MINE", json!({}));
        b.until_members("news", &ids(&clients)).await;
    });
}

#[test]
fn what_others_write_among_what_nodes_say_is_skipped() {
    run(async {
        let kit = Server::start();
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut other = kit.0.connect();
        for payload in [&b""[..], b"\xff", b"1", b"1{}", b"2{\"from\":1}"] {
            let ack = other.request("fanfare.log.presence", payload).unwrap();
            assert!(ack["seq"].is_u64(), "{ack}");
        }
        let clients = [a.client(None, &["news"]).await];
        b.until_members("news", &ids(&clients)).await;
        // It is kept for some minutes.
        let info = api(
            &mut other,
            "STREAM.INFO.fanfare-log-presence-log",
            json!({}),
        );
        assert_eq!(info["config"]["max_age"], 240_000_000_000_u64, "{info}");
    });
}
