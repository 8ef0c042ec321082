//! `[node]`: the process as a whole.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{Checks, MOST};
use super::error::KeyPath;
use super::schema::{DurationText, PathText, SizeText};
use super::units::MOST_BYTES;
use super::{path, units};

/// The node: this process as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Node {
    /// Whether clients see why a handler failed. Otherwise they see an id, under which the log has the reason.
    pub development: bool,
    /// A folder for the versions of apps that were deployed and for compiled code, made where it is missing; each node
    /// needs its own. Without it a deploy lasts until the node ends, and compiled code is in the user's cache.
    #[serde(deserialize_with = "path::deserialize_some")]
    #[schemars(with = "PathText")]
    pub data: Option<PathBuf>,
    /// How long handlers that run may go on when the node is told to stop.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub drain_timeout: Duration,
    /// Clients that are told to come back, when the node stops or is full, spread over this time.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub reconnect_within: Duration,
    /// The most open streams, of all apps together.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub connections: usize,
    /// The most open streams of one client address, of all apps together; of IPv6 addresses, those of one network of
    /// 64 bits. `0` for no limit: behind a proxy all clients have its address.
    #[schemars(range(max = 1_000_000_000))]
    pub connections_per_address: usize,
    /// The most that may wait for clients that read slowly, all of them together. Past it the streams for which most
    /// waits are closed, and their clients come back and catch up.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub queued_bytes: u64,
    /// Threads that deliver events to sockets; `0` for half of the machine's cores. The other half is for the system,
    /// which does most of what a delivery costs, and for guests.
    #[schemars(range(max = 1024))]
    pub shards: usize,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            development: false,
            data: None,
            drain_timeout: Duration::from_secs(10),
            reconnect_within: Duration::from_secs(5),
            connections: 1_000_000,
            connections_per_address: 0,
            queued_bytes: 512 << 20,
            shards: 0,
        }
    }
}

impl Node {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        let per_address = self.connections_per_address;
        checks.count(at, "connections", self.connections, 1..=MOST);
        checks.count(at, "connections-per-address", per_address, 0..=MOST);
        checks.count(at, "shards", self.shards, 0..=1024);
        checks.size(at, "queued-bytes", self.queued_bytes, 1 << 20..=MOST_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::parse;

    #[test]
    fn the_data_folder_is_seen_from_the_file() {
        assert_eq!(parse("").unwrap().node.data, None);
        let data = parse("node.data = \"data\"").unwrap().node.data;
        assert_eq!(data, Some("etc/data".into()));
    }
}
