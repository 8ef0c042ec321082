//! `[apps.<name>.http]`: requests that a guest sends.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{Checks, MOST};
use super::error::KeyPath;
use super::path;
use super::schema::{DurationText, PathText, SizeText};
use super::units;

/// Requests that the guest sends by `wasi:http`, to the origins that `capabilities.http` grants. A guest may shorten
/// the times for a request, and lengthen none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// A file with the certificates, in PEM, of the authorities to trust for `https://`, besides those that are
    /// trusted anyway.
    #[serde(deserialize_with = "path::deserialize_some")]
    #[schemars(with = "PathText")]
    pub ca_file: Option<PathBuf>,
    /// The most requests in flight on one node. One is in flight until its response was read to the end or dropped, and
    /// at least until its server's name was looked up, which nothing can stop.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: usize,
    /// How long finding the address, connecting and the TLS handshake may take together.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub connect_timeout: Duration,
    /// How long the head of the response may take to come, from the connection on; sending the request counts.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub first_byte_timeout: Duration,
    /// How long the body of the response may pause. A guest that does not read what has come makes no pause of it.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub between_bytes_timeout: Duration,
    /// The largest body of a response; `0` for any. The host keeps none of it: it reads on when the guest does.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub response_bytes: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            ca_file: None,
            requests: 100,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(120),
            between_bytes_timeout: Duration::from_secs(120),
            response_bytes: 0,
        }
    }
}

impl Http {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        checks.count(at, "requests", self.requests, 1..=MOST);
        checks.not_zero(at, "connect-timeout", self.connect_timeout);
        checks.not_zero(at, "first-byte-timeout", self.first_byte_timeout);
        checks.not_zero(at, "between-bytes-timeout", self.between_bytes_timeout);
    }
}
