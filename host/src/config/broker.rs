//! `[brokers.<label>]`: what carries events between nodes.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use thiserror::Error;
use url::Url;

use super::checks::Checks;
use super::error::KeyPath;
use super::secret::Secret;

/// A broker that guests open by its label.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(
    tag = "type",
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Broker {
    /// This node alone, in memory.
    Memory,
    /// Every node that has a broker with the same server and sync channel.
    Redis {
        /// The server: `redis://user:password@host:port/database`, or `rediss://` for TLS.
        #[schemars(with = "String")]
        url: Secret,
        /// Names what the nodes share on the server. Brokers with the same server and the same name hear each
        /// other's events.
        #[schemars(length(min = 1))]
        sync_channel: String,
    },
}

/// The keys of every type. One table, because serde loses positions when it picks a variant by a tag.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Keys {
    r#type: Type,
    url: Option<Secret>,
    sync_channel: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Memory,
    Redis,
}

impl<'de> Deserialize<'de> for Broker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Keys::deserialize(deserializer)?;
        match keys.r#type {
            Type::Memory if keys.url.is_some() || keys.sync_channel.is_some() => {
                Err(D::Error::custom(
                    "`url` and `sync-channel` are keys of brokers with `type = \"redis\"`; drop them, or change \
                     the type",
                ))
            }
            Type::Memory => Ok(Self::Memory),
            Type::Redis => Ok(Self::Redis {
                url: keys.url.ok_or_else(|| D::Error::missing_field("url"))?,
                sync_channel: keys
                    .sync_channel
                    .ok_or_else(|| D::Error::missing_field("sync-channel"))?,
            }),
        }
    }
}

impl Broker {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        let Self::Redis { url, sync_channel } = self else {
            return;
        };
        if let Err(error) = check_url(url.expose()) {
            checks.refuse_secret(at.key("url"), error);
        }
        if sync_channel.is_empty() || sync_channel.contains(char::is_control) {
            checks.refuse(
                at.key("sync-channel"),
                "must be a name without control characters, such as \"fanfare\"",
            );
        }
    }
}

/// What is wrong with the URL of a Redis server. It never holds the URL, which may hold a password.
#[derive(Debug, PartialEq, Eq, Error)]
enum UrlError {
    #[error(
        "is not a URL; write redis://user:password@host:port/database, with `%` escapes for any of `/?#@:%` in \
         the user or the password"
    )]
    Form,
    #[error("must start with redis://, or rediss:// for TLS")]
    Scheme,
    #[error("names no host; write redis://host:port")]
    Host,
    #[error("must end with the number of a database, such as redis://host:6379/0, or with none")]
    Database,
    #[error("must not have a `#` part; a `#` in the user or the password is written `%23`")]
    Fragment,
}

fn check_url(text: &str) -> Result<(), UrlError> {
    let url = Url::parse(text).map_err(|_| UrlError::Form)?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err(UrlError::Scheme);
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(UrlError::Host);
    }
    // `#insecure` would turn the checks of TLS certificates off.
    if url.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() && database.parse::<u32>().is_err() {
        return Err(UrlError::Database);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for url in [
            "redis://localhost",
            "redis://:p%40ss@host:6379/0",
            "rediss://user:pass@[::1]:7000/",
            "redis://host?protocol=resp3",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for (url, error) in [
            ("", UrlError::Form),
            ("localhost:6379", UrlError::Scheme),
            ("http://host", UrlError::Scheme),
            ("redis://", UrlError::Host),
            ("redis:/path", UrlError::Host),
            ("redis:host", UrlError::Host),
            ("redis://host:port", UrlError::Form),
            ("redis://host/zero", UrlError::Database),
            ("rediss://host/#insecure", UrlError::Fragment),
        ] {
            assert_eq!(check_url(url), Err(error), "{url}");
        }
    }
}
