//! `[brokers.<label>]`: what carries events between nodes, and keeps them.

mod keys;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::address::Address;
use super::checks::Checks;
use super::error::KeyPath;
use super::schema::{DurationText, PathText, SizeText};
use super::secret::Secret;
use crate::broker::{nats::NatsUrl, postgres::PostgresUrl};
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
        /// How many partitions nodes give a topic that they make; 1 unless said otherwise. One that is there is taken as it
        /// is. With several, an event takes about twice as long, and the events of different channels are spread over the
        /// cluster.
        #[schemars(with = "Option<usize>", range(min = 1, max = 1000))]
        partitions: usize,
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
                partitions,
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
                checks.count(at, "partitions", *partitions, 1..=1000);
                checks.not_zero(at, "timeout", *timeout);
            }
        }
    }

    /// The file of authorities to trust, so that it can be looked for.
    pub(super) fn ca_file(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Memory { .. } | Self::Redis { .. } => None,
            Self::Nats { ca_file, .. }
            | Self::Postgres { ca_file, .. }
            | Self::Kafka { ca_file, .. } => ca_file.as_mut(),
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
mod tests;
