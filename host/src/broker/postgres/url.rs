//! The URL of a PostgreSQL database.
//!
//! It may hold a password, so no error, log line or debug output ever shows any part of the text that was given.

use std::fmt;

use thiserror::Error;
use tokio_postgres::{
    Config,
    config::{Host, TargetSessionAttrs},
};

/// The port of PostgreSQL where none is given.
const DEFAULT_PORT: u16 = 5432;

/// Where a database is and how to log in: `postgres://user[:password]@host[:port][,host[:port]…][/database][?option=…]`,
/// with the options of libpq, of which those count that tokio-postgres knows.
///
/// Of several hosts the first one is taken that can be written to. `sslmode` is `prefer` where it is not given: TLS if
/// the server speaks it. Whatever the mode, TLS means that the certificate is checked, so `verify-full` and `verify-ca`
/// are the same as `require`.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    config: Config,
}

/// A URL is none.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error(
    "the PostgreSQL URL is malformed: {0}. Its form is postgres://user:password@host:port/database?sslmode=require, where \
     the password, the port, the database and the options may be left out; any of `/?#@:%` in the user or the password \
     is escaped with `%`, as in `%40`"
)]
pub struct BadUrl(&'static str);

impl PostgresUrl {
    /// Reads a URL. Errors say what is wrong without showing the URL.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if !(text.starts_with("postgres://") || text.starts_with("postgresql://")) {
            return Err(BadUrl("it must start with postgres://"));
        }
        let text = text.replace("sslmode=verify-full", "sslmode=require");
        let text = text.replace("sslmode=verify-ca", "sslmode=require");
        // What it says of the reason may hold a piece of a password.
        let mut config: Config = text.parse().map_err(|_| {
            BadUrl("a port, an escape or an option is none, or an option is not known")
        })?;
        if config.get_user().is_none_or(str::is_empty) {
            return Err(BadUrl("it names no user"));
        }
        if config.get_hosts().is_empty() {
            return Err(BadUrl("it names no host"));
        }
        // An `@` in a password that is not escaped makes a part of the password look like a host.
        if !config.get_hosts().iter().all(is_host) {
            return Err(BadUrl("a host is none"));
        }
        if !config.get_hostaddrs().is_empty()
            && config.get_hostaddrs().len() != config.get_hosts().len()
        {
            return Err(BadUrl("there are not as many `hostaddr` as hosts"));
        }
        let ports = config.get_ports().len();
        if ports > 1 && ports != config.get_hosts().len() {
            return Err(BadUrl("there are not as many ports as hosts"));
        }
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("fanfare");
        }
        Ok(Self { config })
    }

    /// `host:port` of each server, with commas in between.
    pub fn address(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate();
        let addresses = hosts.map(|(number, host)| {
            let port = ports.get(number).or(ports.first());
            let port = port.copied().unwrap_or(DEFAULT_PORT);
            match host {
                Host::Tcp(host) if host.contains(':') => format!("[{host}]:{port}"),
                Host::Tcp(host) => format!("{host}:{port}"),
                #[cfg(unix)]
                Host::Unix(folder) => format!("{}:{port}", folder.display()),
            }
        });
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The user to log in as.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// The database, which has the name of the user where none is given.
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or(self.user())
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

/// Without the password.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, database) = (self.user().escape_debug(), self.database().escape_debug());
        write!(f, "postgres://{user}@{}/{database}", self.address())
    }
}

/// Without the password.
impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

fn is_host(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
            !name.is_empty() && name.bytes().all(good)
        }
        #[cfg(unix)]
        Host::Unix(folder) => folder.to_str().is_some_and(|folder| !folder.contains('@')),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_postgres::config::SslMode;

    use super::*;

    fn url(text: &str) -> PostgresUrl {
        PostgresUrl::parse(text).unwrap()
    }

    #[test]
    fn reads_every_part() {
        let full = url("postgresql://ali%40ce:p%3Ass%2F@db.example:7000/news?sslmode=verify-full");
        assert_eq!(full.address(), "db.example:7000");
        assert_eq!((full.user(), full.database()), ("ali@ce", "news"));
        assert_eq!(full.config().get_password(), Some(b"p:ss/".as_slice()));
        assert_eq!(full.config().get_ssl_mode(), SslMode::Require);

        let bare = url("postgres://bob@localhost");
        assert_eq!(bare.address(), "localhost:5432");
        assert_eq!((bare.user(), bare.database()), ("bob", "bob"));
        assert_eq!(bare.config().get_ssl_mode(), SslMode::Prefer);

        let many = url("postgres://bob@[::1]:1,b:2/x");
        assert_eq!(many.address(), "[::1]:1,b:2");
        let socket = url("postgres://bob@%2Frun%2Fpostgresql/x");
        assert_eq!(socket.address(), "/run/postgresql:5432");
    }

    #[test]
    fn refuses_what_is_malformed_and_never_shows_it() {
        for text in [
            "",
            "hunter2",
            "host=h user=u password=hunter2",
            "mysql://u:hunter2@h",
            "postgres://",
            "postgres://h",
            "postgres://:hunter2@h",
            "postgres://u:hunter2@",
            "postgres://u:hunter2",
            "postgres://u:hunter2@h:0x/db",
            "postgres://u:hun@ter2@h/db",
            "postgres://u:hunter2@a b/db",
            "postgres://u:hunter2@h/db?hunter2",
            "postgres://u:hunter2@h/db?hunter2=1",
            "postgres://u:hunter2@h/db?sslmode=hunter2",
            "postgres://u%ff:hunter2@h/db",
            "postgres://u:hunter2@a,b/db?hostaddr=1.2.3.4",
            "postgres://u@%2Frun:hunter2%40h/db",
        ] {
            let Err(error) = PostgresUrl::parse(text) else {
                panic!("{text:?} was taken");
            };
            let error = error.to_string();
            for secret in ["hunter2", "ter2"] {
                assert!(!error.contains(secret), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn what_is_shown_holds_no_password() {
        let url = url("postgres://bob:hunter2@h/news");
        assert_eq!(url.to_string(), "postgres://bob@h:5432/news");
        assert_eq!(
            format!("{url:?}"),
            "PostgresUrl(postgres://bob@h:5432/news)"
        );
    }

    proptest! {
        #[test]
        fn survives_anything(text in any::<String>(), near in "postgres://[a-z0-9@:/%\\[\\]?=&.,]{0,40}") {
            let _ = PostgresUrl::parse(&text);
            let _ = PostgresUrl::parse(&near);
        }
    }
}
