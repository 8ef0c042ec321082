//! URLs of requests, taken apart.

use std::fmt;

use crate::{Error, Result};

/// `http` or `https`, host and port, path and query. Shown, it is the origin alone: path and query may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub is_tls: bool,
    pub authority: String,
    /// Path and query, starting with `/`.
    pub target: String,
}

impl Url {
    /// Takes a text apart. What the parts may hold is the host's to check.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = || {
            Error::Invalid(
                "a URL starts with http:// or https:// and a host, such as https://api.example.org/path"
                    .to_owned(),
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(malformed()),
        };
        // A fragment is never sent (RFC 9110, 4.2.3).
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.is_empty() {
            return Err(malformed());
        }
        if authority.contains('@') {
            return Err(Error::Invalid(
                "a URL with a user or a password is not sent; give them in the header `authorization`".to_owned(),
            ));
        }
        Ok(Self {
            is_tls,
            authority: authority.to_ascii_lowercase(),
            target: match target.starts_with('/') {
                true => target.to_owned(),
                false => format!("/{target}"),
            },
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = match self.is_tls {
            true => ("https", ":443"),
            false => ("http", ":80"),
        };
        let authority = self.authority.strip_suffix(usual);
        write!(f, "{scheme}://{}", authority.unwrap_or(&self.authority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        for (text, origin, target) in [
            ("https://api.example.org", "https://api.example.org", "/"),
            (
                "HTTPS://API.example.org:443/a?b#c",
                "https://api.example.org",
                "/a?b",
            ),
            (
                "http://127.0.0.1:8080?q=%20",
                "http://127.0.0.1:8080",
                "/?q=%20",
            ),
            ("http://[::1]:80/a//b?c/d?e", "http://[::1]", "/a//b?c/d?e"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.target.as_str()),
                (origin, target)
            );
        }
        for text in [
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "https:///a",
            "http://me:pw@example.org/",
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(
                matches!(error, Error::Invalid(_)) && !error.message().contains("pw"),
                "{text}"
            );
        }
    }
}
