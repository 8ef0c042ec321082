//! Brokers as on two nodes, each with a hub of its own, against a real server.

use std::collections::HashSet;

use futures_util::StreamExt;

use super::*;
use crate::{
    event::{Data, check_id},
    hub::{
        Hub, Settings,
        connection::{Connection, OpenOptions},
        delivery::{self, Engine, body::Body},
    },
    redis_pool::testing::{Server, free_port, pool, until},
};

const TIMEOUT: Duration = Duration::from_secs(15);
const LIMIT: usize = 10_000;

/// A node: a hub, and a broker that delivers to it.
struct Node {
    hub: Hub,
    space: Space,
    broker: Redis,
}

impl Node {
    fn new(url: RedisUrl, timeout: Duration) -> Self {
        let engine = Engine::new(&delivery::Settings {
            shards: 2,
            connections: 100,
            connections_per_address: 100,
            queued_bytes: 1 << 30,
            write_timeout: TIMEOUT,
        });
        let settings = Settings {
            history_events: 1000,
            history_total_bytes: 1 << 20,
            history_bytes: 1 << 20,
            history_age: Duration::from_secs(600),
            queue_bytes: 1 << 20,
            connections: 100,
            channels_per_connection: 10,
            event_data: LIMIT,
        };
        let (hub, _ended) = Hub::new(settings, engine.unwrap());
        let space = hub.space();
        let broker = Redis::new(
            Arc::new(pool(timeout)),
            url,
            "fanfare:app:sync".into(),
            space.clone(),
        );
        Self { hub, space, broker }
    }

    async fn started(server: &Server) -> Self {
        let node = Self::new(server.url("", ""), TIMEOUT);
        node.broker.start().await.unwrap();
        node
    }

    fn listen(&self) -> Listener {
        let (connection, delivery) = self.hub.open(OpenOptions::default()).unwrap();
        self.space.register(&connection, &news()).unwrap();
        Listener {
            connection,
            body: delivery.into_body(Default::default()),
            read: String::new(),
            gaps: 0,
        }
    }

    async fn publish(&self, text: &str) -> Result<Published, BrokerError> {
        self.broker.publish(&news(), event(text)).await
    }
}

/// A client of a node.
struct Listener {
    connection: Arc<Connection>,
    body: Body,
    read: String,
    gaps: usize,
}

impl Listener {
    /// Reads so many events and returns the id and the data of each. Gap events are counted apart.
    async fn events(&mut self, count: usize) -> Vec<(String, String)> {
        let mut events = Vec::new();
        while events.len() < count {
            let Some((frame, rest)) = self.read.split_once("\n\n") else {
                let next = tokio::time::timeout(4 * TIMEOUT, self.body.next());
                let frames = next
                    .await
                    .expect("the events never came")
                    .expect("the stream ended");
                self.read.push_str(std::str::from_utf8(&frames).unwrap());
                continue;
            };
            let field = |name: &str| {
                let mut lines = frame.lines();
                lines
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::to_owned)
            };
            match field("event: ").as_deref() {
                Some("fanfare-gap") => self.gaps += 1,
                _ => events.push((field("id: ").unwrap(), field("data: ").unwrap())),
            }
            self.read = rest.to_owned();
        }
        events
    }

    async fn data(&mut self, count: usize) -> Vec<String> {
        self.events(count)
            .await
            .into_iter()
            .map(|(_, data)| data)
            .collect()
    }
}

fn news() -> ChannelName {
    ChannelName::new("news").unwrap()
}

fn event(text: &str) -> Event {
    Event::new(Data::Text(text.into()), LIMIT).unwrap()
}

fn is_unavailable(result: &Result<Published, BrokerError>) -> bool {
    matches!(result, Err(BrokerError::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_hear_all_events_in_one_order() {
    const TASKS: usize = 4;
    const EVENTS: usize = 100;
    let server = Server::start(&[]);
    let nodes = [
        Arc::new(Node::started(&server).await),
        Arc::new(Node::started(&server).await),
    ];
    let mut listeners = nodes.each_ref().map(|node| node.listen());
    let mut tasks = Vec::new();
    for (n, node) in nodes.iter().enumerate() {
        for task in 0..TASKS {
            let node = node.clone();
            tasks.push(tokio::spawn(async move {
                for number in 0..EVENTS {
                    let published = node.publish(&format!("{n}{task} {number}")).await.unwrap();
                    assert_eq!((published.delivered, published.duplicate), (1, false));
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let count = nodes.len() * TASKS * EVENTS;
    let [first, second] = &mut listeners;
    let heard = first.events(count).await;
    assert_eq!(heard, second.events(count).await);
    let ids: HashSet<_> = heard.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), count);
    for publisher in ["00", "01", "02", "03", "10", "11", "12", "13"] {
        let numbers = heard
            .iter()
            .filter_map(|(_, data)| data.strip_prefix(publisher)?.strip_prefix(' '));
        let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_was_published_is_on_its_way_when_publishing_returns() {
    let server = Server::start(&[]);
    let node = Node::started(&server).await;
    for _ in 0..50 {
        let mut listener = node.listen();
        let published = node.publish("last").await.unwrap();
        node.space
            .remove(&listener.connection.id().to_string(), &news())
            .unwrap();
        assert_eq!(listener.events(1).await, [(published.id, "last".into())]);
        assert_eq!(listener.body.next().await, None);
    }
}

#[tokio::test]
async fn an_event_without_an_id_is_given_one_and_one_with_an_id_is_heard_once() {
    let server = Server::start(&[]);
    let (node, other) = (Node::started(&server).await, Node::started(&server).await);
    let mut listener = other.listen();
    let given = node.publish("a").await.unwrap();
    assert!(given.id.contains('.'), "{}", given.id);
    check_id(&given.id, IdForm::Plain).unwrap();
    assert_eq!(given.delivered, 0);

    let own = || event("b").with_id("größe 1".into(), IdForm::Any).unwrap();
    let first = node.broker.publish(&news(), own()).await.unwrap();
    assert_eq!((first.id.as_str(), first.duplicate), ("größe 1", false));
    assert!(node.broker.publish(&news(), own()).await.unwrap().duplicate);
    assert!(
        other
            .broker
            .publish(&news(), own())
            .await
            .unwrap()
            .duplicate
    );
    other.publish("c").await.unwrap();
    assert_eq!(listener.data(3).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn starting_fails_with_a_reason_and_may_be_tried_again() {
    let server = Server::start(&["--requirepass", "hunter2"]);
    let refused = Node::new(server.url(":wrong@", ""), TIMEOUT);
    assert!(is_unavailable(&refused.publish("x").await));
    assert!(matches!(
        refused.broker.start().await,
        Err(BrokerError::Denied(_))
    ));

    let mut later = Server::start(&[]);
    later.kill();
    let node = Node::new(later.url("", ""), TIMEOUT);
    assert!(matches!(
        node.broker.start().await,
        Err(BrokerError::Unavailable(_))
    ));
    assert!(is_unavailable(&node.publish("x").await));
    later.restart();
    node.broker.start().await.unwrap();
    let mut listener = node.listen();
    node.publish("x").await.unwrap();
    assert_eq!(listener.data(1).await, ["x"]);

    let nowhere = RedisUrl::parse(&format!("redis://127.0.0.1:{}", free_port())).unwrap();
    let error = Node::new(nowhere, TIMEOUT)
        .broker
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn when_the_server_comes_back_delivery_goes_on_by_itself() {
    let mut server = Server::start(&[]);
    let (node, other) = (Node::started(&server).await, Node::started(&server).await);
    let (mut here, mut there) = (node.listen(), other.listen());
    node.publish("before").await.unwrap();
    for _ in 0..3 {
        server.kill();
        // Also while it is not known yet that the server is gone.
        for _ in 0..20 {
            let started = Instant::now();
            assert!(is_unavailable(&node.publish("lost").await));
            assert!(started.elapsed() < TIMEOUT + Duration::from_secs(1));
        }
        assert!(here.connection.is_open() && there.connection.is_open());
        server.restart();
        until("both are subscribed", || async {
            server.subscriptions() == 2
        })
        .await;
        until("one publishes", || async {
            node.publish("here").await.is_ok()
        })
        .await;
        until("the other publishes", || async {
            other.publish("there").await.is_ok()
        })
        .await;
    }
    let expected = ["before", "here", "there", "here", "there", "here", "there"];
    assert_eq!(here.data(7).await, expected);
    assert_eq!(there.data(7).await, expected);
    // What the other node may have published meanwhile is not lost in silence.
    assert_eq!((here.gaps, there.gaps), (3, 3));
}

#[tokio::test]
async fn a_server_that_stands_still_makes_publishing_fail_in_time() {
    let server = Server::start(&[]);
    let timeout = Duration::from_millis(300);
    let node = Node::new(server.url("", ""), timeout);
    node.broker.start().await.unwrap();
    let listener = node.listen();
    server.freeze(true);
    let started = Instant::now();
    assert!(is_unavailable(&node.publish("lost").await));
    assert!(started.elapsed() >= timeout && started.elapsed() < TIMEOUT);
    until("it fails fast", || async {
        let started = Instant::now();
        is_unavailable(&node.publish("lost").await) && started.elapsed() < timeout / 2
    })
    .await;
    assert!(listener.connection.is_open());
    server.freeze(false);
    until("it publishes", || async {
        node.publish("found").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_broken_subscription_is_made_again() {
    let server = Server::start(&[]);
    let node = Node::started(&server).await;
    let mut listener = node.listen();
    for round in 0..5 {
        server.ask("CLIENT KILL TYPE pubsub");
        // Whatever is told about it, what was not published is not heard, and what was is heard once.
        until("it publishes", || async {
            let text = round.to_string();
            matches!(node.publish(&text).await, Ok(published) if published.delivered == 1)
        })
        .await;
    }
    assert_eq!(listener.data(5).await, ["0", "1", "2", "3", "4"]);
    assert_eq!(server.subscriptions(), 1);
}

#[tokio::test]
async fn a_broken_connection_for_commands_is_made_again() {
    let server = Server::start(&[]);
    let node = Node::started(&server).await;
    let mut listener = node.listen();
    server.ask("CLIENT KILL TYPE normal");
    let started = Instant::now();
    until("it publishes", || async { node.publish("x").await.is_ok() }).await;
    assert!(
        started.elapsed() < TIMEOUT,
        "it waited for what cannot come"
    );
    assert_eq!(listener.data(1).await, ["x"]);
}

#[tokio::test]
async fn an_event_that_others_heard_was_published() {
    let server = Server::start(&[]);
    let node = Node::new(server.url("", ""), Duration::from_millis(300));
    node.broker.start().await.unwrap();
    let other = Node::started(&server).await;
    let mut listener = other.listen();
    // This node no longer hears its echoes.
    node.broker
        .running
        .lock()
        .as_ref()
        .unwrap()
        ._receiver
        .abort();
    until("it does not listen", || async {
        server.subscriptions() == 1
    })
    .await;
    let published = node.publish("x").await.unwrap();
    assert_eq!((published.delivered, published.duplicate), (0, false));
    assert_eq!(listener.events(1).await, [(published.id, "x".into())]);
}

#[tokio::test]
async fn when_the_subscription_breaks_nobody_waits_for_an_echo_any_more() {
    let server = Server::start(&[]);
    let node = Node::new(server.url("", ""), TIMEOUT);
    let shared = &node.broker.shared;
    let old = shared.subscribed();
    let new = shared.subscribed();
    let (_, mut heard) = shared.expect(1, "h:1").unwrap();
    shared.subscription_broke(old, "late news");
    assert_eq!(heard.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    shared.subscription_broke(new, "gone");
    assert!(heard.await.is_err());
    assert!(shared.expect(2, "h:1").is_err());
}

#[tokio::test]
async fn an_event_that_nobody_heard_was_not_published_and_the_subscription_is_made_again() {
    let (server, elsewhere) = (Server::start(&[]), Server::start(&[]));
    let node = Node::started(&server).await;
    let mut listener = node.listen();
    // As after a failover that moved one of the two connections.
    let ours = node.broker.running.lock().as_ref().unwrap().client.clone();
    let subscription = node.broker.shared.state.lock().subscription.clone();
    let theirs = elsewhere.client().await;
    node.broker.running.lock().as_mut().unwrap().client = theirs;
    let result = node.publish("x").await;
    assert!(
        matches!(&result, Err(BrokerError::Unavailable(text)) if text.contains("nobody")),
        "{result:?}"
    );
    until("it subscribes again", || async {
        let now = node.broker.shared.state.lock().subscription.clone();
        now.is_ok() && now != subscription
    })
    .await;
    node.broker.running.lock().as_mut().unwrap().client = ours;
    node.publish("y").await.unwrap();
    assert_eq!(listener.data(1).await, ["y"]);
    assert_eq!(server.subscriptions(), 1);
}

#[tokio::test]
async fn what_others_write_on_the_channel_is_skipped() {
    // Or Redis would not even send what is too large.
    let unbounded = ["--client-output-buffer-limit", "pubsub", "0", "0", "0"];
    let server = Server::start(&unbounded);
    let node = Node::started(&server).await;
    let mut listener = node.listen();
    let client = server.client().await;
    let odd: [&[u8]; 6] = [
        b"",
        b"hello",
        b"\xff\n\xff",
        b"{\"v\":2}\nx",
        b"{\"v\":1,\"node\":\"n\",\"number\":1,\"channel\":\"news\",\"json\":false}\ndata: no id\n\n",
        b"{\"v\":1,\"node\":\"n\",\"number\":1,\"channel\":\"news\",\"json\":true}\nid: 1\ndata: {\n\n",
    ];
    for message in odd {
        assert_eq!(
            client.publish("fanfare:app:sync", message.to_vec()).await,
            Ok(1)
        );
    }
    let script = "redis.call('setrange', 'large', 40000000, 'x')
        return redis.call('publish', 'fanfare:app:sync', redis.call('get', 'large'))";
    let arguments = vec![script.into(), b"0".to_vec()];
    client.execute("EVAL", arguments).await.unwrap();
    node.publish("x").await.unwrap();
    assert_eq!(listener.data(1).await, ["x"]);
}

#[tokio::test]
async fn a_broker_that_is_dropped_no_longer_listens() {
    let server = Server::start(&[]);
    let node = Node::started(&server).await;
    assert_eq!(server.subscriptions(), 1);
    drop(node.broker);
    until("it does not listen", || async { server.connections() == 0 }).await;
}
