//! Who hears channels, said in a topic of its own.

use super::*;

/// Waits until a node knows these, for longer than for anything else: a producer takes half a minute to believe that a
/// topic is there again.
async fn until_members_at_last(node: &Node, members: &[String]) {
    let begun = std::time::Instant::now();
    while node.feed.presence(&name("news"), 100).await.as_deref() != Ok(members) {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("they were known after {:?}", begun.elapsed());
}

#[test]
fn members_are_known_again_where_what_nodes_said_of_them_was_deleted() {
    nodes::run(async {
        let kit = Arc::new(Server::start());
        let (a, b) = (
            Node::start(&*kit, "log").await,
            Node::start(&*kit, "log").await,
        );
        let mut clients = vec![
            a.client(None, &["news"]).await,
            b.client(None, &["news"]).await,
        ];
        for node in [&a, &b] {
            node.until_members("news", &ids(&clients)).await;
        }
        let delete = (kit.clone(), kit.topic("log.presence"));
        blocking(move || delete.0.server().delete_topic(&delete.1)).await;
        // Events have a topic of their own.
        b.publish("news", "0").await.unwrap();
        assert_eq!(clients[0].data(1).await, ["0"]);
        clients.push(a.client(None, &["news"]).await);
        until_members_at_last(&b, &ids(&clients)).await;
        let late = Node::start(&*kit, "log").await;
        until_members_at_last(&late, &ids(&clients)).await;
        drop(clients.remove(0));
        for node in [&a, &b, &late] {
            until_members_at_last(node, &ids(&clients)).await;
        }
    });
}

#[test]
fn where_nodes_may_not_say_who_hears_channels_events_are_carried_all_the_same() {
    nodes::run(async {
        let kit = Arc::new(Server::start());
        let create = (kit.clone(), kit.topic("log.presence"));
        blocking(move || create.0.server().create_topic(&create.1, 3)).await;
        let (a, b) = (
            Node::start(&*kit, "log").await,
            Node::start(&*kit, "log").await,
        );
        let mut clients = vec![a.client(None, &["news"]).await];
        b.publish_numbers("news", 0..20).await;
        assert_eq!(clients[0].data(20).await, nodes::numbers(0..20));
        until_unknown(&b, &[&kit.topic("log.presence"), "3 partitions"]).await;
        let delete = (kit.clone(), kit.topic("log.presence"));
        blocking(move || delete.0.server().delete_topic(&delete.1)).await;
        until_members_at_last(&b, &ids(&clients)).await;
    });
}

#[test]
fn a_node_that_was_away_for_longer_than_a_lease_is_known_again() {
    let proxy = Proxy::start("127.0.0.1:1");
    let kit = Server::own(Options {
        behind: Some(&proxy),
        ..Options::default()
    });
    nodes::run(async move {
        let behind = Settings {
            servers: vec![proxy.address()],
            ..kit.settings()
        };
        let broker = Kafka::new(behind, "log", RETENTION, Handle::current());
        let away = Node::over(Box::new(broker), RETENTION);
        away.feed.start().await.unwrap();
        let node = Node::start(&kit, "log").await;
        check_known_again(&proxy, &away, &node).await;
    });
}

#[test]
fn apps_that_share_a_topic_have_connections_of_their_own() {
    nodes::run(async {
        let kit = Server::start();
        let settings = Settings {
            topic: Topic::Named(kit.topic("shared")),
            ..kit.settings()
        };
        let node = |log: &str| {
            let broker = Kafka::new(settings.clone(), log, RETENTION, Handle::current());
            Node::over(Box::new(broker), RETENTION)
        };
        let nodes = [node("shop:"), node("shop:"), node("chat:")];
        let mut clients = Vec::new();
        for node in &nodes {
            node.feed.start().await.unwrap();
            clients.push(node.client(None, &["news"]).await);
        }
        nodes[0].publish("news", "0").await.unwrap();
        for client in &mut clients {
            assert_eq!(client.data(1).await, ["0"]);
        }
        for node in &nodes[..2] {
            node.until_members("news", &ids(&clients[..2])).await;
        }
        nodes[2].until_members("news", &ids(&clients[2..])).await;
    });
}
