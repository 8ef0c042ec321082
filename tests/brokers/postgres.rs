//! PostgreSQL: who may connect, what is kept, what breaks; and [rows that others insert](outbox).

mod outbox;

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
    kept::check_unreadable,
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
    const NAME: &'static str = "postgres";

    fn start() -> Self {
        Self::with(Options::default())
    }

    fn start_behind(proxy: &Proxy) -> Option<Self> {
        let mut kit = Self::start();
        proxy.lead_to(&kit.server.address());
        kit.url = format!("postgres://fanfare@{}/postgres", proxy.address());
        Some(kit)
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
fn an_event_that_cannot_be_read_is_a_gap() {
    nodes::run(async {
        let kit = Server::start();
        check_unreadable(&kit, || {
            kit.server.ask(
                "SELECT fanfare.publish('log', 0, 1000, '10 minutes', ARRAY['news'], ARRAY[NULL], ARRAY[NULL], \
                 ARRAY['\\xff'::bytea], ARRAY[false], ARRAY[NULL::bigint])",
            );
        })
        .await;
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
            age: Duration::from_secs(6),
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
            age: Duration::from_secs(8),
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
