//! What holds while something breaks, with every event accounted for.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fanfare::broker::BrokerError;
use tokio::task::JoinHandle;

use crate::{
    kit::{Kit, RETENTION, TIMEOUT},
    nodes::{Client, Heard, Node},
};

macro_rules! tests {
    ($kit:ident) => {
        $crate::suite::tests!($kit @ faults:
            a_server_that_is_killed_loses_nothing_that_it_accepted
            a_server_that_stands_still_is_unavailable_and_loses_nothing
            starting_fails_with_a_reason_and_may_be_tried_again
            a_node_that_ends_is_no_trouble_to_others
        );
    };
}
pub(crate) use tests;

/// Nodes under load: on each, some publish, and some listen.
pub struct Load {
    nodes: Vec<Arc<Node>>,
    clients: Vec<JoinHandle<(Client, Vec<Heard>)>>,
    publishers: Vec<JoinHandle<usize>>,
    stop: Arc<AtomicBool>,
    /// Publications that were accepted so far.
    accepted: Arc<AtomicUsize>,
}

/// What became of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Account {
    accepted: usize,
    lost: usize,
    twice: usize,
    gaps: usize,
    reordered: usize,
}

const PUBLISHERS: usize = 3;
const CHANNELS: [&str; 2] = ["x", "y"];

impl Load {
    pub async fn start(kit: &impl Kit) -> Self {
        let mut load = Self {
            nodes: Vec::new(),
            clients: Vec::new(),
            publishers: Vec::new(),
            stop: Arc::default(),
            accepted: Arc::default(),
        };
        for _ in 0..2 {
            let node = Arc::new(Node::start(kit, "log").await);
            for _ in 0..2 {
                let mut client = node.client(None, &CHANNELS).await;
                load.clients.push(tokio::spawn(async move {
                    let heard = client.until("end").await;
                    (client, heard)
                }));
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
                        let id = format!("{number}.{publisher}-{count}");
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

    /// Waits until so many more were accepted, and returns how long that took.
    pub async fn more(&self, events: usize) -> Duration {
        let begun = Instant::now();
        let enough = self.accepted.load(Ordering::Relaxed) + events;
        while self.accepted.load(Ordering::Relaxed) < enough {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing goes on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    }

    pub async fn end(self, what: &str) -> Account {
        self.stop.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        for publisher in self.publishers {
            counts.push(publisher.await.unwrap());
        }
        // On one channel, after all that was on the other one: each client hears both in one order.
        let mut account = Account {
            accepted: counts.iter().sum(),
            ..Account::default()
        };
        let ended = Instant::now();
        for channel in CHANNELS {
            self.nodes[0].publish(channel, "end").await.unwrap();
        }
        for client in self.clients {
            let (mut client, mut heard) = client.await.unwrap();
            heard.extend(client.until("end").await);
            account.add(&heard, &counts);
        }
        println!(
            "{what}: {account:?}, the last was heard {:?} after",
            ended.elapsed()
        );
        account
    }
}

impl Account {
    fn add(&mut self, heard: &[Heard], counts: &[usize]) {
        let mut times: HashMap<&str, usize> = HashMap::new();
        let mut newest: HashMap<(&str, &str), usize> = HashMap::new();
        for heard in heard {
            let Heard::Event(id, _) = heard else {
                self.gaps += 1;
                continue;
            };
            let known = times.entry(id).or_default();
            *known += 1;
            if *known > 1 {
                self.twice += 1;
                continue;
            }
            let (publisher, number) = id.split_once('-').unwrap();
            let number: usize = number.parse().unwrap();
            let channel = CHANNELS[number % CHANNELS.len()];
            let before = newest.insert((publisher, channel), number);
            self.reordered += usize::from(before > Some(number));
        }
        for (publisher, count) in counts.iter().enumerate() {
            let (node, publisher) = (publisher / PUBLISHERS, publisher % PUBLISHERS);
            let ids = (0..*count).map(|number| format!("{node}.{publisher}-{number}"));
            self.lost += ids.filter(|id| !times.contains_key(id.as_str())).count();
        }
    }

    /// Nothing is lost in silence, and nothing is heard twice.
    #[track_caller]
    pub fn check_told(&self) {
        assert!(self.lost == 0 || self.gaps > 0, "{self:?}");
        assert_eq!((self.twice, self.reordered), (0, 0), "{self:?}");
    }

    /// Nothing is lost, and nothing is heard twice.
    #[track_caller]
    pub fn check(&self) {
        let accepted = self.accepted;
        let right = Self {
            accepted,
            ..Self::default()
        };
        assert_eq!(*self, right);
    }
}

pub async fn a_server_that_is_killed_loses_nothing_that_it_accepted<K: Kit>() {
    let mut kit = K::start_to_break();
    let load = Load::start(&kit).await;
    for _ in 0..3 {
        kit.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        kit.restart();
        println!("it goes on {:?} after the restart", load.more(50).await);
    }
    load.end("killed").await.check();
}

pub async fn a_server_that_stands_still_is_unavailable_and_loses_nothing<K: Kit>() {
    let kit = K::start_to_break();
    let load = Load::start(&kit).await;
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
        println!("it goes on {:?} after the thaw", load.more(50).await);
    }
    load.end("frozen").await.check();
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
