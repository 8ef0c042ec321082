//! Redis, and Valkey in its place: one server, a pair with sentinels, a cluster.

use std::{sync::Arc, time::Duration};

use fanfare::{
    broker::{Broker, Retention, redis::Redis},
    redis_pool::{RedisPool, RedisUrl, Servers, Settings},
};
use fanfare_tests::servers::{
    cluster::RedisCluster,
    redis::{Options, RedisServer, Software},
    sentinel::{SERVICE, Sentinels},
};

use crate::{
    faults::Load,
    kit::{Kit, TIMEOUT},
    nodes::run,
};

/// A server that writes all that it acknowledges to a file.
const PERSISTENT: Options<'_> = Options {
    software: Software::Redis,
    password: None,
    tls: None,
    persistent: true,
};

fn broker(url: RedisUrl, log: &str, retention: Retention) -> Box<dyn Broker> {
    let pool = RedisPool::new(Settings {
        ca_file: None,
        timeout: TIMEOUT,
    });
    Box::new(Redis::new(
        Arc::new(pool.unwrap()),
        url,
        log.into(),
        retention,
    ))
}

fn url(address: &str) -> RedisUrl {
    RedisUrl::parse(&format!("redis://{address}")).unwrap()
}

mod alone {
    use super::*;

    struct Server(RedisServer);

    impl Kit for Server {
        fn start() -> Self {
            Self(RedisServer::start_with(PERSISTENT))
        }

        fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
            broker(url(&self.0.address()), log, retention)
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
}

mod valkey {
    use super::*;

    struct Server(RedisServer);

    impl Kit for Server {
        fn start() -> Self {
            Self(RedisServer::start_with(Options {
                software: Software::Valkey,
                ..PERSISTENT
            }))
        }

        fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
            broker(url(&self.0.address()), log, retention)
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
}

mod cluster {
    use super::*;

    /// What breaks is the node that has the log.
    struct Server(RedisCluster);

    impl Server {
        fn owner(&self) -> usize {
            self.0.owner("{log}")
        }
    }

    impl Kit for Server {
        fn start() -> Self {
            Self(RedisCluster::start_with(PERSISTENT))
        }

        fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
            let addresses = self.0.addresses();
            let cluster = Servers::cluster(&addresses[1..]).unwrap();
            broker(url(&addresses[0]).with_servers(cluster), log, retention)
        }

        fn kill(&mut self) {
            let owner = self.owner();
            self.0.nodes[owner].stop();
        }

        fn restart(&mut self) {
            for node in &mut self.0.nodes {
                if node.is_stopped() {
                    node.restart();
                }
            }
            self.0.wait_until_serving();
        }

        fn freeze(&self) {
            self.0.nodes[self.owner()].freeze();
        }

        fn thaw(&self) {
            self.0.nodes.iter().for_each(|node| node.thaw());
        }
    }

    conformance!(Server);
}

mod sentinel {
    use super::*;

    struct Servers(Sentinels);

    impl Kit for Servers {
        fn start() -> Self {
            Self(Sentinels::start_with(1, PERSISTENT))
        }

        fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
            let addresses = self.0.addresses();
            let sentinels = super::Servers::sentinels(SERVICE, &addresses[1..]).unwrap();
            broker(url(&addresses[0]).with_servers(sentinels), log, retention)
        }

        fn kill(&mut self) {
            self.0.lose_primary();
        }

        /// The replica has taken over.
        fn restart(&mut self) {}

        fn freeze(&self) {
            unreachable!("no test of this kit freezes")
        }

        fn thaw(&self) {}
    }

    crate::suite::tests!(Servers @ suite:
        all_nodes_hear_all_events_in_one_order
        a_client_that_goes_to_another_node_goes_on_where_it_was
    );

    /// What the replica had not heard of yet is lost with the primary: then that is told.
    #[test]
    fn what_is_lost_with_a_primary_is_told() {
        run(async {
            let mut kit = Servers::start();
            let load = Load::start(&kit).await;
            kit.kill();
            println!(
                "it goes on {:?} after the replica took over",
                load.more(50).await
            );
            let account = load.end("primary lost").await;
            account.check_told();
        });
    }

    #[test]
    fn a_fail_over_is_survived() {
        run(async {
            let kit = Servers::start();
            let load = Load::start(&kit).await;
            tokio::task::block_in_place(|| kit.0.fail_over());
            println!("it goes on {:?} after the fail-over", load.more(50).await);
            tokio::time::sleep(Duration::from_millis(200)).await;
            let account = load.end("failed over").await;
            account.check_told();
        });
    }
}
