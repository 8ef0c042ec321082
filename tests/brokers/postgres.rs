//! PostgreSQL, and what is special to it: rows that others insert.

use std::{sync::Arc, time::Duration};

use fanfare::{
    broker::{
        Broker, BrokerError, Retention,
        postgres::{Postgres, Settings, url::PostgresUrl},
    },
    trust::Trust,
};
use fanfare_tests::{
    servers::{
        postgres::{Options, PostgresServer},
        proxy::Proxy,
    },
    tls::Certificates,
    wait,
};
use tokio::runtime::Handle;
use tokio_postgres::{Client, NoTls};

use crate::{
    kit::{Kit, RETENTION, TIMEOUT},
    nodes::{self, Heard, Node, numbers},
};

/// A server, and how nodes find it.
struct Server {
    server: PostgresServer,
    url: String,
    /// The certificate of an authority that nodes trust.
    certificates: Option<Certificates>,
}

impl Server {
    fn with(options: Options<'_>) -> Self {
        let server = PostgresServer::start_with(options);
        Self {
            url: server.url(),
            server,
            certificates: None,
        }
    }

    /// A connection of an application.
    async fn application(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.server.url(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    fn postgres(&self, log: &str, retention: Retention) -> Postgres {
        let authority = self.certificates.as_ref().map(Certificates::authority);
        let settings = Settings {
            url: PostgresUrl::parse(&self.url).unwrap(),
            trust: Arc::new(Trust::new(authority.as_deref()).unwrap()),
            timeout: TIMEOUT,
        };
        Postgres::new(settings, log.into(), retention, Handle::current())
    }
}

impl Kit for Server {
    fn start() -> Self {
        Self::with(Options::default())
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        Box::new(self.postgres(log, retention))
    }

    fn kill(&mut self) {
        self.server.stop();
    }

    fn restart(&mut self) {
        self.server.restart();
    }

    fn freeze(&self) {
        self.server.freeze();
    }

    fn thaw(&self) {
        self.server.thaw();
    }
}

conformance!(Server);

/// What an application does.
async fn insert(application: &Client, channel: &str, data: &str) {
    let statement = "INSERT INTO fanfare.outbox (log, channel, data) VALUES ('log', $1, $2)";
    let inserted = application.execute(statement, &[&channel, &data]).await;
    assert_eq!(inserted.unwrap(), 1);
}

/// Waits, and lets the nodes go on.
fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    tokio::task::block_in_place(|| wait::until_true(what, condition));
}

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
fn rows_that_are_no_events_are_refused_or_skipped() {
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
        insert(&application, "x", &"x".repeat(2 << 20)).await;
        insert(&application, "x", "1").await;
        assert_eq!(client.data(2).await, ["0", "1"]);
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

#[test]
fn a_wrong_password_is_denied_and_never_shown() {
    nodes::run(async {
        let mut kit = Server::with(Options {
            password: Some("correct horse"),
            ..Options::default()
        });
        kit.url = format!(
            "postgres://fanfare:hunter2@{}/postgres",
            kit.server.address()
        );
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        let BrokerError::Denied(text) = &error else {
            panic!("{error}");
        };
        assert!(text.contains(&kit.server.address()), "{text}");
        assert!(text.contains("password"), "{text}");
        let broker = kit.postgres("log", RETENTION);
        for shown in [text, &format!("{error:?}"), &format!("{broker:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        kit.url = kit.server.url().replace(' ', "%20");
        let node = Node::start(&kit, "log").await;
        node.publish("x", "0").await.unwrap();
        // A database that is not there.
        kit.url = kit.url.replace("/postgres", "/nowhere");
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        assert!(
            matches!(&error, BrokerError::Denied(text) if text.contains("nowhere")),
            "{error}"
        );
    });
}

#[test]
fn a_certificate_is_checked() {
    nodes::run(async {
        let certificates = Certificates::new();
        let mut kit = Server::with(Options {
            password: Some("secret"),
            tls: Some(&certificates),
        });
        // TLS is taken where it is offered, and then the server must be the one.
        for mode in ["", "?sslmode=require", "?sslmode=verify-full"] {
            kit.url = format!("{}{mode}", kit.server.url());
            let node = Node::new(&kit, "log", RETENTION);
            let error = node.feed.start().await.unwrap_err();
            assert!(
                matches!(&error, BrokerError::Unavailable(text) if text.contains("not trusted")),
                "{error}"
            );
        }
        kit.certificates = Some(certificates);
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["x"]).await;
        node.publish("x", "0").await.unwrap();
        assert_eq!(client.data(1).await, ["0"]);
        assert_eq!(
            kit.server.ask(
                "SELECT bool_and(ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                 WHERE a.application_name = 'fanfare'"
            ),
            "t"
        );
        let mut kit = Server::start();
        kit.url += "?sslmode=require";
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        assert!(
            matches!(&error, BrokerError::Unavailable(text) if text.contains("TLS")),
            "{error}"
        );
    });
}

#[test]
fn a_role_that_may_not_set_up_is_told_what_to_run() {
    nodes::run(async {
        let mut kit = Server::start();
        kit.server.ask("CREATE ROLE node LOGIN");
        kit.url = kit.url.replace("fanfare", "node");
        let node = Node::new(&kit, "log", RETENTION);
        let error = node.feed.start().await.unwrap_err();
        let BrokerError::Denied(text) = &error else {
            panic!("{error}");
        };
        let (_, statement) = text.split_once("in it: ").unwrap();
        kit.server.ask(statement);
        node.feed.start().await.unwrap();
        // An application needs nothing but to insert.
        kit.server.ask(
            "CREATE ROLE application LOGIN; GRANT USAGE ON SCHEMA fanfare TO application; \
             GRANT INSERT ON fanfare.outbox TO application",
        );
        let mut client = node.client(None, &["x"]).await;
        let url = kit.server.url().replace("fanfare", "application");
        let (application, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        insert(&application, "x", "0").await;
        assert_eq!(client.data(1).await, ["0"]);
        for forbidden in ["SELECT FROM fanfare.events", "SELECT FROM fanfare.logs"] {
            assert!(application.batch_execute(forbidden).await.is_err());
        }
    });
}

#[test]
fn what_is_kept_is_bounded() {
    nodes::run(async {
        let kit = Server::start();
        let retention = Retention {
            events: 40,
            age: Duration::from_secs(2),
        };
        let node = Node::with(&kit, "log", retention).await;
        let rows = || -> usize {
            let rows = kit.server.ask("SELECT count(*) FROM fanfare.events");
            rows.parse().unwrap()
        };
        node.publish_numbers("x", 0..100).await;
        kit.server.ask(
            "INSERT INTO fanfare.outbox (log, channel, data) \
             SELECT 'log', 'y', n FROM generate_series(1, 5000) n",
        );
        wait_until("the rows are taken", || {
            kit.server.ask("SELECT count(*) FROM fanfare.outbox") == "0"
        });
        assert!(rows() <= 2 * (40 + 5), "{}", rows());
        assert!(rows() >= 1, "{}", rows());
        wait_until("all of it is too old", || rows() == 0);
        // Positions go on.
        let id = node.publish("x", "last").await.unwrap().id;
        assert!(id.ends_with("-5101"), "{id}");
    });
}

/// While it is away, all that is published is deleted again: by its number on one channel, by its age on the other.
#[test]
fn a_node_that_was_away_for_too_long_tells_a_gap() {
    nodes::run(async {
        let mut kit = Server::start();
        let proxy = Proxy::start(&kit.server.address());
        let retention = Retention {
            events: 10,
            age: Duration::from_secs(3),
        };
        kit.url = format!("postgres://fanfare@{}/postgres", proxy.address());
        let away = Node::with(&kit, "log", retention).await;
        kit.url = kit.server.url();
        let node = Node::with(&kit, "log", retention).await;
        let mut client = away.client(None, &["many", "old", "quiet"]).await;
        for channel in ["many", "old", "quiet"] {
            node.publish(channel, "0").await.unwrap();
        }
        assert_eq!(client.data(3).await, ["0", "0", "0"]);

        proxy.refuse();
        proxy.cut();
        node.publish("quiet", "1").await.unwrap();
        node.publish_numbers("many", 0..50).await;
        proxy.accept();
        let mut heard = client.until("49").await;
        let of_many = heard
            .iter()
            .position(|heard| *heard == Heard::Gap("many".into()));
        assert!(heard.len() <= 13, "{heard:?}");
        heard.remove(of_many.expect("a gap is told"));
        assert!(
            matches!(&heard[0], Heard::Event(_, data) if data == "1"),
            "{heard:?}"
        );
        assert!(
            !heard.iter().any(|heard| matches!(heard, Heard::Gap(_))),
            "{heard:?}"
        );

        proxy.refuse();
        proxy.cut();
        node.publish("old", "1").await.unwrap();
        wait_until("all of it is too old", || {
            kit.server.ask("SELECT count(*) FROM fanfare.events") == "0"
        });
        proxy.accept();
        let mut gaps = Vec::new();
        while !gaps.contains(&Heard::Gap("old".into())) {
            gaps.push(client.next().await);
        }
        assert!(
            gaps.iter().all(|heard| matches!(heard, Heard::Gap(_))),
            "{gaps:?}"
        );
        node.publish("old", "end").await.unwrap();
        let rest = client.until("end").await;
        assert!(
            rest.iter().all(|heard| matches!(heard, Heard::Gap(_))),
            "{rest:?}"
        );
    });
}

#[test]
fn a_connection_that_breaks_loses_nothing_and_tells_no_gap() {
    nodes::run(async {
        let mut kit = Server::start();
        let proxy = Proxy::start(&kit.server.address());
        kit.url = format!("postgres://fanfare@{}/postgres", proxy.address());
        let away = Node::start(&kit, "log").await;
        kit.url = kit.server.url();
        let node = Node::start(&kit, "log").await;
        let mut client = away.client(None, &["x"]).await;
        for round in 0..5 {
            proxy.cut();
            node.publish_numbers("x", round * 20..round * 20 + 20).await;
        }
        assert_eq!(client.data(100).await, numbers(0..100));
        // The connection for publishing is made anew too.
        while away.publish_own("x", "end").await.is_err() {}
        assert_eq!(client.until("end").await, []);
    });
}

#[test]
fn a_log_that_is_emptied_goes_on_with_a_gap() {
    nodes::run(async {
        let kit = Server::start();
        let node = Node::start(&kit, "log").await;
        let mut client = node.client(None, &["x"]).await;
        let first = node.publish("x", "0").await.unwrap().id;
        assert_eq!(client.data(1).await, ["0"]);
        for (number, emptied) in ["fanfare.events", "fanfare.events, fanfare.logs"]
            .into_iter()
            .enumerate()
        {
            kit.server.ask(&format!("TRUNCATE {emptied}"));
            let id = node.publish("x", "next").await.unwrap().id;
            assert_eq!(client.until("next").await, [Heard::Gap("x".into())]);
            let epoch = |id: &str| id.split('-').next().unwrap().to_owned();
            assert_eq!(epoch(&id) == epoch(&first), number == 0);
            let mut back = node.client(Some(&first), &["x"]).await;
            assert_eq!(back.next().await, Heard::Gap("x".into()));
        }
    });
}
