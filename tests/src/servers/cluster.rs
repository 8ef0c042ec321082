//! A Redis Cluster.

use std::process::Command;

use super::{
    ports, process,
    process::Server,
    redis::{Options, Redis, RedisServer},
};
use crate::wait;

/// How many slots a cluster has (Redis Cluster specification, "Key distribution model").
const SLOTS: u16 = 16_384;

/// Three primaries without replicas, which share the slots evenly.
pub struct RedisCluster {
    /// The nodes, in the order of their slots.
    pub nodes: [RedisServer; 3],
}

impl RedisCluster {
    /// Nodes that know of each other, each of which serves.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// The same with options for each node, which must neither speak TLS nor want a password. A node that is to come
    /// back after a [`stop`](Server::stop) knows its place again, whether or not it has its data.
    #[track_caller]
    pub fn start_with(options: Options<'_>) -> Self {
        assert!(
            options.tls.is_none() && options.password.is_none(),
            "nodes of a cluster are plain here"
        );
        let nodes = [(); 3].map(|()| {
            let bus = ports::free();
            Server::launch(Redis::new(options).with(&format!(
                "--cluster-enabled yes --cluster-node-timeout 3000 --cluster-port {bus}"
            )))
        });
        let addresses = nodes.each_ref().map(Server::address);
        process::run(
            Command::new("redis-cli")
                .args(["--cluster", "create"])
                .args(addresses)
                .args(["--cluster-replicas", "0", "--cluster-yes"]),
        );
        let cluster = Self { nodes };
        cluster.wait_until_serving();
        cluster
    }

    /// Where the nodes are, as `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Server::address).collect()
    }

    /// Which node has a key or channel, when no slot was moved.
    #[track_caller]
    pub fn owner(&self, key: &str) -> usize {
        let slot = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]);
        let slot: u32 = slot.parse().expect("a slot is a number");
        (slot * 3 / u32::from(SLOTS)) as usize
    }

    /// Waits until every node says that all is well, such as after one came back.
    #[track_caller]
    pub fn wait_until_serving(&self) {
        for node in &self.nodes {
            wait::until_true("a node of the cluster serves", || {
                let info = node.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            });
        }
    }
}
