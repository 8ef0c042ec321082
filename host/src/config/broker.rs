//! `[brokers.<label>]`: what carries events between nodes, and keeps them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::address::Address;
use super::checks::Checks;
use super::error::KeyPath;
use super::schema::{DurationText, PathText, SizeText};
use super::secret::Secret;
use super::{path, units};
use crate::broker::{nats::NatsUrl, postgres::PostgresUrl};
use crate::redis_pool::{RedisError, RedisUrl, Servers};

/// How long a server may take for anything, where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a node keeps in memory of a log in Kafka, where nothing is said, in bytes.
const MEMORY: u64 = 256 << 20;

/// A broker that guests open by its label.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(
    tag = "type",
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Broker {
    /// This node alone.
    Memory {
        /// What events survive, in a file in the folder `node.data`: `process`, the end of the process, however it comes;
        /// `power`, also that of the machine, for which each is written to the disk before it is accepted. Without it they
        /// are gone with the process.
        durable: Option<Durable>,
    },
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
    /// All nodes that have a broker with the same NATS servers and sync channel. The servers need JetStream.
    Nats {
        /// The servers: `nats://user:password@host:port`, or `tls://` for TLS; several such URLs are separated by commas.
        #[schemars(with = "String")]
        url: Secret,
        /// As with Redis.
        #[schemars(length(min = 1))]
        sync_channel: String,
        /// How many servers of a cluster keep each event; 1 unless said otherwise.
        #[schemars(with = "Option<usize>", range(min = 1, max = 5))]
        replicas: usize,
        /// A file with the certificates, in PEM, of the authorities to trust, besides those that are trusted anyway.
        #[schemars(with = "Option<PathText>")]
        ca_file: Option<PathBuf>,
        /// How long connecting, and an answer, may take; `5s` unless said otherwise.
        #[schemars(with = "Option<DurationText>")]
        timeout: Duration,
    },
    /// All nodes that have a broker with the same PostgreSQL database and sync channel.
    Postgres {
        /// The database: `postgres://user:password@host:port/database`.
        #[schemars(with = "String")]
        url: Secret,
        /// As with Redis.
        #[schemars(length(min = 1))]
        sync_channel: String,
        /// A file with the certificates, in PEM, of the authorities to trust, besides those that are trusted anyway.
        #[schemars(with = "Option<PathText>")]
        ca_file: Option<PathBuf>,
        /// How long connecting, and an answer, may take; `5s` unless said otherwise.
        #[schemars(with = "Option<DurationText>")]
        timeout: Duration,
    },
    /// All nodes that have a broker with the same Kafka cluster and topic. The server has to be built with the feature
    /// `kafka`.
    Kafka {
        /// Some of the cluster's brokers, as `host:port`.
        #[schemars(length(min = 1))]
        servers: Vec<String>,
        /// As with Redis: the topic is `fanfare.` + app + `.` + sync channel.
        sync_channel: Option<String>,
        /// A topic of this name, in the place of a sync channel, which other programs may write to as well.
        topic: Option<String>,
        /// Who the node is, if it has to say so (SASL).
        user: Option<String>,
        /// The user's password.
        #[schemars(with = "Option<String>")]
        password: Option<Secret>,
        /// How it says so; `scram-sha512` unless said otherwise.
        #[schemars(with = "Option<Mechanism>")]
        mechanism: Mechanism,
        /// Whether the cluster speaks TLS.
        #[serde(default)]
        tls: bool,
        /// A file with the certificates, in PEM, of the authorities to trust in the place of the system's.
        #[schemars(with = "Option<PathText>")]
        ca_file: Option<PathBuf>,
        /// How long connecting, and an answer, may take; `5s` unless said otherwise.
        #[schemars(with = "Option<DurationText>")]
        timeout: Duration,
        /// The most that the events may take which a node keeps of a topic; `256MiB` unless said otherwise.
        #[schemars(with = "Option<SizeText>")]
        memory: u64,
    },
}

/// What events survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Durable {
    /// The end of the process.
    Process,
    /// The end of the machine.
    Power,
}

/// How a node says who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// With the password as it is. TLS has to keep it secret.
    Plain,
    /// Without sending the password.
    ScramSha256,
    /// The same.
    #[default]
    ScramSha512,
}

/// The keys of every type. One table, because serde loses positions when it picks a variant by a tag.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Keys {
    r#type: Type,
    durable: Option<Durable>,
    url: Option<Secret>,
    sync_channel: Option<String>,
    sentinel: Option<String>,
    cluster: Option<bool>,
    others: Option<Vec<Address>>,
    replicas: Option<usize>,
    servers: Option<Vec<String>>,
    topic: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    mechanism: Option<Mechanism>,
    tls: Option<bool>,
    #[serde(default, deserialize_with = "path::deserialize_some")]
    ca_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "some_duration")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "some_size")]
    memory: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Memory,
    Redis,
    Nats,
    Postgres,
    Kafka,
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    units::duration::deserialize(deserializer).map(Some)
}

fn some_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    units::size::deserialize(deserializer).map(Some)
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
        })
    }
}

impl Type {
    /// The keys that it has.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &["durable"],
            Self::Redis => &["url", "sync-channel", "sentinel", "cluster", "others"],
            Self::Nats => &["url", "sync-channel", "replicas", "ca-file", "timeout"],
            Self::Postgres => &["url", "sync-channel", "ca-file", "timeout"],
            Self::Kafka => &[
                "servers",
                "sync-channel",
                "topic",
                "user",
                "password",
                "mechanism",
                "tls",
                "ca-file",
                "timeout",
                "memory",
            ],
        }
    }
}

impl Keys {
    /// A key that is there and that brokers of this type do not have.
    fn surplus(&self) -> Option<&'static str> {
        let all = [
            ("durable", self.durable.is_some()),
            ("url", self.url.is_some()),
            ("sync-channel", self.sync_channel.is_some()),
            ("sentinel", self.sentinel.is_some()),
            ("cluster", self.cluster.is_some()),
            ("others", self.others.is_some()),
            ("replicas", self.replicas.is_some()),
            ("servers", self.servers.is_some()),
            ("topic", self.topic.is_some()),
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("mechanism", self.mechanism.is_some()),
            ("tls", self.tls.is_some()),
            ("ca-file", self.ca_file.is_some()),
            ("timeout", self.timeout.is_some()),
            ("memory", self.memory.is_some()),
        ];
        let given = all.into_iter().filter(|(_, given)| *given);
        let mut given = given.map(|(name, _)| name);
        given.find(|name| !self.r#type.keys().contains(name))
    }
}

fn needed<T, E: Error>(value: Option<T>, key: &'static str) -> Result<T, E> {
    value.ok_or_else(|| E::missing_field(key))
}

impl<'de> Deserialize<'de> for Broker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Keys::deserialize(deserializer)?;
        if let Some(key) = keys.surplus() {
            return Err(D::Error::custom(format!(
                "`{key}` is no key of a broker with `type = \"{}\"`; drop it, or change the type",
                keys.r#type
            )));
        }
        let timeout = keys.timeout.unwrap_or(TIMEOUT);
        Ok(match keys.r#type {
            Type::Memory => Self::Memory {
                durable: keys.durable,
            },
            Type::Redis => Self::Redis {
                url: needed(keys.url, "url")?,
                sync_channel: needed(keys.sync_channel, "sync-channel")?,
                sentinel: keys.sentinel,
                cluster: keys.cluster.unwrap_or_default(),
                others: keys.others.unwrap_or_default(),
            },
            Type::Nats => Self::Nats {
                url: needed(keys.url, "url")?,
                sync_channel: needed(keys.sync_channel, "sync-channel")?,
                replicas: keys.replicas.unwrap_or(1),
                ca_file: keys.ca_file,
                timeout,
            },
            Type::Postgres => Self::Postgres {
                url: needed(keys.url, "url")?,
                sync_channel: needed(keys.sync_channel, "sync-channel")?,
                ca_file: keys.ca_file,
                timeout,
            },
            Type::Kafka => Self::Kafka {
                servers: needed(keys.servers, "servers")?,
                sync_channel: match &keys.topic {
                    Some(_) => keys.sync_channel,
                    None => Some(needed(keys.sync_channel, "sync-channel")?),
                },
                topic: keys.topic,
                user: keys.user,
                password: keys.password,
                mechanism: keys.mechanism.unwrap_or_default(),
                tls: keys.tls.unwrap_or_default(),
                ca_file: keys.ca_file,
                timeout,
                memory: keys.memory.unwrap_or(MEMORY),
            },
        })
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
        if let Some(name) = self.sync_channel()
            && (name.is_empty()
                || name.contains(|c: char| c.is_control() || matches!(c, '{' | '}')))
        {
            checks.refuse(
                at.key("sync-channel"),
                "must be a name without control characters and braces, such as \"fanfare\"",
            );
        }
        match self {
            Self::Memory { .. } => {}
            Self::Redis {
                url,
                sentinel,
                cluster,
                others,
                ..
            } => {
                if let Err(error) = RedisUrl::parse(url.expose()) {
                    checks.refuse_secret(at.key("url"), error);
                }
                check_servers(sentinel.as_deref(), *cluster, others, at, checks);
            }
            Self::Nats {
                url,
                replicas,
                timeout,
                ..
            } => {
                if let Err(error) = NatsUrl::parse(url.expose()) {
                    checks.refuse_secret(at.key("url"), error);
                }
                checks.count(at, "replicas", *replicas, 1..=5);
                checks.not_zero(at, "timeout", *timeout);
            }
            Self::Postgres { url, timeout, .. } => {
                if let Err(error) = PostgresUrl::parse(url.expose()) {
                    checks.refuse_secret(at.key("url"), error);
                }
                checks.not_zero(at, "timeout", *timeout);
            }
            Self::Kafka {
                servers,
                sync_channel,
                topic,
                user,
                password,
                timeout,
                ..
            } => {
                if cfg!(not(feature = "kafka")) {
                    checks.refuse(
                        at.key("type"),
                        "needs a server that was built with Kafka: `cargo build --features kafka`",
                    );
                }
                if servers.is_empty() {
                    checks.refuse(
                        at.key("servers"),
                        "must name a broker, such as \"localhost:9092\"",
                    );
                }
                if sync_channel.is_some() && topic.is_some() {
                    checks.refuse(
                        at.key("topic"),
                        "must not stand beside `sync-channel`, which makes a topic of its own; drop one of them",
                    );
                }
                if user.is_some() != password.is_some() {
                    let (key, other) = match user {
                        Some(_) => ("user", "password"),
                        None => ("password", "user"),
                    };
                    checks.refuse(
                        at.key(key),
                        format!("is of no use without `{other}`; add it"),
                    );
                }
                checks.not_zero(at, "timeout", *timeout);
            }
        }
    }

    fn sync_channel(&self) -> Option<&str> {
        match self {
            Self::Memory { .. } => None,
            Self::Redis { sync_channel, .. }
            | Self::Nats { sync_channel, .. }
            | Self::Postgres { sync_channel, .. } => Some(sync_channel),
            Self::Kafka { sync_channel, .. } => sync_channel.as_deref(),
        }
    }
}

/// Holds that servers of Redis are found by sentinels, or are a cluster, or one.
fn check_servers(
    sentinel: Option<&str>,
    cluster: bool,
    others: &[Address],
    at: &KeyPath,
    checks: &mut Checks,
) {
    if sentinel.is_some() && cluster {
        checks.refuse(
            at.key("cluster"),
            "must not stand beside `sentinel`: servers are found by sentinels or are a cluster, not both",
        );
    }
    if sentinel.is_none() && !cluster && !others.is_empty() {
        checks.refuse(
            at.key("others"),
            "is of use with `sentinel` or `cluster = true` only; drop it, or say what the servers are",
        );
    }
    if sentinel.is_some_and(str::is_empty) {
        checks.refuse(
            at.key("sentinel"),
            "must be the name that the sentinels know",
        );
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
    fn every_type_has_its_keys_and_no_others() {
        let parse = |keys: &str| {
            let text = format!("[node]\ndata = \"d\"\n[brokers.main]\n{keys}");
            Config::parse(&text, "fanfare.toml".as_ref(), &|_| None)
        };
        for keys in [
            "type = \"memory\"",
            "type = \"memory\"\ndurable = \"power\"",
            "type = \"nats\"\nurl = \"nats://h:4222,nats://h2\"\nsync-channel = \"s\"\nreplicas = 3",
            "type = \"postgres\"\nurl = \"postgres://u:p@h/d\"\nsync-channel = \"s\"\ntimeout = \"2s\"",
        ] {
            parse(keys).unwrap();
        }
        for (keys, part) in [
            ("type = \"memory\"\nurl = \"redis://h\"", "`url` is no key"),
            ("type = \"memory\"\ndurable = \"yes\"", "durable"),
            (
                "type = \"nats\"\nurl = \"redis://h\"\nsync-channel = \"s\"",
                "url",
            ),
            (
                "type = \"nats\"\nurl = \"nats://h\"",
                "`sync-channel` is missing",
            ),
            (
                "type = \"nats\"\nurl = \"nats://h\"\nsync-channel = \"s\"\nreplicas = 9",
                "replicas",
            ),
            (
                "type = \"postgres\"\nurl = \"http://h\"\nsync-channel = \"s\"",
                "url",
            ),
            (
                "type = \"postgres\"\nurl = \"postgres://h/d\"\nsync-channel = \"s\"\ntls = true",
                "`tls` is no key",
            ),
            (
                "type = \"kafka\"\nservers = []\nsync-channel = \"s\"",
                "servers",
            ),
            (
                "type = \"kafka\"\nservers = [\"h:9092\"]",
                "`sync-channel` is missing",
            ),
            (
                "type = \"kafka\"\nservers = [\"h:9092\"]\nsync-channel = \"s\"\ntopic = \"t\"",
                "topic",
            ),
            (
                "type = \"kafka\"\nservers = [\"h:9092\"]\ntopic = \"t\"\nuser = \"u\"",
                "password",
            ),
            (
                "type = \"redis\"\nurl = \"redis://h\"\nsync-channel = \"a}b\"",
                "braces",
            ),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(part), "{keys}: {error}");
        }
        let text = "[brokers.main]\ntype = \"memory\"\ndurable = \"process\"";
        let error = Config::parse(text, "fanfare.toml".as_ref(), &|_| None);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("node.data"), "{error}");
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
