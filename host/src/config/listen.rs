//! `[listen]`: the public listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{Checks, MOST};
use super::error::KeyPath;
use super::schema::{DurationText, PathText, SizeText};
use super::units::MOST_BYTES;
use super::{path, socket_address, units};

/// Where clients connect, and what one of them may take before a handler sees it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Listen {
    /// The IP address and port. `0.0.0.0:8080` or `[::]:8080` to be reached from other machines.
    #[serde(deserialize_with = "socket_address::deserialize")]
    pub address: SocketAddr,
    /// Serves HTTPS in place of HTTP.
    #[schemars(with = "Tls")]
    pub tls: Option<Tls>,
    /// The most sockets at a time. More clients than that wait to be accepted.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_connections: usize,
    /// The most that the head of a request may be: its request line and headers. From `8KiB` to `1MiB`.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub head_bytes: u64,
    /// How long a client may take to send the head of a request.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub head_timeout: Duration,
    /// How long a client may take to send the body of a request.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub body_timeout: Duration,
    /// How long a client may take nothing of what is sent to it before its socket is closed.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub write_timeout: Duration,
    /// The most that the bodies of all requests may take while they are read and handled. More requests with a body
    /// than that are answered with 503.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub bodies: u64,
}

/// The certificate of the public listener, which then serves HTTPS in place of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// The file with the certificate and those that lead to its root, in PEM.
    #[serde(deserialize_with = "path::deserialize")]
    #[schemars(with = "PathText")]
    pub certificate: PathBuf,
    /// The file with the certificate's private key, in PEM.
    #[serde(deserialize_with = "path::deserialize")]
    #[schemars(with = "PathText")]
    pub key: PathBuf,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: None,
            max_connections: 100_000,
            head_bytes: 64 << 10,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            bodies: 256 << 20,
        }
    }
}

impl Listen {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        checks.count(at, "max-connections", self.max_connections, 1..=MOST);
        checks.size(at, "head-bytes", self.head_bytes, 8 << 10..=1 << 20);
        checks.not_zero(at, "head-timeout", self.head_timeout);
        checks.not_zero(at, "body-timeout", self.body_timeout);
        checks.not_zero(at, "write-timeout", self.write_timeout);
        checks.size(at, "bodies", self.bodies, 64 << 10..=MOST_BYTES);
    }
}
