//! What holds while something breaks, with every event accounted for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare::broker::{BrokerError, Retention};
use fanfare_tests::{
    account::Account,
    servers::proxy::{Middle, Proxy},
    wait::PATIENCE,
};
use tokio::task::{JoinHandle, block_in_place};

use crate::{
    kit::{Kit, RETENTION, TIMEOUT},
    nodes::{Client, Heard, Node},
};

macro_rules! tests {
    ($kit:ident) => {
        $crate::suite::tests!($kit @ faults:
            a_server_that_is_killed_loses_nothing_that_it_accepted
            a_server_that_stands_still_is_unavailable_and_loses_nothing
            a_connection_that_is_cut_while_events_are_published_loses_nothing
            starting_fails_with_a_reason_and_may_be_tried_again
            a_node_that_ends_is_no_trouble_to_others
        );
    };
}
pub(crate) use tests;

/// Nodes under load: on each, some publish, and some listen.
pub struct Load {
    /// What carries the events.
    broker: &'static str,
    nodes: Vec<Arc<Node>>,
    clients: Vec<Listening>,
    publishers: Vec<JoinHandle<usize>>,
    stop: Arc<AtomicBool>,
    /// Publications that were accepted so far.
    accepted: Arc<AtomicUsize>,
    /// The longest time until all went on after a fault.
    slowest: Duration,
}

/// A client that listens.
struct Listening {
    /// How much it has heard so far.
    count: Arc<AtomicUsize>,
    task: JoinHandle<(Client, Vec<Heard>)>,
}

const PUBLISHERS: usize = 3;
const CHANNELS: [&str; 2] = ["x", "y"];
/// More than is published while a node is away.
const ALL: Retention = Retention {
    events: 50_000,
    ..RETENTION
};
/// Events that have to be accepted, and heard by everybody, before all goes on.
const ON: usize = 50;

impl Load {
    pub async fn start<K: Kit>(kit: &K) -> Self {
        let mut load = Self {
            broker: K::NAME,
            nodes: Vec::new(),
            clients: Vec::new(),
            publishers: Vec::new(),
            stop: Arc::default(),
            accepted: Arc::default(),
            slowest: Duration::ZERO,
        };
        for _ in 0..2 {
            let node = Arc::new(Node::with(kit, "log", ALL).await);
            for _ in 0..2 {
                let client = node.client(None, &CHANNELS).await;
                load.clients.push(Listening::start(client));
            }
            load.nodes.push(node);
        }
        for (number, node) in load.nodes.iter().enumerate() {
            for publisher in 0..PUBLISHERS {
                let (node, stop, accepted) =
                    (node.clone(), load.stop.clone(), load.accepted.clone());
                load.publishers.push(tokio::spawn(async move {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let channel = CHANNELS[count % CHANNELS.len()];
                        let id = id(number, publisher, count);
                        // Under the same id until it is accepted: where nobody can know whether it was, that is safe.
                        while let Err(error) = node.publish_own(channel, &id).await {
                            assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        count += 1;
                        accepted.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    count
                }));
            }
        }
        load.more(100).await;
        load
    }

    /// Waits until so many more were accepted and everybody has heard as many more, and returns how long that took.
    async fn more(&self, events: usize) -> Duration {
        let begun = Instant::now();
        let counts = self.clients.iter().map(|client| &client.count);
        let counts = counts.chain([&self.accepted]);
        let wanted = counts.map(|count| (count, count.load(Ordering::Relaxed) + events));
        for (count, wanted) in wanted.collect::<Vec<_>>() {
            while count.load(Ordering::Relaxed) < wanted {
                assert!(begun.elapsed() < Duration::from_secs(60), "nothing goes on");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        begun.elapsed()
    }

    /// Waits until all goes on after a fault.
    pub async fn goes_on(&mut self) {
        self.slowest = self.slowest.max(self.more(ON).await);
    }

    /// Ends it, and reports what became of all events.
    pub async fn end(self, fault: &str) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let mut accepted = Vec::new();
        for (number, publisher) in self.publishers.into_iter().enumerate() {
            let count = publisher.await.unwrap();
            let (node, publisher) = (number / PUBLISHERS, number % PUBLISHERS);
            accepted.extend((0..CHANNELS.len()).map(|channel| {
                let counts = (channel..count).step_by(CHANNELS.len());
                let ids = counts.map(|count| id(node, publisher, count));
                ids.collect::<Vec<_>>()
            }));
        }
        // On one channel, after all that was on the other one: each client hears both in one order.
        for channel in CHANNELS {
            let begun = Instant::now();
            while let Err(error) = self.nodes[0].publish_own(channel, "end").await {
                assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
                assert!(begun.elapsed() < PATIENCE, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let mut all = Vec::new();
        for client in self.clients {
            let (mut client, mut heard) = client.task.await.unwrap();
            heard.extend(client.until("end").await);
            all.push(heard);
        }
        let heard = |heard: &'_ Heard| match heard {
            Heard::Event(id, _) => Some(id.clone()),
            Heard::Gap(_) => None,
        };
        let all: Vec<Vec<_>> = all
            .iter()
            .map(|client| client.iter().map(heard).collect())
            .collect();
        let all = all
            .iter()
            .map(|client| client.iter().map(|id| id.as_deref()));
        let account = Account::new(&accepted, all);
        account.report(self.broker, fault, self.slowest);
        account
    }
}

impl Listening {
    fn start(mut client: Client) -> Self {
        let count = Arc::<AtomicUsize>::default();
        let counted = count.clone();
        let task = tokio::spawn(async move {
            let mut heard = Vec::new();
            loop {
                // A server may take its time to start again.
                match client.next_within(3 * PATIENCE).await {
                    Heard::Event(_, data) if data == "end" => return (client, heard),
                    next => heard.push(next),
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { count, task }
    }
}

/// What a publisher of a node publishes.
fn id(node: usize, publisher: usize, count: usize) -> String {
    format!("{node}.{publisher}-{count}")
}

pub async fn a_server_that_is_killed_loses_nothing_that_it_accepted<K: Kit>() {
    let mut kit = K::start_to_break();
    let mut load = Load::start(&kit).await;
    for _ in 0..3 {
        kit.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        kit.restart();
        load.goes_on().await;
    }
    load.end("killed").await.check();
}

pub async fn a_server_that_stands_still_is_unavailable_and_loses_nothing<K: Kit>() {
    let kit = K::start_to_break();
    let mut load = Load::start(&kit).await;
    for frozen in [Duration::from_millis(500), 2 * TIMEOUT] {
        kit.freeze();
        let node = load.nodes[0].clone();
        let begun = Instant::now();
        let published = tokio::spawn(async move { node.publish("z", "late").await });
        tokio::time::sleep(frozen).await;
        if frozen > TIMEOUT {
            let late = tokio::time::timeout(2 * TIMEOUT, published).await;
            let late = late.expect("publishing hangs").unwrap();
            assert!(matches!(late, Err(BrokerError::Unavailable(_))), "{late:?}");
            assert!(begun.elapsed() < 4 * TIMEOUT);
        }
        kit.thaw();
        load.goes_on().await;
    }
    load.end("frozen").await.check();
}

pub async fn a_connection_that_is_cut_while_events_are_published_loses_nothing<K: Kit>() {
    let proxy = Proxy::start("127.0.0.1:1");
    let Some(kit) = K::start_behind(&proxy) else {
        println!("{} has no connection that could be cut", K::NAME);
        return;
    };
    let mut load = Load::start(&kit).await;
    for round in 0..2 {
        for middle in [Middle::Request, Middle::Between, Middle::Answer] {
            // What one of the publishers sends, of either node.
            let request = format!("{round}.1-");
            proxy.cut_in(request.as_bytes(), middle);
            block_in_place(|| proxy.wait_until_cut());
            load.goes_on().await;
        }
    }
    load.end("cut").await.check();
}

pub async fn starting_fails_with_a_reason_and_may_be_tried_again<K: Kit>() {
    let mut kit = K::start_to_break();
    kit.kill();
    let node = Node::new(&kit, "log", RETENTION);
    let early = node.publish("news", "early").await;
    assert!(
        matches!(early, Err(BrokerError::Unavailable(_))),
        "{early:?}"
    );
    let begun = Instant::now();
    let error = node.feed.start().await.unwrap_err();
    assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
    assert!(begun.elapsed() < 4 * TIMEOUT, "{:?}", begun.elapsed());
    kit.restart();
    while let Err(error) = node.feed.start().await {
        assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
        assert!(begun.elapsed() < 20 * TIMEOUT, "{error}");
    }
    let mut client = node.client(None, &["news"]).await;
    node.publish("news", "0").await.unwrap();
    assert_eq!(client.data(1).await, ["0"]);
}

pub async fn a_node_that_ends_is_no_trouble_to_others<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    let mut client = a.client(None, &["news"]).await;
    let lost = b.client(None, &["news"]).await;
    b.publish("news", "0").await.unwrap();
    drop((lost, b));
    a.publish("news", "1").await.unwrap();
    assert_eq!(client.data(2).await, ["0", "1"]);
}
