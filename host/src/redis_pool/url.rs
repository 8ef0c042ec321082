//! The URL of a Redis server.
//!
//! It may hold a password, so no error, log line or debug output ever shows any part of the text that was given:
//! even a piece that looks like a port may be part of a password that was not escaped.

use std::{fmt, net::Ipv4Addr, net::Ipv6Addr};

use super::{RedisError, servers::Servers};

/// The port of Redis where none is given.
const DEFAULT_PORT: u16 = 6379;
/// The longest name of a host, in bytes.
const HOST_BYTES: usize = 253;

/// Where a Redis server is and how to log in: `redis://[user][:password@]host[:port][/database]`, or `rediss://`
/// for TLS.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedisUrl {
    tls: bool,
    /// In lower case; an IPv6 address without its brackets.
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
    database: u32,
    /// What is to be found at the address.
    servers: Servers,
}

impl RedisUrl {
    /// Reads a URL. Errors are [`RedisError::Invalid`] and say what is wrong without showing the URL.
    pub fn parse(text: &str) -> Result<Self, RedisError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("it must start with redis://, or with rediss:// for TLS"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "redis" => false,
            "rediss" => true,
            _ => {
                return Err(invalid(
                    "it must start with redis://, or with rediss:// for TLS; nothing else is supported",
                ));
            }
        };
        if rest.contains('#') {
            return Err(invalid(
                "it must not have a `#` part; a `#` in the user or the password is written `%23`",
            ));
        }
        if rest.contains('?') {
            return Err(invalid(
                "it must not have a `?` part, there are no options; a `?` in the user or the password is written \
                 `%3F`",
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (login, place),
            None => ("", authority),
        };
        let (user, password) = login_of(login)?;
        let (host, port) = place_of(place)?;
        Ok(Self {
            tls,
            host,
            port,
            user,
            password,
            database: database_of(path)?,
            servers: Servers::One,
        })
    }

    /// The same, but what is at the address is this.
    pub fn with_servers(self, servers: Servers) -> Self {
        Self { servers, ..self }
    }

    /// The same, for keys with this name in braces: in a cluster it leads to the server that has them.
    pub fn for_key(mut self, name: &str) -> Self {
        if let Servers::Cluster { key, .. } = &mut self.servers {
            *key = name.to_owned();
        }
        self
    }

    /// What is to be found at the address.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// One server at another place, to be spoken to in the same way.
    pub(super) fn at(&self, host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            servers: Servers::One,
            ..self.clone()
        }
    }

    /// The same in another database.
    pub(super) fn in_database(self, database: u32) -> Self {
        Self { database, ..self }
    }

    /// The same without user and password.
    pub(super) fn without_login(&self) -> Self {
        Self {
            user: None,
            password: None,
            database: 0,
            ..self.clone()
        }
    }

    /// `host:port` in the one form in which addresses are compared: lower case, IPv6 shortened and in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Names server, user and database, without the password: two URLs with the same key mean the same data.
    pub fn key(&self) -> String {
        self.to_string()
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        match &self.servers {
            Servers::One => self.address(),
            Servers::Sentinels { master, .. } => {
                format!("{master} (sentinel {})", self.address())
            }
            Servers::Cluster { .. } => format!("{} (cluster)", self.address()),
        }
    }

    /// The host; an IPv6 address without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// User and password to log in with, if there are any.
    pub(super) fn login(&self) -> Option<(&str, &str)> {
        match (&self.user, &self.password) {
            (None, None) => None,
            (user, password) => Some((
                user.as_deref().unwrap_or("default"),
                password.as_deref().unwrap_or_default(),
            )),
        }
    }

    pub(super) fn database(&self) -> u32 {
        self.database
    }
}

/// Without the password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", user.escape_debug())?;
        }
        write!(f, "{}/{}", self.address(), self.database)
    }
}

/// Without the password.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

fn invalid(what: &str) -> RedisError {
    RedisError::Invalid(format!(
        "the Redis URL is malformed: {what}. Its form is redis://user:password@host:port/database, where all but \
         the host may be left out"
    ))
}

fn login_of(text: &str) -> Result<(Option<String>, Option<String>), RedisError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let part = |text: &str| {
        match text {
        "" => Ok(None),
        text => percent_decode(text).map(Some).ok_or_else(|| {
            invalid("a `%` in the user or the password is not the start of an escape such as `%40`, or does not stand for UTF-8; a `%` itself is written `%25`")
        }),
    }
    };
    Ok((part(user)?, part(password)?))
}

pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

pub(super) fn place_of(text: &str) -> Result<(String, u16), RedisError> {
    let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_brackets..].rfind(':') {
        Some(colon) => {
            let colon = after_brackets + colon;
            (&text[..colon], Some(&text[colon + 1..]))
        }
        None => (text, None),
    };
    if host.is_empty() {
        return Err(invalid("it names no host"));
    }
    let host = host_of(host).ok_or_else(|| {
        invalid(
            "the host is none; write a name such as redis.example, an address such as 10.0.0.7, or [::1] in \
             brackets, and escape any of `/?#@:%` in the user or the password with `%`",
        )
    })?;
    let port = match port {
        None => DEFAULT_PORT,
        Some(text) => digits(text)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
            .ok_or_else(|| invalid("the port is not a number from 1 to 65535"))?,
    };
    Ok((host, port))
}

fn host_of(text: &str) -> Option<String> {
    if let Some(inside) = text.strip_prefix('[') {
        let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    let host = text.to_ascii_lowercase();
    // Resolvers take `127.1` and `0x7f000001` for addresses, which no grant would be recognised for.
    let last = host.rsplit('.').next()?;
    if last.starts_with(|c: char| c.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    let good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (host.len() <= HOST_BYTES && host.split('.').all(good)).then_some(host)
}

fn database_of(path: &str) -> Result<u32, RedisError> {
    match path {
        "" => Ok(0),
        path => digits(path).ok_or_else(|| {
            invalid(
                "what follows the host is not the number of a database, such as in redis://host:6379/0; a `/` in \
                 the user or the password is written `%2F`",
            )
        }),
    }
}

/// A number in plain digits: `parse` takes `+7` as well.
fn digits(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> RedisUrl {
        RedisUrl::parse(text).unwrap()
    }

    #[test]
    fn reads_every_part() {
        let full = url("rediss://ali%40ce:p%3Ass%2F@Redis.Example:7000/12");
        assert!(full.is_tls());
        assert_eq!(full.address(), "redis.example:7000");
        assert_eq!(full.login(), Some(("ali@ce", "p:ss/")));
        assert_eq!(full.database(), 12);

        let bare = url("redis://localhost");
        assert!(!bare.is_tls());
        assert_eq!(bare.address(), "localhost:6379");
        assert_eq!(bare.login(), None);
        assert_eq!(bare.database(), 0);
    }

    #[test]
    fn a_password_alone_is_that_of_the_default_user() {
        assert_eq!(url("redis://:pw@h").login(), Some(("default", "pw")));
        assert_eq!(url("redis://bob@h").login(), Some(("bob", "")));
        assert_eq!(url("redis://:@h").login(), None);
        assert_eq!(url("redis://:a:b@c@h").login(), Some(("default", "a:b@c")));
    }

    #[test]
    fn addresses_have_one_form() {
        for (text, address) in [
            ("REDIS://LOCALHOST:6379/", "localhost:6379"),
            ("redis://[0:0:0:0:0:0:0:1]", "[::1]:6379"),
            ("redis://[::1]:7", "[::1]:7"),
            ("redis://10.0.0.7:1/3", "10.0.0.7:1"),
            ("redis://my_redis-1", "my_redis-1:6379"),
        ] {
            assert_eq!(url(text).address(), address);
        }
    }

    #[test]
    fn refuses_what_is_malformed_and_never_shows_it() {
        for text in [
            "",
            "hunter2",
            "hunter2://h",
            "unix:///hunter2",
            "redis+unix:///hunter2",
            "redis:hunter2",
            "redis://",
            "redis:///0",
            "redis://:hunter2@",
            "redis://:hunter2@:6379",
            "redis://:hunter2@h:",
            "redis://:hunter2@h:0",
            "redis://:hunter2@h:65536",
            "redis://:hunter2@h:+1",
            "redis://:hunter2@h/x",
            "redis://:hunter2@h/-1",
            "redis://:hunter2@h/0/1",
            "redis://:hunter2@h/99999999999",
            "redis://:hunter2@h?protocol=resp3",
            "redis://:hunter2@h#insecure",
            "redis://:hunter2%zz@h",
            "redis://:hunter2%ff@h",
            "redis://:hunter2%4",
            "redis://:hun/ter2@h",
            "redis://:hun?ter2@h",
            "redis://:hunter2@a b",
            "redis://:hunter2@a..b",
            "redis://:hunter2@127.1",
            "redis://:hunter2@0x7f000001",
            "redis://:hunter2@[::1",
            "redis://:hunter2@::1",
            "redis://:hunter2@[fe80::1%25eth0]",
            "redis://h:hunter2",
        ] {
            let Err(RedisError::Invalid(error)) = RedisUrl::parse(text) else {
                panic!("{text:?} was taken");
            };
            for secret in ["hunter2", "ter2", "hun"] {
                assert!(!error.contains(secret), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn what_is_shown_holds_no_password() {
        let url = url("redis://bob:hunter2@h/1");
        assert_eq!(url.to_string(), "redis://bob@h:6379/1");
        assert_eq!(format!("{url:?}"), "RedisUrl(redis://bob@h:6379/1)");
        assert_eq!(url.key(), "redis://bob@h:6379/1");
    }

    proptest! {
        #[test]
        fn survives_anything(text in any::<String>(), near in "redis://[a-z0-9@:/%\\[\\]?#.]{0,30}") {
            let _ = RedisUrl::parse(&text);
            let _ = RedisUrl::parse(&near);
        }
    }
}
