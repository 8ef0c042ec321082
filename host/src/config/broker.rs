//! `[brokers.<label>]`: what carries events between nodes.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::checks::Checks;
use super::error::KeyPath;
use super::secret::Secret;
use crate::redis_pool::RedisUrl;

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
    /// All nodes that have a broker with the same server and sync channel.
    Redis {
        /// The server: `redis://user:password@host:port/database`, or `rediss://` for TLS.
        #[schemars(with = "String")]
        url: Secret,
        /// Names what the nodes share on the server. Apps of the same name hear each other's events through brokers
        /// with the same server and the same sync channel; apps of other names never do.
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
        if let Err(error) = RedisUrl::parse(url.expose()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_url_is_read_as_the_pool_reads_it_and_never_shown() {
        let parse = |url: &str| {
            let text = format!(
                "[brokers.main]\ntype = \"redis\"\nurl = \"{url}\"\nsync-channel = \"s\"\n"
            );
            Config::parse(&text, "fanfare.toml".as_ref(), &|_| None)
        };
        let config = parse("rediss://user:p%40ss@[::1]:7000/1").unwrap();
        assert!(matches!(config.brokers["main"], Broker::Redis { .. }));
        for url in [
            "",
            "http://:hunter2@host",
            "redis://:hunter2@",
            "redis://:hunter2@host/zero",
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.starts_with("fanfare.toml:3:"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
