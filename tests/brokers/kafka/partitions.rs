//! Topics with several partitions.

mod changes;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use fanfare_tests::wait::PATIENCE;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, OwnedHeaders, ToBytes},
    producer::{FutureProducer, FutureRecord, Producer as _},
};

use super::*;
use crate::nodes::{Client, numbers};

/// As [`Server`], whose topics have several partitions.
struct Several(Server);

const PARTITIONS: usize = 3;

impl Kit for Several {
    const NAME: &'static str = "kafka, 3 partitions";

    fn start() -> Self {
        Self::of(Server::start())
    }

    fn start_to_break() -> Self {
        Self::of(Server::start_to_break())
    }

    fn start_behind(proxy: &Proxy) -> Option<Self> {
        Server::start_behind(proxy).map(Self::of)
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        self.0.broker(log, retention)
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn restart(&mut self) {
        self.0.restart();
    }

    fn freeze(&self) {
        self.0.freeze();
    }

    fn thaw(&self) {
        self.0.thaw();
    }
}

conformance!(Several);

impl Several {
    fn of(server: Server) -> Self {
        Self(Server {
            partitions: PARTITIONS,
            ..server
        })
    }

    fn topic(&self) -> String {
        self.0.topic("log")
    }

    /// Another program that produces, in transactions if they are named.
    fn producer(&self, transactions: Option<&str>) -> FutureProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.0.address);
        config.set("linger.ms", "0");
        if let Some(name) = transactions {
            config.set("transactional.id", name);
        }
        config.create().unwrap()
    }

    /// What is in each partition, once there are so many records in all of them.
    async fn records(&self, count: usize) -> Vec<Vec<(String, String)>> {
        self.read(&self.topic(), PARTITIONS, move |records| {
            records.iter().map(Vec::len).sum::<usize>() >= count
        })
        .await
    }

    /// What is in each partition of a topic, as keys and values, once it is enough.
    async fn read(
        &self,
        topic: &str,
        partitions: usize,
        enough: impl Fn(&[Vec<(String, String)>]) -> bool + Send + 'static,
    ) -> Vec<Vec<(String, String)>> {
        let (address, topic) = (self.0.address.clone(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", address)
                .set("group.id", "test")
                .create()
                .unwrap();
            let mut from = TopicPartitionList::new();
            for partition in 0..partitions as i32 {
                from.add_partition_offset(&topic, partition, Offset::Beginning)
                    .unwrap();
            }
            consumer.assign(&from).unwrap();
            let mut records = vec![Vec::new(); partitions];
            let begun = Instant::now();
            while !enough(&records) {
                assert!(begun.elapsed() < Duration::from_secs(20), "{records:?}");
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    let text = |bytes: Option<&[u8]>| {
                        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                    };
                    let record = (text(message.key()), text(message.payload()));
                    records[message.partition() as usize].push(record);
                }
            }
            records
        })
        .await
    }
}

/// The partition that Java's clients put records with a key into.
fn partition_of(channel: &str) -> usize {
    let bytes = channel.to_bytes();
    let mix = |word: u32| {
        let word = word.wrapping_mul(0x5bd1_e995);
        (word ^ (word >> 24)).wrapping_mul(0x5bd1_e995)
    };
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes(word.try_into().unwrap());
        hash = hash.wrapping_mul(0x5bd1_e995) ^ mix(word);
    }
    let rest = words.remainder();
    for (index, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(0x5bd1_e995);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0x5bd1_e995);
    hash ^= hash >> 15;
    (hash & 0x7fff_ffff) as usize % PARTITIONS
}

/// A channel in each partition.
fn channels() -> Vec<String> {
    let of = |partition| {
        let mut names = (0..).map(|number| format!("c{number}"));
        names.find(|name| partition_of(name) == partition).unwrap()
    };
    (0..PARTITIONS).map(of).collect()
}

/// Puts a record into a partition, and waits until it is acknowledged unless it is part of a transaction.
async fn produce(producer: &FutureProducer, topic: &str, partition: usize, key: &str, data: &str) {
    let record = FutureRecord::to(topic).partition(partition as i32);
    let sent = producer.send_result(record.key(key).payload(data)).unwrap();
    sent.await.unwrap().unwrap();
}

/// The epoch and the position in an id.
fn position(id: &str) -> (&str, u64) {
    let (epoch, position) = id.split_once('-').unwrap();
    (epoch, position.parse().unwrap())
}

fn names(channels: &[String]) -> Vec<&str> {
    channels.iter().map(String::as_str).collect()
}

/// Hears so many events, of which none may be a gap.
async fn events(client: &mut Client, count: usize) -> Vec<(String, String)> {
    let mut events = Vec::new();
    while events.len() < count {
        match client.next().await {
            Heard::Event(id, data) => events.push((id, data)),
            gap => panic!("{gap:?} after {events:?}"),
        }
    }
    events
}

#[test]
fn nodes_under_load_agree_on_places_and_order() {
    nodes::run(async {
        const CHANNELS: usize = 30;
        const EVENTS: usize = 60;
        let kit = Several::start();
        let nodes = [
            Arc::new(Node::start(&kit, "log").await),
            Arc::new(Node::start(&kit, "log").await),
        ];
        let channels: Vec<_> = (0..CHANNELS).map(|number| format!("c{number}")).collect();
        let mut clients = Vec::new();
        for node in &nodes {
            clients.push(node.client(None, &names(&channels)).await);
        }
        let publishers = channels.iter().enumerate().map(|(number, channel)| {
            let (node, channel) = (nodes[number % 2].clone(), channel.clone());
            tokio::spawn(async move {
                for event in 0..EVENTS {
                    node.publish(&channel, &format!("{channel} {event}"))
                        .await
                        .unwrap();
                }
            })
        });
        for publisher in publishers.collect::<Vec<_>>() {
            publisher.await.unwrap();
        }
        let mut heard = Vec::new();
        for client in &mut clients {
            heard.push(events(client, CHANNELS * EVENTS).await);
        }
        assert_eq!(heard[0], heard[1]);
        let places: Vec<_> = heard[0].iter().map(|(id, _)| position(id)).collect();
        assert!(places.is_sorted_by(|a, b| a.0 == b.0 && a.1 < b.1));
        for channel in &channels {
            let own = heard[0]
                .iter()
                .filter_map(|(_, data)| data.strip_prefix(channel)?.strip_prefix(' '));
            assert_eq!(own.collect::<Vec<_>>(), numbers(0..EVENTS));
        }
        let used = kit.records(CHANNELS * EVENTS).await;
        assert!(used.iter().all(|records| !records.is_empty()));
        // Whoever reads it back finds the same.
        let late = Node::start(&kit, "log").await;
        for channel in &channels {
            let history = late.feed.history(&name(channel), EVENTS).await.unwrap();
            let ids: Vec<_> = history
                .iter()
                .map(|event| event.id().unwrap().to_owned())
                .collect();
            let own = heard[0].iter().filter(|(_, data)| {
                data.strip_prefix(channel)
                    .is_some_and(|rest| rest.starts_with(' '))
            });
            assert_eq!(ids, own.map(|(id, _)| id.clone()).collect::<Vec<_>>());
        }
        // Any place is one on any node.
        for (place, (id, _)) in heard[0].iter().enumerate().step_by(371) {
            let mut client = late.client(Some(id), &names(&channels)).await;
            let rest = &heard[0][place + 1..];
            assert_eq!(events(&mut client, rest.len()).await, rest);
        }
    });
}

#[test]
fn what_others_produce_is_delivered_once_and_in_its_order() {
    nodes::run(async {
        const EVENTS: usize = 150;
        let kit = Arc::new(Several::start());
        let (create, topic) = (kit.clone(), kit.topic());
        blocking(move || create.0.server().create_topic(&topic, PARTITIONS as u32)).await;
        let (producer, topic) = (kit.producer(None), kit.topic());
        let (early, channels) = (channels(), ["x", "y", "z"]);
        // Before any node was there; wherever somebody likes to put it.
        for (number, key) in channels.iter().enumerate() {
            produce(&producer, &topic, number, key, "early").await;
        }
        let node = Node::start(&*kit, "log").await;
        for key in channels {
            let history = node.feed.history(&name(key), 10).await.unwrap();
            assert_eq!(history.len(), 1, "{key}");
        }
        let mut client = node.client(None, &channels).await;
        for event in 0..EVENTS {
            let sent = (0..PARTITIONS).map(|partition| {
                let data = format!("{partition} {event}");
                let record = FutureRecord::to(&topic).partition(partition as i32);
                let record = record.key(channels[event % 3]).payload(&data);
                producer.send_result(record).unwrap()
            });
            for sent in sent.collect::<Vec<_>>() {
                sent.await.unwrap().unwrap();
            }
        }
        let heard = events(&mut client, PARTITIONS * EVENTS).await;
        for partition in 0..PARTITIONS {
            let prefix = format!("{partition} ");
            let own = heard
                .iter()
                .filter_map(|(_, data)| data.strip_prefix(&prefix));
            assert_eq!(own.collect::<Vec<_>>(), numbers(0..EVENTS));
        }
        // A channel is in one partition, whoever produces its events.
        let java = kit.clone();
        let keys = early.clone();
        blocking(move || {
            let records: Vec<_> = keys.iter().map(|key| (key.as_str(), "java")).collect();
            java.0.server().produce(&java.topic(), &records);
        })
        .await;
        for channel in &early {
            node.publish(channel, "node").await.unwrap();
        }
        let all = kit.records(3 + PARTITIONS * EVENTS + 6).await;
        for (partition, channel) in early.iter().enumerate() {
            let own = all[partition].iter().filter(|(key, _)| key == channel);
            let own: Vec<_> = own.map(|(_, data)| data.as_str()).collect();
            assert_eq!(own, ["java", "node"], "{channel}");
        }
    });
}

#[test]
fn where_the_node_that_orders_ends_another_one_does() {
    nodes::run(async {
        let kit = Several::start();
        let channels = channels();
        let listener = Arc::new(Node::start(&kit, "log").await);
        let mut client = listener.client(None, &names(&channels)).await;
        let mut published = Vec::new();
        for round in 0..4 {
            let node = Arc::new(Node::start(&kit, "log").await);
            let counts = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
            let publishers = counts.iter().enumerate().map(|(publisher, accepted)| {
                let (node, channel) = (node.clone(), channels[publisher].clone());
                let accepted = accepted.clone();
                tokio::spawn(async move {
                    let mut count = 0;
                    loop {
                        let id = format!("{round}.{publisher} {count}");
                        if node.publish_own(&channel, &id).await.is_ok() {
                            count += 1;
                            accepted.store(count, Ordering::Relaxed);
                        }
                    }
                })
            });
            let publishers: Vec<_> = publishers.collect();
            // It is the one that orders, at some time: whoever publishes first of all after a while, and then all the time.
            tokio::time::sleep(Duration::from_millis(300)).await;
            // And until there is something of each to put into order.
            for accepted in &counts {
                while accepted.load(Ordering::Relaxed) < 10 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            for publisher in publishers {
                publisher.abort();
            }
            drop(node);
            let begun = Instant::now();
            let end = format!("end {round}");
            while let Err(error) = listener.publish_own(&channels[round % 3], &end).await {
                assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
                assert!(begun.elapsed() < PATIENCE, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            println!("ordered again after {:?}", begun.elapsed());
            let heard = client.until(&end).await;
            published.extend(heard.into_iter().map(|heard| match heard {
                Heard::Event(id, data) => {
                    assert_eq!(id, data);
                    data
                }
                Heard::Gap(_) => panic!("a gap"),
            }));
        }
        let mut next = HashMap::new();
        for id in &published {
            let (publisher, count) = id.split_once(' ').unwrap();
            let next = next.entry(publisher).or_insert(0);
            assert_eq!(count.parse::<usize>().unwrap(), *next, "{id}");
            *next += 1;
        }
        assert!(next.len() == 12 && published.len() > 100, "{next:?}");
    });
}

#[test]
fn an_open_transaction_holds_up_its_partition_only() {
    nodes::run(async {
        let kit = Arc::new(Several::start());
        let node = Arc::new(Node::start(&*kit, "log").await);
        let (topic, channels) = (kit.topic(), channels());
        let mut client = node.client(None, &names(&channels)).await;
        let producer = Arc::new(kit.producer(Some(&topic)));
        let limit = Duration::from_secs(20);
        let other = producer.clone();
        blocking(move || other.init_transactions(limit).unwrap()).await;
        for commits in [true, false] {
            producer.begin_transaction().unwrap();
            produce(&producer, &topic, 0, &channels[0], "open").await;
            // The others go on, and so does whoever comes back on them.
            let last = node.publish(&channels[1], "1").await.unwrap().id;
            node.publish(&channels[2], "2").await.unwrap();
            assert_eq!(client.data(2).await, ["1", "2"]);
            let mut back = node.client(Some(&last), &names(&channels)).await;
            assert_eq!(back.data(1).await, ["2"]);
            let error = node.publish_own(&channels[0], &format!("{commits}")).await;
            let error = error.unwrap_err().to_string();
            assert!(error.contains("was accepted"), "{error}");
            let other = producer.clone();
            blocking(move || match commits {
                true => other.commit_transaction(limit).unwrap(),
                false => other.abort_transaction(limit).unwrap(),
            })
            .await;
            if commits {
                assert_eq!(client.data(1).await, ["open"]);
            }
            assert_eq!(client.data(1).await, [format!("{commits}")]);
            let again = node.publish_own(&channels[0], &format!("{commits}")).await;
            assert!(again.unwrap().duplicate);
        }
        let history = node.feed.history(&name(&channels[0]), 10).await.unwrap();
        assert_eq!(history.len(), 3);
    });
}

#[test]
fn more_is_kept_than_waits_in_memory() {
    nodes::run(async {
        // In two partitions each more than may wait for its turn.
        const EVENTS: usize = 120;
        let kit = Several::start();
        let first = Node::start(&kit, "log").await;
        let (producer, topic) = (kit.producer(None), kit.topic());
        let large = "x".repeat(200_000);
        let mut client = first.client(None, &["x", "y"]).await;
        let put = |partition, key: &'static str| {
            let (producer, topic, large) = (producer.clone(), topic.clone(), large.clone());
            async move {
                for count in 0..EVENTS {
                    produce(
                        &producer,
                        &topic,
                        partition,
                        key,
                        &format!("{count} {large}"),
                    )
                    .await;
                }
            }
        };
        tokio::join!(put(0, "x"), put(2, "y"));
        let heard = events(&mut client, 2 * EVENTS).await;
        drop(first);
        let late = Node::start(&kit, "log").await;
        let mut client = late.client(Some(&heard[0].0), &["x", "y"]).await;
        assert_eq!(events(&mut client, 2 * EVENTS - 1).await, heard[1..]);
    });
}

#[test]
fn where_nothing_is_published_its_order_is_found_all_the_same() {
    nodes::run(async {
        let kit = Several::start();
        let short = Retention {
            age: Duration::from_secs(2),
            ..RETENTION
        };
        let _idle = Node::with(&kit, "log", short).await;
        // Whoever begins looks for a cut no further back than for a mark, which has no value.
        let order = kit.0.topic("log.order");
        let written = kit.read(&order, 1, |records| {
            let cuts = records[0].iter().filter(|(_, value)| !value.is_empty());
            cuts.count() >= 4
        });
        for (_, value) in &written.await[0] {
            assert!(["", "0 0 0"].contains(&value.as_str()), "{value}");
        }
    });
}
