//! Redis.

use std::sync::Arc;

use fanfare::{
    broker::{Broker, Retention, redis::Redis},
    redis_pool::{RedisPool, RedisUrl, Settings},
};
use fanfare_tests::servers::redis::{Options, RedisServer};

use crate::kit::{Kit, TIMEOUT};

/// A server that writes all that it acknowledges to a file.
struct Server(RedisServer);

impl Kit for Server {
    fn start() -> Self {
        Self(RedisServer::start_with(Options {
            persistent: true,
            ..Options::default()
        }))
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        let pool = RedisPool::new(Settings {
            ca_file: None,
            timeout: TIMEOUT,
        });
        let url = RedisUrl::parse(&self.0.url()).unwrap();
        Box::new(Redis::new(
            Arc::new(pool.unwrap()),
            url,
            log.into(),
            retention,
        ))
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

conformance!(Server);
