//! Redis, and Valkey in its place: one server, a pair with sentinels, a cluster.

use std::{sync::Arc, time::Duration};

use fanfare::{
    broker::{Broker, BrokerError, Retention, redis::Redis},
    redis_pool::{RedisPool, RedisUrl, Servers, Settings},
};
use fanfare_tests::servers::{
    cluster::RedisCluster,
    proxy::{Proxy, Way},
    redis::{Options, RedisServer, Software},
    sentinel::{SERVICE, Sentinels},
};

use crate::{
    faults::Load,
    kept::check_unreadable,
    kit::{Kit, RETENTION, TIMEOUT},
    nodes::{Node, run},
};
use tokio::{task::block_in_place, time::sleep};

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

/// One server, and where its brokers find it.
struct One<const VALKEY: bool>(RedisServer, String);

impl<const VALKEY: bool> Kit for One<VALKEY> {
    const NAME: &'static str = if VALKEY { "valkey" } else { "redis" };

    fn start() -> Self {
        let software = if VALKEY {
            Software::Valkey
        } else {
            Software::Redis
        };
        let server = RedisServer::start_with(Options {
            software,
            ..PERSISTENT
        });
        let address = server.address();
        Self(server, address)
    }

    fn start_behind(proxy: &Proxy) -> Option<Self> {
        let Self(server, address) = Self::start();
        proxy.lead_to(&address);
        Some(Self(server, proxy.address()))
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        broker(url(&self.1), log, retention)
    }

    breaks_as_its_server!();
}

mod alone {
    type Server = super::One<false>;
    conformance!(Server);
}

mod valkey {
    type Server = super::One<true>;
    conformance!(Server);
}

#[test]
fn an_event_that_cannot_be_read_is_a_gap() {
    run(async {
        let kit = One::<false>::start();
        let script = include_str!("../../host/src/broker/redis/scripts/publish.lua");
        let (events, age) = ("1000", RETENTION.age.as_micros().to_string());
        check_unreadable(&kit, || {
            let publish = ["EVAL", script, "2", "{log}", "{log}:e:news", "{log}:p:news"];
            let newer = ["news", "2t\nnewer", events, &age, "PUBLISH"];
            kit.0.ask(&[&publish[..], &newer].concat());
        })
        .await;
    });
}

#[test]
fn an_event_whose_answer_is_lost_is_accepted_once() {
    run(async {
        let server = RedisServer::start();
        let proxy = Proxy::start(&server.address());
        let nodes = [proxy.address(), server.address()].map(|address| {
            let broker = broker(url(&address), "log", RETENTION);
            Node::over(broker, RETENTION)
        });
        for node in &nodes {
            node.feed.start().await.unwrap();
        }
        let [behind, beside] = nodes.map(Arc::new);
        let mut client = beside.client(None, &["news"]).await;
        // From now on the server knows the script.
        behind.publish("news", "first").await.unwrap();
        assert_eq!(client.data(1).await, ["first"]);
        for round in 0..3 {
            let id = round.to_string();
            proxy.hold(Way::ToClient);
            let publishing = {
                let (node, id) = (behind.clone(), id.clone());
                tokio::spawn(async move { node.publish_own("news", &id).await })
            };
            // Others have heard it, and the answer is on its way.
            assert_eq!(client.data(1).await, std::slice::from_ref(&id));
            block_in_place(|| proxy.wait_until_held(Way::ToClient));
            proxy.cut();
            proxy.resume(Way::ToClient);
            let published = publishing.await.unwrap();
            assert!(
                matches!(published, Err(BrokerError::Unavailable(_))),
                "{published:?}"
            );
            let again = loop {
                match behind.publish_own("news", &id).await {
                    Ok(again) => break again,
                    Err(BrokerError::Unavailable(_)) => sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("{error}"),
                }
            };
            assert!(again.duplicate);
        }
        beside.publish("news", "end").await.unwrap();
        assert_eq!(client.until("end").await, []);
    });
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
        const NAME: &'static str = "redis-cluster";

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
        const NAME: &'static str = "redis-sentinel";

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

    mod faults {
        use super::*;

        /// What the replica had not heard of yet is lost with the primary: then that is told.
        #[test]
        fn what_is_lost_with_a_primary_is_told() {
            run(async {
                let mut kit = Servers::start();
                let mut load = Load::start(&kit).await;
                kit.kill();
                load.goes_on().await;
                load.end("primary-killed").await.check_told();
            });
        }

        #[test]
        fn a_fail_over_is_survived() {
            run(async {
                let kit = Servers::start();
                let mut load = Load::start(&kit).await;
                block_in_place(|| kit.0.fail_over());
                load.goes_on().await;
                sleep(Duration::from_millis(200)).await;
                load.end("failed-over").await.check_told();
            });
        }
    }
}
