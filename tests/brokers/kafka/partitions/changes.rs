//! What happens to topics while nodes run, and while none does.

use super::*;

#[test]
fn partitions_may_be_added_while_nodes_run() {
    nodes::run(async {
        let kit = Arc::new(Several::start());
        let short = Retention {
            age: Duration::from_secs(8),
            ..RETENTION
        };
        let nodes = [
            Arc::new(Node::with(&*kit, "log", short).await),
            Arc::new(Node::with(&*kit, "log", short).await),
        ];
        let mut channels = channels();
        channels.push("new".into());
        let mut clients = Vec::new();
        for node in &nodes {
            clients.push(node.client(None, &names(&channels)).await);
        }
        let publishers = (0..4).map(|publisher| {
            let (node, channel) = (
                nodes[publisher % 2].clone(),
                channels[publisher % 3].clone(),
            );
            tokio::spawn(async move {
                for count in 0..1200 {
                    let id = format!("{publisher} {count}");
                    while let Err(error) = node.publish_own(&channel, &id).await {
                        println!("{error}");
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        });
        let publishers: Vec<_> = publishers.collect();
        let (alter, topic) = (kit.clone(), kit.topic());
        blocking(move || alter.0.server().add_partitions(&topic, 6)).await;
        // Only who looks sees at once that they are there.
        let producer = kit.producer(None);
        for count in 0..30 {
            let partition = 3 + count % 3;
            produce(
                &producer,
                &kit.topic(),
                partition,
                "new",
                &format!("new{partition} {count}"),
            )
            .await;
        }
        for publisher in publishers {
            publisher.await.unwrap();
        }
        let mut all = Vec::new();
        for client in &mut clients {
            all.push(events(client, 4 * 1200 + 30).await);
        }
        assert_eq!(all[0], all[1]);
        let mut next = HashMap::new();
        for (_, id) in &all[0] {
            let (publisher, count) = id.split_once(' ').unwrap();
            let (first, step) = match publisher.strip_prefix("new") {
                Some(partition) => (partition.parse::<usize>().unwrap() - 3, 3),
                None => (0, 1),
            };
            let next = next.entry(publisher).or_insert(first);
            assert_eq!(count.parse::<usize>().unwrap(), *next, "{id}");
            *next += step;
        }
        assert_eq!(next.len(), 7);
        // It is the same log, for who was there and for who comes.
        let late = Node::with(&*kit, "log", short).await;
        let ids = nodes[0].publish_numbers("new", 0..2).await;
        let mut back = late.client(Some(&ids[0]), &["new"]).await;
        assert_eq!(back.data(1).await, ["1"]);
    });
}

#[test]
fn a_topic_that_is_given_more_partitions_than_one_is_another_log() {
    nodes::run(async {
        let kit = Arc::new(Server::start());
        let short = Retention {
            age: Duration::from_secs(20),
            ..RETENTION
        };
        let node = Node::with(&*kit, "log", short).await;
        let mut client = node.client(None, &["news"]).await;
        node.publish_numbers("news", 0..20).await;
        assert_eq!(client.data(20).await, numbers(0..20));
        let last = client.last.clone().unwrap();
        let several = Arc::new(Several(Server {
            prefix: kit.prefix.clone(),
            ..Server::start()
        }));
        let (alter, topic) = (kit.clone(), kit.topic("log"));
        blocking(move || alter.server().add_partitions(&topic, 3)).await;
        // Others go on meanwhile. The first partition is read all the time, the others from when it is seen that they are
        // there.
        let (producer, topic) = (several.producer(None), several.topic());
        let producing = tokio::spawn(async move {
            loop {
                for partition in 0..3 {
                    let data = format!("in {partition}");
                    produce(&producer, &topic, partition, "news", &data).await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let mut heard = Vec::new();
        while !(0..3).all(|partition| {
            let data = format!("in {partition}");
            let mut all = heard.iter();
            all.any(|heard| matches!(heard, Heard::Event(_, heard) if *heard == data))
        }) {
            heard.push(client.next().await);
        }
        producing.abort();
        assert!(heard.contains(&Heard::Gap("news".into())), "{heard:?}");
        assert_ne!(position(client.last.as_ref().unwrap()).0, position(&last).0);
        let mut old = node.client(Some(&last), &["news"]).await;
        assert_eq!(old.next().await, Heard::Gap("news".into()));
        let other = Node::with(&*kit, "log", short).await;
        let mut back = other.client(client.last.as_deref(), &["news"]).await;
        node.publish("news", "next").await.unwrap();
        for heard in back.until("next").await {
            assert!(matches!(heard, Heard::Event(..)), "{heard:?}");
        }
    });
}

async fn check_deleted(deleted: &str) {
    let kit = Arc::new(Several::start());
    let (delete, topic) = (kit.clone(), kit.0.topic(deleted));
    check_made_anew(&*kit, move || delete.0.server().delete_topic(&topic)).await;
}

#[test]
fn a_topic_that_was_made_anew_is_another_log() {
    nodes::run(check_deleted("log"));
}

#[test]
fn where_the_order_was_deleted_there_is_another_log() {
    nodes::run(check_deleted("log.order"));
}

#[test]
fn a_topic_that_was_made_anew_while_no_node_was_there_is_another_log() {
    nodes::run(async {
        let kit = Arc::new(Several::start());
        let node = Node::start(&*kit, "log").await;
        let last = node.publish_numbers("news", 0..20).await.pop().unwrap();
        drop(node);
        let delete = (kit.clone(), kit.topic());
        blocking(move || {
            let server = delete.0.0.server();
            server.delete_topic(&delete.1);
            server.create_topic(&delete.1, PARTITIONS as u32);
        })
        .await;
        // As long as it was before, and longer.
        let (producer, topic) = (kit.producer(None), kit.topic());
        for partition in 0..PARTITIONS {
            for count in 0..30 {
                produce(&producer, &topic, partition, "news", &count.to_string()).await;
            }
        }
        let node = Node::start(&*kit, "log").await;
        let mut client = node.client(Some(&last), &["news"]).await;
        assert_eq!(client.next().await, Heard::Gap("news".into()));
        let history = node.feed.history(&name("news"), 1000).await.unwrap();
        assert_eq!(history.len(), 90);
    });
}

#[test]
fn an_order_topic_that_has_no_order_is_refused() {
    nodes::run(async {
        let kit = Arc::new(Several::start());
        let (create, topic) = (kit.clone(), kit.0.topic("log.order"));
        blocking(move || create.0.server().create_topic(&topic, 2)).await;
        let node = Node::new(&*kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err().to_string();
        for part in [".order", "2 partitions"] {
            assert!(error.contains(part), "{error}");
        }
    });
}

#[test]
fn a_cut_of_what_is_not_there_stops_nothing_for_long() {
    nodes::run(async {
        let kit = Several::start();
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["news"]).await;
        node.publish_numbers("news", 0..20).await;
        assert_eq!(client.data(20).await, numbers(0..20));
        // Where each partition is ordered up to, once all is.
        let ordered = |value: &str| -> Vec<u64> {
            let spans = value.split(' ').map(|span| {
                let (offsets, _) = span.split_once('@').unwrap_or((span, ""));
                let (from, count) = offsets.split_once('+').unwrap_or((offsets, "0"));
                from.parse::<u64>().unwrap() + count.parse::<u64>().unwrap()
            });
            spans.collect()
        };
        let order = kit.0.topic("log.order");
        let written = kit.read(&order, 1, move |records| {
            let cut = records[0].iter().rfind(|(_, value)| !value.is_empty());
            cut.is_some_and(|(_, value)| ordered(value).iter().sum::<u64>() == 20)
        });
        let written = written.await;
        let (_, last) = written[0]
            .iter()
            .rfind(|(_, value)| !value.is_empty())
            .unwrap();
        let from = ordered(last);
        let value = format!("{}+1000 {} {}", from[0], from[1], from[2]);
        // Anybody who may write to the order topic can have it count.
        let header = |key, value| Header {
            key,
            value: Some(value),
        };
        let seen = written[0].len().to_string();
        let headers = OwnedHeaders::new().insert(header("fanfare-seen", seen.as_str()));
        let headers = headers.insert(header("fanfare-began", "0"));
        let record = FutureRecord::<str, _>::to(&order)
            .payload(&value)
            .headers(headers);
        kit.producer(None)
            .send_result(record)
            .unwrap()
            .await
            .unwrap()
            .unwrap();
        let begun = Instant::now();
        while let Err(error) = node.publish_own("news", "new").await {
            assert!(matches!(error, BrokerError::Unavailable(_)), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
        }
        node.publish("news", "end").await.unwrap();
        let heard = client.until("end").await;
        assert!(heard.contains(&Heard::Gap("news".into())), "{heard:?}");
        println!("all went on after {:?}", begun.elapsed());
    });
}
