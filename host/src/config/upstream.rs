//! Servers that a guest may send requests to.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::host;
use super::origin::{Origin, OriginError};

/// The exact origin of a server: `http` or `https`, a host and a port, in the one form in which origins can be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream(Origin);

/// Why a text is no [`Upstream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UpstreamError {
    /// All origins, which nobody can grant.
    #[error(
        "name each origin, such as \"https://api.example.org\"; there are no patterns, and no \"*\" for all"
    )]
    Any,
    /// Another scheme.
    #[error("requests are sent with http:// or https:// alone")]
    Scheme,
    /// Not an origin.
    #[error(transparent)]
    Origin(OriginError),
}

impl Upstream {
    /// Whether it is spoken to with TLS.
    pub fn is_tls(&self) -> bool {
        self.0.as_str().starts_with("https:")
    }

    /// The host as resolvers and certificates name it: an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        let (host, _) = host::split_port(self.authority());
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let (_, port) = host::split_port(self.authority());
        let usual = if self.is_tls() { 443 } else { 80 };
        port.and_then(host::port).unwrap_or(usual)
    }

    /// Host and port as the header `host` names them.
    pub fn authority(&self) -> &str {
        let origin = self.0.as_str();
        origin.split_once("://").map_or(origin, |(_, rest)| rest)
    }
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let origin: Origin = text.parse().map_err(|error| match error {
            OriginError::Pattern => UpstreamError::Any,
            error => UpstreamError::Origin(error),
        })?;
        match origin.as_str().split_once("://") {
            None => Err(UpstreamError::Any),
            Some(("http" | "https", _)) => Ok(Self(origin)),
            Some(_) => Err(UpstreamError::Scheme),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Upstream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upstreams() {
        for (text, shown, host, port) in [
            (
                "https://api.example.org",
                "https://api.example.org",
                "api.example.org",
                443,
            ),
            (
                "HTTPS://API.example.org:443",
                "https://api.example.org",
                "api.example.org",
                443,
            ),
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080",
                "127.0.0.1",
                8080,
            ),
            ("http://localhost", "http://localhost", "localhost", 80),
            (
                "http://localhost:443",
                "http://localhost:443",
                "localhost",
                443,
            ),
            ("https://[0::1]:8443", "https://[::1]:8443", "::1", 8443),
            ("https://[::1]", "https://[::1]", "::1", 443),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.to_string(), shown);
            assert_eq!((upstream.host(), upstream.port()), (host, port));
            assert_eq!(upstream.is_tls(), shown.starts_with("https"));
            assert!(shown.ends_with(upstream.authority()));
        }
        for (text, error) in [
            ("*", UpstreamError::Any),
            ("https://*.example.org", UpstreamError::Any),
            ("ftp://example.org", UpstreamError::Scheme),
            ("api.example.org", UpstreamError::Origin(OriginError::Form)),
            ("https://", UpstreamError::Origin(OriginError::Form)),
            (
                "https://example.org.",
                UpstreamError::Origin(OriginError::Form),
            ),
            ("http://127.1", UpstreamError::Origin(OriginError::Form)),
            (
                "http://0x7f000001",
                UpstreamError::Origin(OriginError::Form),
            ),
            (
                "https://example.org/",
                UpstreamError::Origin(OriginError::Path),
            ),
            (
                "https://me@example.org",
                UpstreamError::Origin(OriginError::Path),
            ),
        ] {
            assert_eq!(text.parse::<Upstream>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_is_read_again(near in "https?://[a-zA-Z0-9.:\\[\\]ü*/-]{0,20}") {
            if let Ok(upstream) = near.parse::<Upstream>() {
                let (_, _) = (upstream.host(), upstream.port());
                prop_assert_eq!(upstream.to_string().parse::<Upstream>(), Ok(upstream));
            }
        }
    }
}
