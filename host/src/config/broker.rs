//! `[brokers.<label>]`: what carries events between nodes.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::address::Address;
use super::checks::Checks;
use super::error::KeyPath;
use super::secret::Secret;
use crate::redis_pool::{RedisError, RedisUrl, Servers};

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
        /// What sentinels call the server. Then one of them is at the address in the URL, and user, password and database
        /// are the server's.
        sentinel: Option<String>,
        /// Whether a node of a cluster is at the address in the URL. All events of a sync channel are on one node of it.
        #[serde(default)]
        cluster: bool,
        /// Other sentinels, or other nodes of the cluster, as `host:port`, for when the first is away.
        #[serde(default)]
        others: Vec<Address>,
    },
}

/// The keys of every type. One table, because serde loses positions when it picks a variant by a tag.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Keys {
    r#type: Type,
    url: Option<Secret>,
    sync_channel: Option<String>,
    sentinel: Option<String>,
    cluster: Option<bool>,
    others: Option<Vec<Address>>,
}

impl Keys {
    /// The names of the keys that are there, but for the type.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("url", self.url.is_some()),
            ("sync-channel", self.sync_channel.is_some()),
            ("sentinel", self.sentinel.is_some()),
            ("cluster", self.cluster.is_some()),
            ("others", self.others.is_some()),
        ];
        let given = all.into_iter().filter(|(_, given)| *given);
        given.map(|(name, _)| name).collect()
    }
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
            Type::Memory => match keys.given().first() {
                Some(key) => Err(D::Error::custom(format!(
                    "`{key}` is no key of a broker with `type = \"memory\"`; drop it, or change the type"
                ))),
                None => Ok(Self::Memory),
            },
            Type::Redis => Ok(Self::Redis {
                url: keys.url.ok_or_else(|| D::Error::missing_field("url"))?,
                sync_channel: keys
                    .sync_channel
                    .ok_or_else(|| D::Error::missing_field("sync-channel"))?,
                sentinel: keys.sentinel,
                cluster: keys.cluster.unwrap_or_default(),
                others: keys.others.unwrap_or_default(),
            }),
        }
    }
}

/// Where a broker over Redis is.
pub fn redis_url(
    url: &Secret,
    sentinel: Option<&str>,
    cluster: bool,
    others: &[Address],
) -> Result<RedisUrl, RedisError> {
    let others: Vec<_> = others.iter().map(Address::to_string).collect();
    let servers = match sentinel {
        Some(master) => Servers::sentinels(master, &others)?,
        None if cluster => Servers::cluster(&others)?,
        None => Servers::One,
    };
    Ok(RedisUrl::parse(url.expose())?.with_servers(servers))
}

impl Broker {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        let Self::Redis {
            url,
            sync_channel,
            sentinel,
            cluster,
            others,
        } = self
        else {
            return;
        };
        if sentinel.is_some() && *cluster {
            checks.refuse(
                at.key("cluster"),
                "must not stand beside `sentinel`: servers are found by sentinels or are a cluster, not both",
            );
        }
        if sentinel.is_none() && !*cluster && !others.is_empty() {
            checks.refuse(
                at.key("others"),
                "is of use with `sentinel` or `cluster = true` only; drop it, or say what the servers are",
            );
        }
        if sentinel.as_deref().is_some_and(str::is_empty) {
            checks.refuse(
                at.key("sentinel"),
                "must be the name that the sentinels know",
            );
        }
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
    fn servers_are_one_or_found_by_sentinels_or_a_cluster() {
        let parse = |keys: &str| {
            let text = format!(
                "[brokers.main]\ntype = \"redis\"\nurl = \"redis://h\"\nsync-channel = \"s\"\n{keys}"
            );
            Config::parse(&text, "fanfare.toml".as_ref(), &|_| None)
        };
        for (keys, cluster) in [
            ("sentinel = \"main\"\nothers = [\"h2:26379\"]", false),
            ("cluster = true\nothers = [\"h2:7001\", \"h3:7002\"]", true),
        ] {
            let config = parse(keys).unwrap();
            let Broker::Redis {
                url,
                sentinel,
                cluster: told,
                others,
                ..
            } = &config.brokers["main"]
            else {
                panic!("another type");
            };
            let url = redis_url(url, sentinel.as_deref(), *told, others).unwrap();
            assert_eq!(url.servers().are_cluster(), cluster);
        }
        for (keys, place) in [
            ("sentinel = \"main\"\ncluster = true", "cluster"),
            ("others = [\"h2:1\"]", "others"),
            ("sentinel = \"\"", "sentinel"),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
    }

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
