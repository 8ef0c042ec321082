//! PostgreSQL.

use std::sync::Arc;

use fanfare::{
    broker::{
        Broker, Retention,
        postgres::{Postgres, Settings, url::PostgresUrl},
    },
    trust::Trust,
};
use fanfare_tests::servers::postgres::PostgresServer;
use tokio::runtime::Handle;

use crate::kit::{Kit, TIMEOUT};

/// A server that everybody may log in to.
struct Server(PostgresServer);

impl Kit for Server {
    fn start() -> Self {
        Self(PostgresServer::start())
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        Box::new(broker(&self.0.url(), Trust::default(), log, retention))
    }

    fn kill(&mut self) {
        self.0.stop();
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

fn broker(url: &str, trust: Trust, log: &str, retention: Retention) -> Postgres {
    let settings = Settings {
        url: PostgresUrl::parse(url).unwrap(),
        trust: Arc::new(trust),
        timeout: TIMEOUT,
    };
    Postgres::new(settings, log.into(), retention, Handle::current())
}

conformance!(Server);
