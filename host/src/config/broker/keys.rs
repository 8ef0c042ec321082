//! How a broker is read: which keys it has follows from its type.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::super::address::Address;
use super::super::secret::Secret;
use super::super::{path, units};
use super::{Broker, Durable, Mechanism};

/// How long a server may take for anything, where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a node keeps in memory of a log in Kafka, where nothing is said, in bytes.
const MEMORY: u64 = 256 << 20;

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
    partitions: Option<usize>,
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
                "partitions",
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
            ("partitions", self.partitions.is_some()),
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
                partitions: keys.partitions.unwrap_or(1),
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
