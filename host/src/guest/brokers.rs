//! The brokers that the operator configured, made for an app.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use super::error::HostError;
use crate::{
    broker::{
        Broker, BrokerError, Retention,
        durable::{self, Durable},
        nats::{self, Nats, NatsUrl},
        postgres::{self, Postgres, PostgresUrl},
        publisher::PublisherError,
        redis::Redis,
    },
    config,
    redis_pool::{RedisPool, RedisUrl},
    trust::Trust,
};

/// The folder of files with events, in the data folder.
const FOLDER: &str = "events";
/// How long a file may take for anything.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// The node's brokers.
pub struct Brokers {
    /// What the operator configured, by label.
    pub configured: BTreeMap<String, config::Broker>,
    /// The node's connections to Redis.
    pub redis: Arc<RedisPool>,
    /// The node's data folder.
    pub data: Option<PathBuf>,
}

fn unavailable(text: String) -> HostError {
    PublisherError::from(BrokerError::Unavailable(text)).into()
}

impl Brokers {
    /// The broker of this label for an app; `None` where that is the node alone, in memory.
    pub(super) fn labelled(
        &self,
        label: &str,
        app: &str,
        retention: Retention,
    ) -> Result<Option<Box<dyn Broker>>, HostError> {
        let Some(broker) = self.configured.get(label) else {
            return Ok(None);
        };
        let unusable = |error: &dyn std::fmt::Display| {
            unavailable(format!("the broker {label:?} cannot be used: {error}"))
        };
        let runtime = || self.redis.runtime().clone();
        let log = |sync_channel: &str| format!("{app}:{sync_channel}");
        let trust = |ca_file: &Option<PathBuf>| {
            let trust = Trust::new(ca_file.as_deref());
            trust.map(Arc::new).map_err(|error| unusable(&error))
        };
        Ok(Some(match broker {
            config::Broker::Memory { durable: None } => return Ok(None),
            config::Broker::Memory {
                durable: Some(durable),
            } => self.durable(*durable, app, label, retention)?,
            config::Broker::Redis {
                url,
                sync_channel,
                sentinel,
                cluster,
                others,
            } => {
                let url = config::redis_url(url, sentinel.as_deref(), *cluster, others)?;
                self.redis(url, app, sync_channel, retention)
            }
            config::Broker::Nats {
                url,
                sync_channel,
                replicas,
                ca_file,
                timeout,
            } => {
                let settings = nats::Settings {
                    url: NatsUrl::parse(url.expose()).map_err(|error| unusable(&error))?,
                    ca_file: ca_file.clone(),
                    timeout: *timeout,
                    replicas: *replicas,
                };
                let nats = Nats::new(settings, log(sync_channel), retention, runtime());
                Box::new(nats.map_err(|error| unusable(&error))?)
            }
            config::Broker::Postgres {
                url,
                sync_channel,
                ca_file,
                timeout,
            } => {
                let settings = postgres::Settings {
                    url: PostgresUrl::parse(url.expose()).map_err(|error| unusable(&error))?,
                    trust: trust(ca_file)?,
                    timeout: *timeout,
                };
                Box::new(Postgres::new(
                    settings,
                    log(sync_channel),
                    retention,
                    runtime(),
                ))
            }
            config::Broker::Kafka { .. } => self.kafka(broker, app, retention)?,
        }))
    }

    /// Events over a Redis server, for an app.
    pub(super) fn redis(
        &self,
        url: RedisUrl,
        app: &str,
        sync_channel: &str,
        retention: Retention,
    ) -> Box<dyn Broker> {
        let name = format!("fanfare:{app}:{sync_channel}");
        Box::new(Redis::new(self.redis.clone(), url, name, retention))
    }

    /// Events in a file of this node, for an app.
    fn durable(
        &self,
        durable: config::Durable,
        app: &str,
        label: &str,
        retention: Retention,
    ) -> Result<Box<dyn Broker>, HostError> {
        let Some(data) = &self.data else {
            return Err(unavailable(format!(
                "the broker {label:?} keeps events in a file, and this node has no folder for it; the operator sets \
                 `node.data`"
            )));
        };
        let sync = match durable {
            config::Durable::Process => durable::Sync::Process,
            config::Durable::Power => durable::Sync::Power,
        };
        let file = data.join(FOLDER).join(app).join(format!("{label}.sqlite"));
        let store = durable::Store::new(file, retention, sync, FILE_TIMEOUT);
        Ok(Box::new(Durable::new(store)))
    }

    /// Events over Kafka, for an app. The configuration was refused where this was built without it.
    #[cfg(not(feature = "kafka"))]
    fn kafka(
        &self,
        _: &config::Broker,
        _: &str,
        _: Retention,
    ) -> Result<Box<dyn Broker>, HostError> {
        Err(unavailable("this server was built without Kafka".into()))
    }

    /// Events over Kafka, for an app.
    #[cfg(feature = "kafka")]
    fn kafka(
        &self,
        broker: &config::Broker,
        app: &str,
        retention: Retention,
    ) -> Result<Box<dyn Broker>, HostError> {
        use crate::broker::kafka::{Kafka, Login, Mechanism, Settings, Tls, Topic};

        let config::Broker::Kafka {
            servers,
            sync_channel,
            topic,
            partitions,
            user,
            password,
            mechanism,
            tls,
            ca_file,
            timeout,
            memory,
        } = broker
        else {
            return Err(unavailable("this is no broker over Kafka".into()));
        };
        let login = user.clone().zip(password.as_ref());
        let settings = Settings {
            servers: servers.clone(),
            topic: match topic {
                Some(topic) => Topic::Named(topic.clone()),
                None => Topic::Prefixed("fanfare.".into()),
            },
            partitions: *partitions,
            login: login.map(|(user, password)| Login {
                mechanism: match mechanism {
                    config::Mechanism::Plain => Mechanism::Plain,
                    config::Mechanism::ScramSha256 => Mechanism::ScramSha256,
                    config::Mechanism::ScramSha512 => Mechanism::ScramSha512,
                },
                user,
                password: password.expose().to_owned(),
            }),
            tls: tls.then(|| Tls {
                ca_file: ca_file.clone(),
            }),
            timeout: *timeout,
            memory: *memory as usize,
        };
        let log = format!("{app}:{}", sync_channel.as_deref().unwrap_or_default());
        let runtime = self.redis.runtime().clone();
        Ok(Box::new(Kafka::new(settings, &log, retention, runtime)))
    }
}
