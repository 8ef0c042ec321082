//! Addresses of services that an app may reach.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::host;

/// The port of Redis where none is given.
pub const REDIS_PORT: u16 = 6379;

/// A host and a port, in the one form in which addresses can be compared: lower-cased, IPv6 shortened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not a host.
    #[error(
        "an address is one host and a port, such as \"redis.example:6379\", \"10.0.0.7\" or \"[::1]:6379\"; there \
         are no patterns"
    )]
    Host,
    /// Not a port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// A URL.
    #[error(
        "an address has no scheme, user or path: of redis://user@host:6379/0 write \"host:6379\""
    )]
    Url,
}

impl Address {
    /// The address of a host, an IPv6 one in brackets, and a port other than 0.
    pub fn new(host: &str, port: u16) -> Result<Self, AddressError> {
        if port == 0 {
            return Err(AddressError::Port);
        }
        let host = host::canonical(host).ok_or(AddressError::Host)?;
        Ok(Self { host, port })
    }

    /// The host; an IPv6 address is in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `host:port`, or `host` for the port of Redis.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains(['/', '@']) {
            return Err(AddressError::Url);
        }
        let (host, port) = host::split_port(text);
        let port = match port {
            Some(port) => host::port(port).ok_or(AddressError::Port),
            None => Ok(REDIS_PORT),
        };
        // The host first: of `::1` it is not the port that is wrong.
        let host = host::canonical(host).ok_or(AddressError::Host)?;
        Ok(Self { host, port: port? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("Redis", "redis:6379"),
            ("redis:7000", "redis:7000"),
            ("10.0.0.7", "10.0.0.7:6379"),
            ("[::1]", "[::1]:6379"),
            ("[0::1]:1", "[::1]:1"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for (text, error) in [
            ("", AddressError::Host),
            ("*", AddressError::Host),
            ("*:6379", AddressError::Host),
            ("::1", AddressError::Host),
            (":6379", AddressError::Host),
            ("redis:", AddressError::Port),
            ("redis:0", AddressError::Port),
            ("redis:70000", AddressError::Port),
            ("redis://redis:6379", AddressError::Url),
            ("user@redis", AddressError::Url),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }

    #[test]
    fn made_of_parts_it_compares_equal() {
        assert_eq!(Address::new("REDIS", 6379), "redis".parse());
        assert_eq!(Address::new("redis", 0), Err(AddressError::Port));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_is_read_again(text in any::<String>(), near in "[a-z0-9.:\\[\\]-]{0,20}") {
            for text in [text, near] {
                if let Ok(address) = text.parse::<Address>() {
                    prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
                }
            }
        }
    }
}
