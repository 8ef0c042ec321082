//! What is kept for clients that come back, and how they are told of what is not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare::broker::Retention;

use crate::{
    kit::{Kit, RETENTION},
    nodes::{Heard, Node, name, numbers},
};

macro_rules! tests {
    ($kit:ident) => {
        $crate::suite::tests!($kit @ kept:
            what_is_not_kept_any_more_is_a_gap
            what_has_grown_too_old_is_a_gap
            what_a_node_has_no_room_for_is_no_gap
            an_unknown_id_is_a_gap
            the_newest_events_are_history
        );
    };
}
pub(crate) use tests;

pub async fn what_is_not_kept_any_more_is_a_gap<K: Kit>() {
    let kit = K::start();
    let few = Retention {
        events: 10,
        ..RETENTION
    };
    let (a, b) = (
        Node::with(&kit, "log", few).await,
        Node::with(&kit, "log", few).await,
    );
    let ids = a.publish_numbers("news", 0..30).await;
    // A broker may keep more than it must.
    let mut client = b.client(Some(&ids[25]), &["news"]).await;
    assert_eq!(client.data(4).await, numbers(26..30));
    let mut client = b.client(Some(&ids[2]), &["news"]).await;
    a.publish("news", "end").await.unwrap();
    let heard = client.until("end").await;
    let (gap, rest) = heard.split_first().unwrap();
    match gap {
        Heard::Gap(channel) => {
            assert_eq!(channel, "news");
            assert!(rest.len() >= 9, "{rest:?}");
        }
        // It kept all of it; then this has to show it.
        Heard::Event(..) => assert_eq!(heard.len(), 27, "{heard:?}"),
    }
}

pub async fn what_has_grown_too_old_is_a_gap<K: Kit>() {
    const AGE: Duration = Duration::from_secs(1);
    let kit = K::start();
    let short = Retention {
        age: AGE,
        ..RETENTION
    };
    let (a, b) = (
        Node::with(&kit, "log", short).await,
        Node::with(&kit, "log", short).await,
    );
    let ids = a.publish_numbers("news", 0..3).await;
    tokio::time::sleep(AGE + AGE / 2).await;
    loop {
        let begun = Instant::now();
        let new = a.publish_numbers("news", 3..5).await;
        let mut client = b.client(Some(&new[0]), &["news"]).await;
        let next = client.next().await;
        // Else they have grown old themselves.
        if begun.elapsed() < AGE / 2 {
            assert_eq!(next, Heard::Event(new[1].clone(), "4".into()));
            break;
        }
    }
    let mut client = b.client(Some(&ids[0]), &["news"]).await;
    assert_eq!(client.next().await, Heard::Gap("news".into()));
}

pub async fn what_a_node_has_no_room_for_is_no_gap<K: Kit>() {
    let kit = K::start();
    // For some eighty events.
    let node = Arc::new(Node::with_room(&kit, "log", 20_000).await);
    let _hears = node.client(None, &["x", "y"]).await;
    let ids = node.publish_numbers("x", 0..100).await;
    node.publish_numbers("y", 100..200).await;
    assert_eq!(node.space.place(&name("x"), &ids[99]), None, "it has room");
    // At first, and then again; and while more is let go all the time.
    let publishing = {
        let node = node.clone();
        tokio::spawn(async move { node.publish_numbers("y", 200..400).await })
    };
    for last in [10, 90, 11] {
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(node.client(Some(&ids[last]), &["x", "y"]).await);
        }
        for mut client in clients {
            assert_eq!(client.data(399 - last).await, numbers(last + 1..400));
        }
    }
    publishing.await.unwrap();
}

pub async fn an_unknown_id_is_a_gap<K: Kit>() {
    let kit = K::start();
    let node = Node::start(&kit, "log").await;
    node.publish("news", "0").await.unwrap();
    for unknown in ["nonsense", "r123456789-17", "0123456789-3"] {
        let mut client = node.client(Some(unknown), &["news"]).await;
        assert_eq!(client.next().await, Heard::Gap("news".into()), "{unknown}");
        node.publish("news", "end").await.unwrap();
        assert_eq!(client.until("end").await, []);
    }
}

pub async fn the_newest_events_are_history<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    assert_eq!(b.feed.history(&name("news"), 10).await.unwrap(), []);
    let ids = a.publish_numbers("news", 0..7).await;
    for (limit, first) in [(3, 4), (7, 0), (100, 0)] {
        let history = b.feed.history(&name("news"), limit).await.unwrap();
        let found: Vec<_> = history.iter().map(|event| event.id().unwrap()).collect();
        assert_eq!(found, ids[first..]);
    }
    assert_eq!(b.feed.history(&name("news"), 0).await.unwrap(), []);
}

/// Clients are told of a gap in the place of an event that no node can read, which this puts on the channel `news` of the log
/// `log`.
pub async fn check_unreadable(kit: &impl Kit, put: impl FnOnce()) {
    let (a, b) = (Node::start(kit, "log").await, Node::start(kit, "log").await);
    let mut client = a.client(None, &["news"]).await;
    let first = a.publish("news", "0").await.unwrap().id;
    tokio::task::block_in_place(put);
    a.publish("news", "1").await.unwrap();
    assert_eq!(client.data(1).await, ["0"]);
    assert_eq!(client.next().await, Heard::Gap("news".into()));
    assert_eq!(client.data(1).await, ["1"]);
    // Nobody has listened on the other one.
    for node in [&b, &a] {
        let mut client = node.client(Some(&first), &["news"]).await;
        assert_eq!(client.next().await, Heard::Gap("news".into()));
        assert_eq!(client.data(1).await, ["1"]);
    }
    // Who has heard what came after it has missed nothing.
    let mut back = b.client(client.last.as_deref(), &["news"]).await;
    a.publish("news", "end").await.unwrap();
    assert_eq!(back.until("end").await, []);
    assert_eq!(client.until("end").await, []);
}
