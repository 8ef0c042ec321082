//! The address of a listener, as it stands in the file and on the command line.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{self, Deserializer, Visitor};
use thiserror::Error;

/// A text is not the address of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"; host names are not looked up here"
)]
pub struct SocketAddressError;

/// Reads an IP address and a port.
pub fn listen_address(text: &str) -> Result<SocketAddr, SocketAddressError> {
    text.parse().map_err(|_| SocketAddressError)
}

/// Reads it from the file.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = SocketAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an IP address and a port as text, such as \"127.0.0.1:8080\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<SocketAddr, E> {
            listen_address(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text)
}
