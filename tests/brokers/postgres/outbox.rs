//! Rows that others insert.

use super::*;

#[test]
fn rows_that_others_insert_are_events() {
    nodes::run(async {
        let kit = Server::start();
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut client = a.client(None, &["x", "größe ☂"]).await;
        kit.server.ask(
            "INSERT INTO fanfare.outbox (log, channel, data) \
             SELECT 'log', 'x', n FROM generate_series(0, 4) n",
        );
        assert_eq!(client.data(5).await, numbers(0..5));
        let last = client.last.clone();
        kit.server.ask(
            "INSERT INTO fanfare.outbox (log, channel, event_id, data, json) VALUES \
             ('log', 'größe ☂', 'order 7', '[5]', true), ('log', 'x', NULL, '6', false), \
             ('log', 'größe ☂', 'order 7', '[5]', true)",
        );
        assert_eq!(client.data(2).await, ["[5]", "6"]);
        // It is the same event, whoever publishes it.
        let again = b.publish_own("größe ☂", "order 7").await.unwrap();
        assert!(again.duplicate);
        b.publish("x", "7").await.unwrap();
        assert_eq!(client.data(1).await, ["7"]);
        let mut other = b.client(last.as_deref(), &["x", "größe ☂"]).await;
        assert_eq!(other.data(3).await, ["[5]", "6", "7"]);
        assert_eq!(other.last, client.last);
        let mut other = b.client(Some("order 7"), &["größe ☂", "x"]).await;
        assert_eq!(other.data(2).await, ["6", "7"]);
        assert_eq!(kit.server.ask("SELECT count(*) FROM fanfare.outbox"), "0");
    });
}

#[test]
fn a_transaction_that_stays_open_delays_only_its_own_rows() {
    nodes::run(async {
        let kit = Server::start();
        let (a, b) = (
            Node::start(&kit, "log").await,
            Node::start(&kit, "log").await,
        );
        let mut clients = [a.client(None, &["x"]).await, b.client(None, &["x"]).await];
        let (long, short) = (kit.application().await, kit.application().await);
        long.batch_execute("BEGIN").await.unwrap();
        insert(&long, "x", "long 0").await;
        insert(&short, "x", "short 0").await;
        for client in &mut clients {
            assert_eq!(client.data(1).await, ["short 0"]);
        }
        a.publish("x", "node").await.unwrap();
        insert(&long, "x", "long 1").await;
        insert(&short, "x", "short 1").await;
        for client in &mut clients {
            assert_eq!(client.data(2).await, ["node", "short 1"]);
        }
        let last = clients[0].last.clone();
        // What is given up is not heard.
        short
            .batch_execute(
                "BEGIN; INSERT INTO fanfare.outbox (log, channel, data) VALUES ('log', 'x', 'no'); ROLLBACK",
            )
            .await
            .unwrap();
        insert(&short, "x", "short 2").await;
        for client in &mut clients {
            assert_eq!(client.data(1).await, ["short 2"]);
        }
        long.batch_execute("COMMIT").await.unwrap();
        insert(&short, "x", "short 3").await;
        let rest = ["long 0", "long 1", "short 3"];
        for client in &mut clients {
            assert_eq!(client.data(3).await, rest);
        }
        assert_eq!(clients[0].last, clients[1].last);
        let mut client = b.client(last.as_deref(), &["x"]).await;
        assert_eq!(
            client.data(4).await,
            [["short 2"].as_slice(), &rest].concat()
        );
    });
}

#[test]
fn many_transactions_and_nodes_publish_in_one_order() {
    const WRITERS: usize = 4;
    const TRANSACTIONS: usize = 30;
    nodes::run(async {
        let kit = Server::start();
        let nodes = [
            Arc::new(Node::start(&kit, "log").await),
            Arc::new(Node::start(&kit, "log").await),
        ];
        let mut clients = Vec::new();
        for node in &nodes {
            clients.push(node.client(None, &["x", "y"]).await);
        }
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let application = kit.application().await;
            tasks.push(tokio::spawn(async move {
                for number in 0..TRANSACTIONS {
                    application.batch_execute("BEGIN").await.unwrap();
                    for part in 0..3 {
                        let data = format!("{writer} {number} {part}");
                        insert(&application, ["x", "y"][part % 2], &data).await;
                        // Some are open for longer than others.
                        let pause = (writer * 7 + number * 3 + part) % 5;
                        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
                    }
                    let end = ["COMMIT", "ROLLBACK"][usize::from(number % 5 == 4)];
                    application.batch_execute(end).await.unwrap();
                }
            }));
        }
        for (number, node) in nodes.iter().enumerate() {
            let node = node.clone();
            tasks.push(tokio::spawn(async move {
                for event in 0..TRANSACTIONS {
                    let data = format!("node {number} {event}");
                    node.publish("x", &data).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let application = kit.application().await;
        insert(&application, "x", "end").await;
        let (one, other) = (clients[0].until("end").await, clients[1].until("end").await);
        assert_eq!(one, other);
        let heard: Vec<_> = one
            .iter()
            .map(|heard| match heard {
                Heard::Event(_, data) => data.as_str(),
                Heard::Gap(_) => panic!("a gap"),
            })
            .collect();
        for writer in 0..WRITERS {
            let own = heard
                .iter()
                .filter(|data| data.starts_with(&format!("{writer} ")));
            let numbers = (0..TRANSACTIONS).filter(|number| number % 5 != 4);
            let wanted = numbers
                .flat_map(|number| (0..3).map(move |part| format!("{writer} {number} {part}")));
            assert!(own.copied().eq(wanted), "{heard:?}");
        }
        let of_nodes = heard.iter().filter(|data| data.starts_with("node "));
        assert_eq!(of_nodes.count(), nodes.len() * TRANSACTIONS);
        for _ in 0..2 {
            let last = clients[0].last.clone();
            let mut client = nodes[1].client(last.as_deref(), &["x", "y"]).await;
            insert(&application, "y", "end").await;
            assert_eq!(client.until("end").await, []);
            assert_eq!(clients[0].until("end").await, []);
        }
    });
}

#[test]
fn rows_are_found_without_a_notification_and_from_before_the_log() {
    nodes::run(async {
        let kit = Server::start();
        drop(Node::start(&kit, "another").await);
        kit.server
            .ask("INSERT INTO fanfare.outbox (log, channel, data) VALUES ('log', 'x', 'early')");
        let node = Node::start(&kit, "log").await;
        wait_until("the row is taken", || {
            kit.server.ask("SELECT count(*) FROM fanfare.outbox") == "0"
        });
        let history = node.feed.history(&nodes::name("x"), 10).await.unwrap();
        assert_eq!(history.len(), 1);
        kit.server
            .ask("ALTER TABLE fanfare.outbox DISABLE TRIGGER wake");
        let mut client = node.client(None, &["x"]).await;
        insert(&kit.application().await, "x", "silent").await;
        assert_eq!(client.data(1).await, ["silent"]);
    });
}

#[test]
fn rows_that_are_no_events_are_refused_and_one_that_is_too_large_is_a_gap() {
    nodes::run(async {
        let kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["x"]).await;
        let application = kit.application().await;
        for (columns, values) in [
            ("channel, data", "'', 'x'"),
            ("channel, data", "repeat('x', 256), 'x'"),
            ("channel, data", "E'a\\nb', 'x'"),
            ("channel, data", "E'a\\u0085b', 'x'"),
            ("channel, data", "'x', NULL"),
            ("channel, data, json", "'x', '{', true"),
            ("channel, data, event_id", "'x', 'x', ''"),
            ("channel, data, event_id", "'x', 'x', E'a\\rb'"),
            ("channel, data, event_id", "'x', 'x', repeat('x', 1025)"),
            ("channel, data, event_type", "'x', 'x', E'a\\nb'"),
            ("channel, data, retry", "'x', 'x', -1"),
        ] {
            let statement =
                format!("INSERT INTO fanfare.outbox (log, {columns}) VALUES ('log', {values})");
            let refused = application.batch_execute(&statement).await;
            assert!(refused.is_err(), "{statement}");
        }
        insert(&application, "x", "0").await;
        // More than the app allows.
        insert(&application, "x", &"x".repeat(2 << 20)).await;
        insert(&application, "x", "1").await;
        assert_eq!(client.data(1).await, ["0"]);
        assert_eq!(client.next().await, Heard::Gap("x".into()));
        assert_eq!(client.data(1).await, ["1"]);
        let last = node.publish("y", "elsewhere").await.unwrap().id;
        let mut again = node.client(Some(&last), &["x"]).await;
        insert(&application, "x", "2").await;
        assert_eq!(again.data(1).await, ["2"]);
    });
}

#[test]
fn what_nobody_hears_is_passed_over() {
    nodes::run(async {
        let kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["x"]).await;
        kit.server.ask(
            "INSERT INTO fanfare.outbox (log, channel, data) \
             SELECT 'log', 'other ' || n % 50, n FROM generate_series(1, 12000) n",
        );
        insert(&kit.application().await, "x", "after").await;
        assert_eq!(client.data(1).await, ["after"]);
    });
}

#[test]
fn one_client_hears_many_channels() {
    nodes::run(async {
        let kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let channels: Vec<_> = (0..250).map(|number| format!("c{number}")).collect();
        let names: Vec<_> = channels.iter().map(String::as_str).collect();
        let mut client = node.client(None, &names).await;
        let large = "x".repeat(1 << 20);
        for (number, channel) in names.iter().enumerate() {
            if number % 50 == 0 {
                insert(&kit.application().await, channel, &large).await;
            }
            node.publish("not heard", "x").await.unwrap();
            insert(&kit.application().await, channel, &number.to_string()).await;
        }
        for number in 0..names.len() {
            if number % 50 == 0 {
                assert_eq!(client.data(1).await, [large.as_str()]);
            }
            assert_eq!(client.data(1).await, [number.to_string()]);
        }
    });
}
