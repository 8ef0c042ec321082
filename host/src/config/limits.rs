//! `[apps.<name>.limits]`: what an app may take.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{Checks, MOST};
use super::error::KeyPath;
use super::schema::{DurationText, SizeText};
use super::units::{self, MOST_BYTES};

/// What an app may take, on one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// The memory of one instance of the guest, all its memories together. At least `1MiB`.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub memory: u64,
    /// How long one call may compute. Waiting does not count.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub cpu_time: Duration,
    /// How long one call may last, waiting included; `0` for as long as it likes.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub wall_time: Duration,
    /// The most calls in flight.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub calls: usize,
    /// How long a request waits for a free place among the calls. After that its client is told to come back.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub queue_time: Duration,
    /// The most open streams.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub connections: usize,
    /// The most channels that one connection may hear.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub channels_per_connection: usize,
    /// The most that may wait for a client that reads slowly. Past it the connection is closed, and its client
    /// comes back and catches up.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub queue_bytes: u64,
    /// The most data of one event.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub event_data: u64,
    /// The largest body of a request; `0` refuses any.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub request_body: u64,
    /// The largest body of an answer that is not a stream.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub response_body: u64,
    /// The most entries of the registry; `0` turns it off.
    #[schemars(range(max = 1_000_000_000))]
    pub registry_entries: usize,
    /// The most that the keys and values of the registry may take together.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub registry_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            cpu_time: Duration::from_secs(1),
            wall_time: Duration::ZERO,
            calls: 1000,
            queue_time: Duration::from_secs(1),
            connections: 100_000,
            channels_per_connection: 100,
            queue_bytes: 1 << 20,
            event_data: 1 << 20,
            request_body: 1 << 20,
            response_body: 8 << 20,
            registry_entries: 10_000,
            registry_bytes: 16 << 20,
        }
    }
}

impl Limits {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        let per_connection = self.channels_per_connection;
        checks.size(at, "memory", self.memory, 1 << 20..=MOST_BYTES);
        checks.not_zero(at, "cpu-time", self.cpu_time);
        checks.count(at, "calls", self.calls, 1..=MOST);
        checks.count(at, "connections", self.connections, 1..=MOST);
        checks.count(at, "channels-per-connection", per_connection, 1..=MOST);
        checks.size(at, "queue-bytes", self.queue_bytes, 1..=MOST_BYTES);
        checks.size(at, "event-data", self.event_data, 1..=MOST_BYTES);
        checks.size(at, "request-body", self.request_body, 0..=MOST_BYTES);
        checks.size(at, "response-body", self.response_body, 1..=MOST_BYTES);
        checks.count(at, "registry-entries", self.registry_entries, 0..=MOST);
        checks.size(at, "registry-bytes", self.registry_bytes, 0..=MOST_BYTES);
    }
}
