//! Who hears channels, across nodes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare::{broker::BrokerError, hub::channel::ChannelName};
use fanfare_tests::{servers::proxy::Proxy, wait::PATIENCE};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::{
    kit::Kit,
    nodes::{Client, Node, name},
};

macro_rules! tests {
    ($kit:ident) => {
        $crate::suite::tests!($kit @ members:
            members_are_those_of_all_nodes
            a_node_that_starts_late_knows_the_members_of_others
            a_channel_is_told_of_once_by_nodes_that_race
            what_a_dead_node_had_is_told_of_once
        );
    };
}
pub(crate) use tests;

/// The ids of clients, sorted.
pub fn ids(clients: &[Client]) -> Vec<String> {
    let ids = clients
        .iter()
        .map(|client| client.connection.id().to_string());
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids
}

/// Waits until a node says that it does not know who hears channels at others, for a reason with these words.
pub async fn until_unknown(node: &Node, words: &[&str]) {
    let begun = Instant::now();
    loop {
        let subscribers = node.feed.subscribers(&name("news")).await;
        match &subscribers {
            Err(BrokerError::Unavailable(text)) if words.iter().all(|word| text.contains(word)) => {
                return;
            }
            _ => assert!(begun.elapsed() < PATIENCE, "{subscribers:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What nodes are told of channels that become occupied or vacated, all together.
struct Told(mpsc::UnboundedReceiver<(ChannelName, bool)>);

impl Told {
    fn of(nodes: &[Arc<Node>]) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        for node in nodes {
            let (occupancies, sender) = (node.feed.occupancies().clone(), sender.clone());
            tokio::spawn(async move {
                loop {
                    for change in occupancies.changes().await {
                        if sender.send(change).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        Self(receiver)
    }

    /// The next thing that any of them is told is this.
    async fn assert_next(&mut self, channel: &str, occupied: bool) {
        let told = timeout(PATIENCE, self.0.recv()).await;
        let told = told.expect("nothing is told").unwrap();
        assert_eq!(told, (name(channel), occupied));
    }
}

pub async fn members_are_those_of_all_nodes<K: Kit>() {
    let kit = K::start();
    let (a, b) = (
        Node::start(&kit, "log").await,
        Node::start(&kit, "log").await,
    );
    let mut clients = Vec::new();
    for node in [&a, &a, &b] {
        clients.push(node.client(None, &["news"]).await);
    }
    let elsewhere = b.client(None, &["weather"]).await;
    if !kit.tells_members() {
        // Each node knows its own.
        a.until_members("news", &ids(&clients[..2])).await;
        b.until_members("news", &ids(&clients[2..])).await;
        assert_eq!(a.feed.subscribers(&name("news")).await, Ok(2));
        return;
    }
    for node in [&a, &b] {
        node.until_members("news", &ids(&clients)).await;
        assert_eq!(node.feed.subscribers(&name("news")).await, Ok(3));
        let few = node.feed.presence(&name("news"), 2).await.unwrap();
        assert_eq!(few.len(), 2);
    }
    drop(clients.remove(1));
    for node in [&a, &b] {
        node.until_members("news", &ids(&clients)).await;
        node.until_members("weather", &ids(std::slice::from_ref(&elsewhere)))
            .await;
    }
    // It tells nobody that it ends.
    drop(b);
    clients.truncate(1);
    let begun = std::time::Instant::now();
    a.until_members("news", &ids(&clients)).await;
    a.until_members("weather", &[]).await;
    println!(
        "the members of a dead node were gone after {:?}",
        begun.elapsed()
    );
}

pub async fn a_node_that_starts_late_knows_the_members_of_others<K: Kit>() {
    let kit = K::start();
    if !kit.tells_members() {
        return;
    }
    let early = Node::start(&kit, "log").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(early.client(None, &["news"]).await);
    }
    early.until_members("news", &ids(&clients)).await;
    drop(clients.split_off(10));
    early.until_members("news", &ids(&clients)).await;
    let late = Node::start(&kit, "log").await;
    late.until_members("news", &ids(&clients)).await;
    clients.push(late.client(None, &["news"]).await);
    early.until_members("news", &ids(&clients)).await;
}

pub async fn a_channel_is_told_of_once_by_nodes_that_race<K: Kit>() {
    const ROUNDS: usize = 15;
    let kit = K::start();
    if !kit.tells_members() {
        return;
    }
    let nodes = three(&kit).await;
    let mut told = Told::of(&nodes);
    for round in 0..ROUNDS {
        let channel = format!("c{round}");
        let channels = [channel.as_str()];
        let (a, b, c) = tokio::join!(
            nodes[0].client(None, &channels),
            nodes[1].client(None, &channels),
            nodes[2].client(None, &channels),
        );
        let clients = [a, b, c];
        for node in &nodes {
            node.until_members(&channel, &ids(&clients)).await;
        }
        // Had another one been told of it too, it would be next.
        told.assert_next(&channel, true).await;
        drop(clients);
        for node in &nodes {
            node.until_members(&channel, &[]).await;
        }
        told.assert_next(&channel, false).await;
    }
    let _last = nodes[0].client(None, &["last"]).await;
    told.assert_next("last", true).await;
}

pub async fn what_a_dead_node_had_is_told_of_once<K: Kit>() {
    let kit = K::start();
    if !kit.tells_members() {
        return;
    }
    let mut nodes = three(&kit).await;
    let mut told = Told::of(&nodes);
    let dies = nodes.pop().unwrap();
    let client = dies.client(None, &["of the dead", "of both"]).await;
    let mut channels = Vec::new();
    for _ in 0..2 {
        channels.push(timeout(PATIENCE, told.0.recv()).await.unwrap().unwrap());
    }
    channels.sort();
    assert_eq!(
        channels,
        [(name("of both"), true), (name("of the dead"), true)]
    );
    let mut both = vec![client, nodes[0].client(None, &["of both"]).await];
    nodes[1].until_members("of both", &ids(&both)).await;
    // It tells nobody that it ends.
    let begun = Instant::now();
    drop(dies);
    both.remove(0);
    told.assert_next("of the dead", false).await;
    println!("a dead node was noticed after {:?}", begun.elapsed());
    for node in &nodes {
        node.until_members("of both", &ids(&both)).await;
    }
    drop(both);
    told.assert_next("of both", false).await;
}

async fn three(kit: &impl Kit) -> Vec<Arc<Node>> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Arc::new(Node::start(kit, "log").await));
    }
    nodes
}

/// Holds that a node whose way to the server is cut for longer than a lease is forgotten, and known again after it.
pub async fn check_known_again(proxy: &Proxy, away: &Node, node: &Node) {
    let clients = [
        away.client(None, &["news"]).await,
        node.client(None, &["news"]).await,
    ];
    for node in [node, away] {
        node.until_members("news", &ids(&clients)).await;
    }
    proxy.refuse();
    proxy.cut();
    node.until_members("news", &ids(&clients[1..])).await;
    // What it knew is too old by now.
    until_unknown(away, &[]).await;
    proxy.accept();
    for node in [node, away] {
        node.until_members("news", &ids(&clients)).await;
    }
}
