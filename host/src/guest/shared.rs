//! What all calls of an app share on this node: hub, publishers, registry, grants and variables.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use wasmtime_wasi_config::WasiConfigVariables;

use super::{
    brokers::Brokers,
    error::HostError,
    limits::{AppMemory, Limit, Reached},
    log::GuestLog,
    outgoing::Outgoing,
    registry::Registry,
};
use crate::{
    broker::{Broker, Retention, feed::Feed, publisher::Publisher},
    config,
    hub::{self, Hub, delivery::Engine, ended::EndedReceiver},
    redis_pool::{RedisClient, RedisPool, RedisUrl},
};

/// Publishers that an app may have. Each over Redis has a subscription of its own.
const MAX_PUBLISHERS: usize = 100;
/// The longest sync channel, in bytes.
const SYNC_CHANNEL_BYTES: usize = 255;

/// How often the log is told that clients are turned away.
const TURNED_AWAY_EVERY: Duration = Duration::from_secs(60);

/// What all calls of an app share.
pub struct Shared {
    /// The name of the app.
    pub name: String,
    /// Where it is mounted, without a slash at the end.
    pub route: String,
    /// The app's connections and channels.
    pub hub: Hub,
    /// The app's named values.
    pub registry: Registry,
    /// The app's variables, as `wasi:config/store` shows them.
    pub variables: WasiConfigVariables,
    /// The app's part of the log.
    pub log: Arc<GuestLog>,
    /// How often each of the app's limits was reached.
    pub reached: Arc<Reached>,
    /// When the log was last told that clients are turned away, for each limit that does so.
    turned_away: Mutex<HashMap<&'static str, Instant>>,
    /// The memory of its instances.
    pub memory: Arc<AppMemory>,
    /// What the app may use.
    pub limits: config::Limits,
    /// How many instances it has.
    pub instances: config::Instances,
    /// How its streams behave where the guest does not say.
    pub streams: config::Streams,
    /// The node's connections to Redis.
    pub redis: Arc<RedisPool>,
    /// The requests that it sends to others.
    pub outgoing: Arc<Outgoing>,
    capabilities: config::Capabilities,
    /// The node's brokers by label; which of them the app may use, `capabilities` says.
    brokers: Arc<Brokers>,
    publishers: Mutex<HashMap<PublisherKey, Publisher>>,
    /// Where a publisher is told that was made.
    made: mpsc::UnboundedSender<Publisher>,
}

/// What is told to an app's hooks.
#[derive(Debug)]
pub struct Happenings {
    /// Connections that ended.
    pub ended: EndedReceiver,
    /// Publishers that were made, each of which tells of its channels.
    pub publishers: mpsc::UnboundedReceiver<Publisher>,
}

/// What makes two publishers the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PublisherKey {
    InMemory,
    Redis {
        server: String,
        sync_channel: String,
    },
    Labelled(String),
}

impl Shared {
    /// What the calls of this app share, and what is told to its hooks.
    pub fn new(
        name: String,
        app: &config::App,
        brokers: Arc<Brokers>,
        outgoing: Outgoing,
        engine: Engine,
    ) -> (Self, Happenings) {
        let settings = hub::Settings {
            history_events: app.history.events,
            history_bytes: app.history.bytes as usize,
            history_total_bytes: app.history.total_bytes as usize,
            history_age: app.history.age,
            queue_bytes: app.limits.queue_bytes as usize,
            connections: app.limits.connections,
            channels_per_connection: app.limits.channels_per_connection,
            event_data: app.limits.event_data as usize,
        };
        let (hub, ended) = Hub::new(settings, engine);
        let variables = app
            .variables
            .iter()
            .map(|(name, variable)| (name.clone(), variable.value().to_owned()));
        let secrets = app
            .variables
            .values()
            .filter(|variable| variable.is_secret());
        let secrets = secrets.map(|variable| variable.value());
        let (made, publishers) = mpsc::unbounded_channel();
        let reached = Arc::<Reached>::default();
        let log = GuestLog::new(secrets, app.limits.log_lines, reached.clone());
        let memory = app.limits.total_memory.max(app.limits.memory);
        let shared = Self {
            route: app.route.trim_end_matches('/').to_owned(),
            hub,
            registry: Registry::new(
                app.limits.registry_entries,
                app.limits.registry_bytes as usize,
            ),
            variables: variables.collect(),
            log: Arc::new(log),
            reached,
            turned_away: Mutex::default(),
            memory: Arc::new(AppMemory::new(memory as usize)),
            limits: app.limits.clone(),
            instances: app.instances.clone(),
            streams: app.streams.clone(),
            redis: brokers.redis.clone(),
            outgoing: Arc::new(outgoing),
            capabilities: app.capabilities.clone(),
            brokers,
            publishers: Mutex::default(),
            made,
            name,
        };
        let happenings = Happenings { ended, publishers };
        (shared, happenings)
    }

    /// Counts that a limit of the app was reached. Where clients are turned away for it, the log says so now and then: no
    /// call of a guest has failed, so nothing else does.
    pub fn reach(&self, limit: Limit) {
        self.reached.count(limit);
        if !matches!(limit, Limit::Calls | Limit::Connections) {
            return;
        }
        let now = Instant::now();
        let mut told = self.turned_away.lock();
        let last = told.get(limit.name());
        if last.is_some_and(|last| now.duration_since(*last) < TURNED_AWAY_EVERY) {
            return;
        }
        told.insert(limit.name(), now);
        drop(told);
        tracing::warn!(
            app = self.name,
            "clients are turned away: the app's limit `limits.{}` is reached; `fanfare_limits_reached_total` counts how \
             often",
            limit.name()
        );
    }

    /// The app's publisher on this node alone.
    pub fn in_memory_publisher(&self) -> Publisher {
        let Ok(publisher) =
            self.publisher::<Infallible>(PublisherKey::InMemory, "in-memory", || Ok(None));
        publisher
    }

    /// The app's publisher over this server and sync channel.
    pub fn redis_publisher(
        &self,
        client: &RedisClient,
        sync_channel: &str,
    ) -> Result<Publisher, HostError> {
        if sync_channel.is_empty()
            || sync_channel.len() > SYNC_CHANNEL_BYTES
            || sync_channel.chars().any(char::is_control)
        {
            return Err(HostError::invalid(format!(
                "a sync channel has 1 to {SYNC_CHANNEL_BYTES} bytes without control characters"
            )));
        }
        let key = PublisherKey::Redis {
            server: client.url().key(),
            sync_channel: sync_channel.into(),
        };
        self.check_room(&key)?;
        let name = format!("redis {} {sync_channel}", client.url().address());
        self.publisher(key, &name, || {
            let (url, retention) = (client.url().clone(), self.retention());
            let broker = self.brokers.redis(url, &self.name, sync_channel, retention);
            Ok(Some(broker))
        })
    }

    /// The app's publisher over the broker that the operator configured under a label.
    pub fn labelled_publisher(&self, label: &str) -> Result<Publisher, HostError> {
        let granted = self
            .capabilities
            .brokers
            .iter()
            .any(|granted| granted == label);
        if !granted || !self.brokers.configured.contains_key(label) {
            return Err(HostError::denied(format!(
                "app {:?} was not granted the broker {label:?}; the operator grants it with \
                 `capabilities.brokers = [{label:?}]` in the app's configuration",
                self.name
            )));
        }
        let key = PublisherKey::Labelled(label.into());
        self.publisher(key, &format!("broker {label}"), || {
            self.brokers.labelled(label, &self.name, self.retention())
        })
    }

    /// A text of the guest as it may stand in a log: without secrets, and not too long.
    pub fn loggable(&self, text: &str) -> String {
        self.log.loggable(text)
    }

    /// `denied` unless the app may connect to the address.
    pub fn check_redis_grant(&self, url: &RedisUrl) -> Result<(), HostError> {
        let address = url.address();
        if self
            .capabilities
            .redis
            .iter()
            .any(|granted| granted.to_string() == address)
        {
            return Ok(());
        }
        Err(HostError::denied(format!(
            "app {:?} was not granted Redis at {address}; the operator grants it with \
             `capabilities.redis = [\"{address}\"]` in the app's configuration, or with `--allow-redis {address}` on \
             the command line",
            self.name
        )))
    }

    /// What brokers keep of each channel.
    fn retention(&self) -> Retention {
        let settings = self.hub.settings();
        Retention {
            events: settings.history_events,
            age: settings.history_age,
        }
    }

    /// `limited` if this would be one publisher too many. Two calls at once may both pass: one more is no harm.
    fn check_room(&self, key: &PublisherKey) -> Result<(), HostError> {
        let publishers = self.publishers.lock();
        if publishers.contains_key(key) || publishers.len() < MAX_PUBLISHERS {
            return Ok(());
        }
        Err(HostError::limited(format!(
            "app {:?} has {MAX_PUBLISHERS} publishers, which is the most an app may have",
            self.name
        )))
    }

    /// The publisher that is known by this key, made if there is none: over this broker, if it is over any.
    fn publisher<E>(
        &self,
        key: PublisherKey,
        name: &str,
        broker: impl FnOnce() -> Result<Option<Box<dyn Broker>>, E>,
    ) -> Result<Publisher, E> {
        let mut publishers = self.publishers.lock();
        if let Some(publisher) = publishers.get(&key) {
            return Ok(publisher.clone());
        }
        let broker = broker()?;
        let space = self.hub.space();
        let runtime = || self.redis.runtime().clone();
        let feed = broker.map(|broker| Feed::new(space.clone(), broker, runtime()));
        let publisher = Publisher::new(name.to_owned(), space, feed);
        publishers.insert(key, publisher.clone());
        // Where nobody wants to hear of it, the app is gone.
        let _ = self.made.send(publisher.clone());
        Ok(publisher)
    }
}
