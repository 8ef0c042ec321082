//! Where NATS servers are and how to log in.

use std::fmt;

use thiserror::Error;
use url::Url;

use crate::redis_pool::percent_decode;

/// The port of NATS where none is given.
const DEFAULT_PORT: u16 = 4222;

/// Where the servers of one cluster are and how to log in: `nats://[user:password@|token@]host[:port]`, or `tls://`
/// where TLS is to be demanded; several are separated by commas. Where a server demands TLS itself, it is used either
/// way.
///
/// It may hold a password, so neither errors nor debug output show any part of what was given but hosts and ports.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl {
    /// `host:port` each.
    servers: Vec<String>,
    tls: bool,
    login: Login,
}

/// How to log in.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Nobody,
    User(String, String),
    Token(String),
}

/// The URL of a NATS server is malformed.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error(
    "the NATS URL is malformed: {0}. Its form is nats://user:password@host:port or nats://token@host:port, with tls:// \
     in place of nats:// for TLS; several servers are separated by commas"
)]
pub struct BadUrl(&'static str);

impl NatsUrl {
    /// Reads a URL, or several.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let mut parsed = Self {
            servers: Vec::new(),
            tls: false,
            login: Login::Nobody,
        };
        for (number, one) in text.split(',').enumerate() {
            let (server, tls, login) = parse_one(one.trim())?;
            if number > 0 && tls != parsed.tls {
                return Err(BadUrl("some of its servers are tls:// and some are not"));
            }
            parsed.tls = tls;
            match (&parsed.login, login) {
                (_, Login::Nobody) => {}
                (Login::Nobody, login) => parsed.login = login,
                (known, login) if *known == login => {}
                _ => {
                    return Err(BadUrl(
                        "its servers have different logins; a comma in a password is written `%2C`",
                    ));
                }
            }
            parsed.servers.push(server);
        }
        Ok(parsed)
    }

    /// `host:port` of each server.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The servers, for people.
    pub(super) fn address(&self) -> String {
        self.servers.join(", ")
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn login(&self) -> &Login {
        &self.login
    }
}

fn parse_one(text: &str) -> Result<(String, bool, Login), BadUrl> {
    let tls = match text.split_once("://").map(|(scheme, _)| scheme) {
        Some("nats") => false,
        Some("tls") => true,
        _ => return Err(BadUrl("it must start with nats://, or with tls:// for TLS")),
    };
    // Not every URL of an unknown scheme has its parts checked: what matters here is checked below.
    let url = Url::parse(text).map_err(|_| {
        BadUrl("it is no URL; characters of the password that mean something in one are written as `%40` and the like")
    })?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(BadUrl(
            "there must be nothing after the port; a `/`, `?` or `#` in the password is written `%2F`, `%3F` or `%23`",
        ));
    }
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or(BadUrl("there is no host"))?;
    let decoded = |text| {
        percent_decode(text).ok_or(BadUrl(
            "a `%` in the user or the password is not the start of an escape such as `%40`, or does not stand for \
             UTF-8; a `%` itself is written `%25`",
        ))
    };
    let login = match (url.username(), url.password()) {
        ("", None) => Login::Nobody,
        (token, None) => Login::Token(decoded(token)?),
        (user, Some(password)) => Login::User(decoded(user)?, decoded(password)?),
    };
    let port = url.port().unwrap_or(DEFAULT_PORT);
    Ok((format!("{host}:{port}"), tls, login))
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsUrl({})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url = NatsUrl::parse("nats://h").unwrap();
        assert_eq!(url.servers(), ["h:4222"]);
        assert!(!url.is_tls() && url.login == Login::Nobody);
        let url = NatsUrl::parse("tls://us%40er:pass%2Cword@h:1, tls://[::1]:2/").unwrap();
        assert_eq!(url.servers(), ["h:1", "[::1]:2"]);
        assert!(url.is_tls());
        assert!(url.login == Login::User("us@er".into(), "pass,word".into()));
        let url = NatsUrl::parse("nats://s3cret@h").unwrap();
        assert!(url.login == Login::Token("s3cret".into()));
    }

    #[test]
    fn bad_urls_are_told_without_their_secrets() {
        for (bad, reason) in [
            ("", "start with"),
            ("redis://u:s3cret@h", "start with"),
            ("nats://u:s3cret@", "no"),
            ("nats://u:s3cret@h:s3cret", "no URL"),
            ("nats://u:s3cret@h/x", "after the port"),
            ("nats://u:s3cret@h?x", "after the port"),
            ("nats://u:s3cret%@h", "escape"),
            ("nats://u:s3cret@h,tls://h", "some are not"),
            ("nats://u:s3cret@h,nats://u:s3cret2@h", "different"),
            ("nats://u:s3cret,x@h", "no"),
        ] {
            let error = NatsUrl::parse(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let url = NatsUrl::parse("nats://user:s3cret@h").unwrap();
        assert_eq!(format!("{url:?}"), "NatsUrl(h:4222)");
    }
}
