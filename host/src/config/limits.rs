//! `[apps.<name>.limits]`: what an app may take.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{Checks, MOST};
use super::error::KeyPath;
use super::schema::{DurationText, SizeText};
use super::units::{self, MOST_BYTES};

/// The most handles that a call may be allowed.
const MOST_HANDLES: usize = 1_000_000;

/// What an app may take, on one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// The memory of one instance of the guest, all its memories together. At least `1MiB`.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub memory: u64,
    /// The memory of all instances of the guest together: its linear memories as they have grown, of which the system
    /// keeps only the pages that were touched. One instance may have its `memory` in any case.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub total_memory: u64,
    /// How long one call may compute. Waiting does not count. In the asynchronous world, where calls share an instance:
    /// how long one may compute before it lets the others go on.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub cpu_time: Duration,
    /// How long one call may last, waiting included; `0` for as long as it likes. In the asynchronous world, the
    /// instance of a call that lasts longer gets no more calls, and ends when the others in it have ended.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub wall_time: Duration,
    /// The most calls in flight.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub calls: usize,
    /// The most requests that wait for a free place among the calls. Past it clients are told to come back at once.
    #[schemars(range(max = 1_000_000_000))]
    pub waiting_calls: usize,
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
    /// The most handles that one call may hold: requests, connections, publishers, Redis clients, and what WASI has. In
    /// the asynchronous world, where calls share an instance, so many for each that may be in it.
    #[schemars(range(min = 16, max = 1_000_000))]
    pub handles: usize,
    /// The most that a guest may hand to the host in one call. Less than the larger ones of the limits above makes no
    /// difference: what they allow gets through.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub host_call_bytes: u64,
    /// The most lines that may come to the log in a second from what the guest prints. What it prints beyond them is
    /// left out.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub log_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            total_memory: 4 << 30,
            cpu_time: Duration::from_secs(1),
            wall_time: Duration::ZERO,
            calls: 1000,
            waiting_calls: 1000,
            queue_time: Duration::from_secs(1),
            connections: 100_000,
            channels_per_connection: 100,
            queue_bytes: 1 << 20,
            event_data: 1 << 20,
            request_body: 1 << 20,
            response_body: 8 << 20,
            registry_entries: 10_000,
            registry_bytes: 16 << 20,
            handles: 10_000,
            host_call_bytes: 64 << 20,
            log_lines: 1000,
        }
    }
}

impl Limits {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        let per_connection = self.channels_per_connection;
        checks.size(at, "memory", self.memory, 1 << 20..=MOST_BYTES);
        checks.size(at, "total-memory", self.total_memory, 1 << 20..=MOST_BYTES);
        checks.not_zero(at, "cpu-time", self.cpu_time);
        checks.count(at, "calls", self.calls, 1..=MOST);
        checks.count(at, "waiting-calls", self.waiting_calls, 0..=MOST);
        checks.count(at, "connections", self.connections, 1..=MOST);
        checks.count(at, "channels-per-connection", per_connection, 1..=MOST);
        checks.size(at, "queue-bytes", self.queue_bytes, 1..=MOST_BYTES);
        checks.size(at, "event-data", self.event_data, 1..=MOST_BYTES);
        checks.size(at, "request-body", self.request_body, 0..=MOST_BYTES);
        checks.size(at, "response-body", self.response_body, 1..=MOST_BYTES);
        checks.count(at, "registry-entries", self.registry_entries, 0..=MOST);
        checks.size(at, "registry-bytes", self.registry_bytes, 0..=MOST_BYTES);
        checks.count(at, "handles", self.handles, 16..=MOST_HANDLES);
        checks.size(at, "host-call-bytes", self.host_call_bytes, 1..=MOST_BYTES);
        checks.count(at, "log-lines", self.log_lines, 1..=MOST);
    }
}
