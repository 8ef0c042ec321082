//! Kafka.

mod login;
mod partitions;
mod presence;

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use fanfare::broker::{
    Broker, BrokerError, Retention,
    kafka::{self, Kafka, Login, Mechanism, Settings, Tls, Topic},
};
use fanfare_tests::{
    servers::{
        kafka::{KafkaServer, Options},
        proxy::Proxy,
    },
    tls::Certificates,
};
use tokio::runtime::Handle;

use crate::{
    kept::check_unreadable,
    kit::{ECHO, Kit, RETENTION, TIMEOUT},
    members::{check_known_again, ids, until_unknown},
    nodes::{self, Heard, Node, name},
};

/// A server, and topics of a test's own on it.
struct Server {
    server: Running,
    /// Where its brokers find it.
    address: String,
    prefix: String,
    /// How many partitions topics are given that nodes make.
    partitions: usize,
    mechanism: Mechanism,
    password: Option<String>,
    tls: Option<Tls>,
}

enum Running {
    /// Other tests use it too.
    Shared(Arc<KafkaServer>),
    Own(KafkaServer, Permit),
}

/// The server that tests share which do not break it, while one of them runs.
static SHARED: Mutex<Weak<KafkaServer>> = Mutex::new(Weak::new());
/// How many more servers may be there for one test alone.
static PERMITS: Mutex<usize> = Mutex::new(1);
static RETURNED: Condvar = Condvar::new();

/// Leave to start a server: each is a virtual machine that takes its time and memory.
struct Permit;

impl Permit {
    fn wait() -> Self {
        let permits = PERMITS.lock().unwrap();
        let mut permits = RETURNED.wait_while(permits, |left| *left == 0).unwrap();
        *permits -= 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *PERMITS.lock().unwrap() += 1;
        RETURNED.notify_one();
    }
}

impl Server {
    fn with(server: Running) -> Self {
        let address = match &server {
            Running::Shared(server) => server.address(),
            Running::Own(server, _) => server.address(),
        };
        Self {
            server,
            address,
            prefix: format!("t{:x}.", rand()),
            partitions: 1,
            mechanism: Mechanism::Plain,
            password: None,
            tls: None,
        }
    }

    fn own(options: Options<'_>) -> Self {
        let permit = Permit::wait();
        let server = Self::with(Running::Own(KafkaServer::start_with(options), permit));
        Self {
            password: options.password.map(str::to_owned),
            ..server
        }
    }

    fn server(&self) -> &KafkaServer {
        match &self.server {
            Running::Shared(server) => server,
            Running::Own(server, _) => server,
        }
    }

    fn server_mut(&mut self) -> &mut KafkaServer {
        match &mut self.server {
            Running::Shared(_) => panic!("other tests use this server too"),
            Running::Own(server, _) => server,
        }
    }

    fn topic(&self, log: &str) -> String {
        format!("{}{log}", self.prefix)
    }

    fn settings(&self) -> Settings {
        Settings {
            servers: vec![self.address.clone()],
            topic: Topic::Prefixed(self.prefix.clone()),
            partitions: self.partitions,
            login: self.password.clone().map(|password| Login {
                mechanism: self.mechanism,
                user: "fanfare".into(),
                password,
            }),
            tls: self.tls.clone(),
            timeout: TIMEOUT,
            memory: 64 << 20,
        }
    }
}

impl Kit for Server {
    const NAME: &'static str = "kafka";

    fn start() -> Self {
        // One that does not start fails its own test alone.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(KafkaServer::start());
            *shared = Arc::downgrade(&server);
            server
        });
        Self::with(Running::Shared(server))
    }

    fn start_to_break() -> Self {
        Self::own(Options::default())
    }

    fn start_behind(proxy: &Proxy) -> Option<Self> {
        let kit = Self::own(Options {
            behind: Some(proxy),
            ..Options::default()
        });
        Some(Self {
            address: proxy.address(),
            ..kit
        })
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        let runtime = Handle::current();
        Box::new(Kafka::new(self.settings(), log, retention, runtime))
    }

    fn kill(&mut self) {
        self.server_mut().stop();
    }

    fn restart(&mut self) {
        self.server_mut().restart();
    }

    fn freeze(&self) {
        self.server().freeze();
    }

    fn thaw(&self) {
        self.server().thaw();
    }
}

conformance!(Server);

/// A number that no other test has.
fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.unwrap()
}

#[test]
fn what_others_produce_is_delivered_and_is_a_place() {
    nodes::run(async {
        let kit = Arc::new(Server::start());
        let topic = kit.topic("log");
        let produce = |codec: &'static str, records: &'static [(&'static str, &'static str)]| {
            let (kit, topic) = (kit.clone(), topic.clone());
            blocking(move || kit.server().produce_compressed(&topic, codec, records))
        };
        // Before any node was there.
        produce("gzip", &[("news", "0"), ("weather", "1"), ("news", "2")]).await;
        let node = Node::start(&*kit, "log").await;
        let history = node.feed.history(&name("news"), 10).await.unwrap();
        let ids: Vec<_> = history.iter().map(|event| event.id().unwrap()).collect();
        assert_eq!(ids.len(), 2);
        let mut client = node.client(Some(ids[0]), &["news"]).await;
        assert_eq!(client.data(1).await, ["2"]);
        // What has no channel is skipped.
        produce(
            "lz4",
            &[("", "lost"), ("news", "{\"a\": 3}"), ("news", "4")],
        )
        .await;
        assert_eq!(client.data(1).await, ["{\"a\": 3}"]);
        let last = client.last.clone();
        assert_eq!(client.data(1).await, ["4"]);
        let other = Node::start(&*kit, "log").await;
        let mut client = other.client(last.as_deref(), &["news", "weather"]).await;
        assert_eq!(client.data(1).await, ["4"]);
        // And what a node publishes is a record like others.
        node.publish("news", "5").await.unwrap();
        assert_eq!(client.data(1).await, ["5"]);
    });
}

#[test]
fn of_two_nodes_that_publish_an_id_at_once_one_has_its_way() {
    nodes::run(async {
        let kit = Server::start();
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut clients = [
            a.client(None, &["news"]).await,
            b.client(None, &["news"]).await,
        ];
        let ids: Vec<_> = (0..200).map(|number| format!("id {number}")).collect();
        let mut in_time = 0;
        for id in &ids {
            let begun = Instant::now();
            let (first, second) =
                tokio::join!(a.publish_own("news", id), b.publish_own("news", id));
            let late = begun.elapsed() >= ECHO;
            let (first, second) = (first.unwrap(), second.unwrap());
            assert_eq!(first.duplicate, !second.duplicate, "{id}");
            if !late {
                assert_eq!(first.delivered, u32::from(!first.duplicate));
                in_time += 1;
            }
        }
        assert!(in_time > ids.len() / 2, "{in_time} were delivered at once");
        a.publish("news", "end").await.unwrap();
        for client in &mut clients {
            let heard = client.until("end").await;
            let heard: Vec<_> = heard
                .into_iter()
                .map(|heard| match heard {
                    Heard::Event(id, _) => id,
                    Heard::Gap(_) => panic!("a gap"),
                })
                .collect();
            assert_eq!(heard, ids);
        }
    });
}

#[test]
fn nodes_that_start_at_once_agree_on_the_name_of_the_log() {
    nodes::run(async {
        let kit = Server::start();
        let (a, b) = tokio::join!(Node::start(&kit, "log"), Node::start(&kit, "log"));
        for (from, to) in [(&a, &b), (&b, &a)] {
            let last = from.publish("news", "0").await.unwrap().id;
            from.publish("news", "1").await.unwrap();
            let mut client = to.client(Some(&last), &["news"]).await;
            assert_eq!(client.data(1).await, ["1"]);
        }
    });
}

/// Nodes go on after something was deleted, in another log, and who was there is told.
async fn check_made_anew(kit: &impl Kit, delete: impl FnOnce() + Send + 'static) {
    let (a, b) = (Node::start(kit, "log").await, Node::start(kit, "log").await);
    let mut client = a.client(None, &["news"]).await;
    a.publish_numbers("news", 0..20).await;
    assert_eq!(client.data(20).await, nodes::numbers(0..20));
    let last = client.last.clone().unwrap();
    blocking(delete).await;
    // Both nodes notice, and make it anew or find it.
    let begun = Instant::now();
    for node in [&a, &b] {
        while let Err(error) = node.publish_own("news", "new").await {
            assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
        }
    }
    // Who was there is told that something may be lost, and then hears all.
    a.publish("news", "end").await.unwrap();
    let heard = client.until("end").await;
    assert!(heard.contains(&Heard::Gap("news".into())), "{heard:?}");
    let mut late = b.client(Some(&last), &["news"]).await;
    assert_eq!(late.next().await, Heard::Gap("news".into()));
    let mut back = b.client(client.last.as_deref(), &["news"]).await;
    a.publish("news", "next").await.unwrap();
    assert_eq!(back.data(1).await, ["next"]);
    let epoch = |id: &Option<String>| id.as_ref().unwrap().split('-').next().map(str::to_owned);
    assert_ne!(epoch(&back.last), epoch(&Some(last)));
}

#[test]
fn a_topic_that_was_made_anew_is_another_log() {
    nodes::run(async {
        let kit = Arc::new(Server::start());
        let (delete, topic) = (kit.clone(), kit.topic("log"));
        check_made_anew(&*kit, move || delete.server().delete_topic(&topic)).await;
    });
}

#[test]
fn an_event_that_cannot_be_read_is_a_gap() {
    nodes::run(async {
        // What a node produced, and its data are garbled; and what another program produced, and is more than the app allows.
        let large = "x".repeat((1 << 20) + 1);
        for (headers, data) in [("fanfare-from:1-1,fanfare-data:json", "{"), ("a:b", &large)] {
            let kit = Server::start();
            let topic = kit.topic("log");
            check_unreadable(&kit, || {
                kit.server().produce_with(&topic, headers, "news", data);
            })
            .await;
        }
    });
}

#[test]
fn an_event_that_is_too_large_for_the_topic_is_told_apart() {
    nodes::run(async {
        let kit = Arc::new(Server::start());
        let (create, topic) = (kit.clone(), kit.topic("log"));
        blocking(move || {
            let server = create.server();
            server.create_topic_with(&topic, 1, &["max.message.bytes=20000"]);
        })
        .await;
        let node = Arc::new(Node::start(&*kit, "log").await);
        let mut client = node.client(None, &["news"]).await;
        let error = node.publish("news", &"x".repeat(30_000)).await.unwrap_err();
        let BrokerError::TooLarge(text) = &error else {
            panic!("{error:?}");
        };
        assert!(text.contains("30000 bytes"), "{text}");
        assert!(
            text.contains("`max.message.bytes` of 20000 bytes"),
            "{text}"
        );
        // The limit is for what is sent together, and more waits than that.
        let data = "x".repeat(1000);
        let publishing = (0..200).map(|_| {
            let (node, data) = (node.clone(), data.clone());
            tokio::spawn(async move { node.publish("news", &data).await.unwrap() })
        });
        for published in publishing.collect::<Vec<_>>() {
            published.await.unwrap();
        }
        assert_eq!(client.data(200).await, vec![data; 200]);
    });
}

#[test]
fn records_may_be_compressed() {
    nodes::run(async {
        let kit = Arc::new(Server::start());
        let node = Node::start(&*kit, "log").await;
        let mut client = node.client(None, &["news"]).await;
        let topic = kit.topic("log");
        let produce = kit.clone();
        let codecs = ["gzip", "snappy", "lz4", "zstd"];
        blocking(move || {
            for codec in codecs {
                let records = [("news", codec)];
                let server = produce.server();
                server.produce_compressed(&topic, codec, &records);
            }
        })
        .await;
        assert_eq!(client.data(4).await, codecs);
    });
}
