//! What holds while nothing breaks.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    kit::{ECHO, Kit},
    nodes::{Heard, Node, name, numbers},
};

macro_rules! tests {
    ($kit:ident) => {
        $crate::suite::tests!($kit @ suite:
            all_nodes_hear_all_events_in_one_order
            what_was_published_is_on_its_way_when_publishing_returns
            an_id_is_heard_once_whichever_node_publishes_it
            a_client_that_goes_to_another_node_goes_on_where_it_was
            one_id_is_a_place_on_every_channel
            ids_of_guests_are_places_too
            clients_come_back_while_others_publish
            a_node_listens_only_while_somebody_hears
            channels_come_and_go_while_others_publish
            logs_of_other_names_are_not_heard
            any_channel_and_any_data_are_carried
        );
    };
    ($kit:ident @ $module:ident: $($test:ident)*) => {
        mod $module {
            $(#[test]
            fn $test() {
                $crate::nodes::run($crate::$module::$test::<super::$kit>());
            })*
        }
    };
}
pub(crate) use tests;

pub async fn all_nodes_hear_all_events_in_one_order<K: Kit>() {
    const TASKS: usize = 4;
    const EVENTS: usize = 100;
    let kit = K::start();
    let nodes = [
        Arc::new(Node::start(&kit, "log").await),
        Arc::new(Node::start(&kit, "log").await),
    ];
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(node.client(None, &["news"]).await);
    }
    let mut tasks = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        for task in 0..TASKS {
            let node = node.clone();
            tasks.push(tokio::spawn(async move {
                let mut in_time = 0;
                for event in 0..EVENTS {
                    let data = format!("{number}{task} {event}");
                    let begun = Instant::now();
                    let published = node.publish("news", &data).await.unwrap();
                    assert!(!published.duplicate);
                    if begun.elapsed() < ECHO {
                        assert_eq!(published.delivered, 1);
                        in_time += 1;
                    }
                }
                assert!(in_time > EVENTS / 2, "{in_time} were delivered at once");
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let count = nodes.len() * TASKS * EVENTS;
    let mut heard = Vec::new();
    for client in &mut clients {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(client.next().await);
        }
        heard.push(events);
    }
    assert_eq!(heard[0], heard[1]);
    let different: HashSet<_> = heard[0].iter().collect();
    assert_eq!(different.len(), count);
    for publisher in ["00", "01", "02", "03", "10", "11", "12", "13"] {
        let numbers = heard[0].iter().filter_map(|heard| match heard {
            Heard::Event(_, data) => data.strip_prefix(publisher)?.strip_prefix(' '),
            Heard::Gap(_) => panic!("a gap"),
        });
        let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    }
}

pub async fn what_was_published_is_on_its_way_when_publishing_returns<K: Kit>() {
    let kit = K::start();
    let node = Node::start(&kit, "log").await;
    let mut in_time = 0;
    while in_time < 20 {
        let mut client = node.client(None, &["news"]).await;
        let begun = Instant::now();
        let published = node.publish("news", "last").await.unwrap();
        if begun.elapsed() >= ECHO {
            continue;
        }
        in_time += 1;
        let id = client.connection.id().to_string();
        node.space.remove(&id, &name("news")).unwrap();
        assert_eq!(
            client.next().await,
            Heard::Event(published.id, "last".into())
        );
    }
}

pub async fn an_id_is_heard_once_whichever_node_publishes_it<K: Kit>() {
    let kit = K::start();
    let (node, other) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    let mut client = other.client(None, &["news"]).await;
    let given = node.publish("news", "a").await.unwrap();
    fanfare::event::check_id(&given.id, fanfare::event::IdForm::Plain).unwrap();
    assert_eq!((given.delivered, given.duplicate), (0, false));
    let first = node.publish_own("news", "größe 1").await.unwrap();
    assert_eq!((first.id.as_str(), first.duplicate), ("größe 1", false));
    for node in [&node, &other] {
        let again = node.publish_own("news", "größe 1").await.unwrap();
        assert_eq!((again.id.as_str(), again.duplicate), ("größe 1", true));
    }
    // It is another event on another channel.
    assert!(
        !node
            .publish_own("weather", "größe 1")
            .await
            .unwrap()
            .duplicate
    );
    node.publish("news", "c").await.unwrap();
    assert_eq!(client.data(3).await, ["a", "größe 1", "c"]);
}

pub async fn a_client_that_goes_to_another_node_goes_on_where_it_was<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    let mut client = a.client(None, &["news"]).await;
    a.publish_numbers("news", 0..5).await;
    assert_eq!(client.data(5).await, numbers(0..5));
    let last = client.last.clone();
    drop(client);
    a.publish_numbers("news", 5..8).await;
    // Nobody has ever listened there.
    let mut client = b.client(last.as_deref(), &["news"]).await;
    a.publish_numbers("news", 8..10).await;
    assert_eq!(client.data(5).await, numbers(5..10));
    // Now the node has heard of it, but not of what was before.
    let mut other = b.client(last.as_deref(), &["news"]).await;
    assert_eq!(other.data(5).await, numbers(5..10));
    let (mut client, mut other) = (
        a.client(client.last.as_deref(), &["news"]).await,
        a.client(other.last.as_deref(), &["news"]).await,
    );
    b.publish("news", "end").await.unwrap();
    assert_eq!(client.until("end").await, []);
    assert_eq!(other.until("end").await, []);
}

pub async fn one_id_is_a_place_on_every_channel<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    a.publish("x", "0").await.unwrap();
    a.publish("y", "1").await.unwrap();
    let last = a.publish("x", "2").await.unwrap().id;
    a.publish("y", "3").await.unwrap();
    a.publish("x", "4").await.unwrap();
    a.publish("y", "5").await.unwrap();
    let mut client = b.client(Some(&last), &["x", "y", "z"]).await;
    assert_eq!(client.data(3).await, ["3", "4", "5"]);
    let mut client = a.client(client.last.as_deref(), &["y", "x"]).await;
    b.publish("x", "end").await.unwrap();
    assert_eq!(client.until("end").await, []);
}

pub async fn ids_of_guests_are_places_too<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    for (channel, id) in [("x", "1"), ("y", "2"), ("x", "3"), ("y", "4"), ("y", "5")] {
        a.publish_own(channel, id).await.unwrap();
    }
    let mut client = b.client(Some("3"), &["x"]).await;
    a.publish_own("x", "6").await.unwrap();
    assert_eq!(client.data(1).await, ["6"]);
    let mut client = b.client(Some("3"), &["y"]).await;
    assert_eq!(client.data(2).await, ["4", "5"]);
    // One that is on two channels is a place on its own channels only, whatever this node has heard of the others.
    let _hears = b.client(None, &["x"]).await;
    for (channel, id) in [("z", "7"), ("z", "8"), ("x", "7"), ("z", "9")] {
        a.publish_own(channel, id).await.unwrap();
    }
    let mut client = b.client(Some("7"), &["z"]).await;
    assert_eq!(client.data(2).await, ["8", "9"]);
    a.publish_own("y", "1").await.unwrap();
    let mut client = b.client(Some("1"), &["x"]).await;
    assert_eq!(client.data(3).await, ["3", "6", "7"]);
}

/// Each client goes from one node to the other again and again, and hears everything once.
pub async fn clients_come_back_while_others_publish<K: Kit>() {
    const EVENTS: usize = 600;
    const CLIENTS: usize = 4;
    let kit = K::start();
    let nodes = [
        Arc::new(Node::start(&kit, "log").await),
        Arc::new(Node::start(&kit, "log").await),
    ];
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let nodes = nodes.clone();
        let first = nodes[number % 2].client(None, &["x", "y"]).await;
        clients.push(tokio::spawn(async move {
            let (mut client, mut heard) = (first, Vec::new());
            for step in 0.. {
                // Not in step with one another.
                for _ in 0..7 + number * 3 {
                    heard.extend(client.data(1).await);
                    if heard.len() == 2 * EVENTS {
                        return heard;
                    }
                }
                let last = client.last.clone();
                drop(client);
                let node = &nodes[(step + number) % 2];
                client = node.client(last.as_deref(), &["x", "y"]).await;
            }
            heard
        }));
    }
    let mut publishers = Vec::new();
    for (node, channel) in nodes.iter().zip(["x", "y"]) {
        let node = node.clone();
        publishers.push(tokio::spawn(async move {
            for number in 0..EVENTS {
                let data = format!("{channel}{number}");
                node.publish(channel, &data).await.unwrap();
            }
        }));
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    for client in clients {
        let heard = client.await.unwrap();
        for channel in ["x", "y"] {
            let own = heard.iter().filter_map(|data| data.strip_prefix(channel));
            assert_eq!(own.collect::<Vec<_>>(), numbers(0..EVENTS));
        }
    }
}

pub async fn a_node_listens_only_while_somebody_hears<K: Kit>() {
    let kit = K::start();
    let node = Node::start(&kit, "log").await;
    let client = node.client(None, &["news"]).await;
    assert!(node.feed.listens(&name("news")));
    assert!(!node.feed.listens(&name("weather")));
    drop(client);
    let begun = std::time::Instant::now();
    while node.feed.listens(&name("news")) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it still listens"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What was published meanwhile is not missed by who comes back.
    let last = node.publish("news", "0").await.unwrap().id;
    node.publish("news", "1").await.unwrap();
    let mut client = node.client(Some(&last), &["news"]).await;
    assert_eq!(client.data(1).await, ["1"]);
}

/// A client that registers on a channel hears all that is published after that, however often others begin and end.
pub async fn channels_come_and_go_while_others_publish<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Arc::new(Node::start(&kit, "log").await),
        Arc::new(Node::start(&kit, "log").await),
    );
    let mut tasks = Vec::new();
    for task in 0..4 {
        let (a, b) = (a.clone(), b.clone());
        tasks.push(tokio::spawn(async move {
            for round in 0..25 {
                let channel = format!("c{}", (task + round) % 3);
                let mut client = b.client(None, &[&channel]).await;
                let data = format!("{task} {round}");
                a.publish(&channel, &data).await.unwrap();
                client.until(&data).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

pub async fn logs_of_other_names_are_not_heard<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "app-1:größe 1").await,
        Node::start(&kit, "other").await,
    );
    let mut client = b.client(None, &["news"]).await;
    let last = a.publish("news", "secret").await.unwrap().id;
    b.publish("news", "0").await.unwrap();
    assert_eq!(client.data(1).await, ["0"]);
    assert_eq!(b.feed.history(&name("news"), 10).await.unwrap().len(), 1);
    // An id of another log is no place.
    let mut client = b.client(Some(&last), &["news"]).await;
    assert_eq!(client.next().await, Heard::Gap("news".into()));
}

pub async fn any_channel_and_any_data_are_carried<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    let long = "☂".repeat(85);
    let channels = [
        "raum 1/größe ☂",
        "a.b.*",
        ">",
        "$x",
        "a}{b",
        "%20'\"\\;--",
        &long,
    ];
    for channel in channels {
        let mut client = b.client(None, &[channel]).await;
        for data in [
            "",
            "{\"a\": [1]}",
            "'; DROP TABLE events; --",
            "\u{1}\u{7f}☂",
        ] {
            let id = a.publish(channel, data).await.unwrap().id;
            assert_eq!(client.next().await, Heard::Event(id, data.into()));
        }
        let large = "x".repeat(300_000);
        a.publish(channel, &large).await.unwrap();
        assert_eq!(client.data(1).await, [large]);
    }
}
