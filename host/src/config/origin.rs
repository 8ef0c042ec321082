//! Origins of web pages, whose scripts may read a stream.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::host;

/// An exact origin, such as `https://example.org`, in the form in which browsers send it; or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

/// Why a text is no [`Origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OriginError {
    /// Not an origin.
    #[error(
        "an origin is a scheme and a host, with a port where it is not the usual one, such as \"https://example.org\""
    )]
    Form,
    /// More than an origin.
    #[error(
        "an origin ends with the host or the port: it has no path, not even `/`, no query and no user"
    )]
    Path,
    /// A pattern.
    #[error("an origin is exact, or \"*\" for all; name each one instead of a pattern")]
    Pattern,
    /// `null`.
    #[error(
        "the origin `null` is that of any sandboxed page; name the page's own, or \"*\" for all"
    )]
    Null,
}

impl Origin {
    /// Whether this is `*`.
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// The origin as browsers send it, or `*`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the origin that a request names in its header `Origin`; `*` names none.
    pub fn names(&self, origin: &str) -> bool {
        !self.is_any() && self.0 == origin
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        match text {
            "*" => return Ok(Self(text.to_owned())),
            "null" => return Err(OriginError::Null),
            _ => {}
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::Form)?;
        if !is_scheme(scheme) {
            return Err(OriginError::Form);
        }
        let scheme = scheme.to_ascii_lowercase();
        if rest.contains(['/', '?', '#', '@', '\\']) {
            return Err(OriginError::Path);
        }
        if rest.contains('*') {
            return Err(OriginError::Pattern);
        }
        let (host, port) = host::split_port(rest);
        let host = host::canonical(host).ok_or(OriginError::Form)?;
        let port = match port {
            Some(port) => Some(host::port(port).ok_or(OriginError::Form)?),
            None => None,
        };
        Ok(Self(match port {
            Some(port) if usual_port(&scheme) != Some(port) => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        }))
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origins() {
        for (text, origin) in [
            ("*", "*"),
            ("https://example.org", "https://example.org"),
            ("HTTPS://Example.ORG:443", "https://example.org"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:443", "http://localhost:443"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[0::1]:8080", "http://[::1]:8080"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(
                text.parse::<Origin>().as_ref().map(Origin::as_str),
                Ok(origin)
            );
        }
        for (text, error) in [
            ("", OriginError::Form),
            ("example.org", OriginError::Form),
            ("://example.org", OriginError::Form),
            ("https://", OriginError::Form),
            ("https://a b", OriginError::Form),
            ("https://example.org:", OriginError::Form),
            ("https://example.org:x", OriginError::Form),
            ("https://example.org/", OriginError::Path),
            ("https://example.org?x", OriginError::Path),
            ("https://me@example.org", OriginError::Path),
            ("https://*.example.org", OriginError::Pattern),
            ("null", OriginError::Null),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_named() {
        let all: Origin = "*".parse().unwrap();
        assert!(all.is_any() && !all.names("https://example.org") && !all.names("*"));
        let one: Origin = "https://example.org".parse().unwrap();
        assert!(one.names("https://example.org"));
        for other in ["http://example.org", "https://example.org:8443", "null", ""] {
            assert!(!one.names(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_shown_is_read_again(
            text in any::<String>(),
            near in "[a-z+]{0,5}://[a-zA-Z0-9.:\\[\\]ü*/-]{0,20}",
        ) {
            for text in [text, near] {
                if let Ok(origin) = text.parse::<Origin>() {
                    prop_assert_eq!(origin.to_string().parse::<Origin>(), Ok(origin));
                }
            }
        }
    }
}
