//! The address of a listener, as it stands in the file.

use std::fmt;
use std::net::SocketAddr;

use serde::de::{Deserializer, Error, Visitor};

/// Reads an IP address and a port.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = SocketAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an IP address and a port as text, such as \"127.0.0.1:8080\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<SocketAddr, E> {
            text.parse().map_err(|_| {
                E::custom(
                    "must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"; host names \
                     are not looked up here",
                )
            })
        }
    }

    deserializer.deserialize_str(Text)
}
