//! `[admin]`: the listener for those who run the node.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

use super::checks::Checks;
use super::error::KeyPath;
use super::socket_address;

/// The admin listener: metrics and health, for those who run the node. Without this table there is none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Admin {
    /// The IP address and port: one of loopback, such as `127.0.0.1:9090` or `[::1]:9090`, because the listener asks
    /// nobody who they are.
    #[serde(deserialize_with = "socket_address::deserialize")]
    pub address: SocketAddr,
}

/// Others than this machine would reach the admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the admin listener has no authentication yet, so it listens on loopback only, such as \"127.0.0.1:9090\"; reach it \
     from elsewhere through a tunnel, or a proxy that asks who comes"
)]
pub struct NotLoopback;

impl Admin {
    /// An admin listener at this address, with defaults.
    pub fn new(address: SocketAddr) -> Result<Self, NotLoopback> {
        // Such as `::ffff:127.0.0.1`, too.
        match address.ip().to_canonical().is_loopback() {
            true => Ok(Self { address }),
            false => Err(NotLoopback),
        }
    }

    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        if let Err(error) = Self::new(self.address) {
            checks.refuse(at.key("address"), error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_taken() {
        let new = |address: &str| Admin::new(address.parse().unwrap());
        for fine in [
            "127.0.0.1:0",
            "127.1.2.3:9090",
            "[::1]:9090",
            "[::ffff:127.0.0.1]:9090",
        ] {
            assert!(new(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "0.0.0.0:9090",
            "[::]:9090",
            "10.0.0.1:9090",
            "192.0.2.1:9090",
            "[::ffff:192.0.2.1]:9090",
            "[fe80::1]:9090",
        ] {
            assert_eq!(new(wrong), Err(NotLoopback), "{wrong}");
        }
    }
}
