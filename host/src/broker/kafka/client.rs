//! The clients of the library: how they are set, what they say, and what their errors mean.

use std::{fmt::Display, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    admin::AdminClient,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::FutureProducer,
};

use super::{super::BrokerError, Settings};

pub(super) type Consumer = BaseConsumer<Context>;
pub(super) type Producing = FutureProducer<Context>;
pub(super) type Admin = AdminClient<Context>;

/// What a record may have beside its data, in bytes.
pub(super) const RECORD_OVERHEAD: usize = 64 << 10;
/// The most bytes that are sent together.
pub(super) const BATCH_BYTES: usize = 1_000_000;
/// Records that were fetched and not yet taken wait in this memory.
const FETCHED_KBYTES: usize = 16 << 10;
/// Records that are not yet acknowledged wait in this memory.
const SENDING_KBYTES: usize = 64 << 10;

/// Makes clients of a cluster.
pub(super) struct Clients {
    settings: Settings,
    /// The largest data of an event, in bytes.
    event_data: usize,
    context: Context,
}

/// Hears what the clients say.
#[derive(Clone, Default)]
pub(super) struct Context(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    /// Why the user is not let in.
    denied: Option<String>,
    /// The newest other trouble.
    trouble: Option<String>,
}

// === impl Clients ===

impl Clients {
    pub(super) fn new(settings: Settings, event_data: usize) -> Self {
        Self {
            settings,
            event_data,
            context: Context::default(),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    pub(super) fn event_data(&self) -> usize {
        self.event_data
    }

    /// The servers, for messages.
    pub(super) fn servers(&self) -> String {
        self.settings.servers.join(",")
    }

    /// What reads the log: by assignment, without a group.
    pub(super) fn consumer(&self) -> Result<Consumer, BrokerError> {
        self.create(&[
            // The library assigns nothing without one. Nothing is stored under it.
            ("group.id", "fanfare".into()),
            ("enable.auto.commit", "false".into()),
            ("enable.auto.offset.store", "false".into()),
            ("auto.offset.reset", "error".into()),
            ("enable.partition.eof", "true".into()),
            ("isolation.level", "read_committed".into()),
            ("allow.auto.create.topics", "false".into()),
            ("fetch.wait.max.ms", "500".into()),
            ("fetch.error.backoff.ms", "50".into()),
            ("fetch.queue.backoff.ms", "10".into()),
            ("queued.max.messages.kbytes", FETCHED_KBYTES.to_string()),
        ])
    }

    /// What publishes, not more than so many bytes together, except for a record that is larger by itself.
    pub(super) fn producer(&self, together: usize) -> Result<Producing, BrokerError> {
        let timeout = self.millis(1);
        self.create(&[
            ("acks", "all".into()),
            ("enable.idempotence", "true".into()),
            // What comes while a request is under way goes together with the next one.
            ("linger.ms", "0".into()),
            ("batch.size", together.max(1).to_string()),
            // That of Java's clients: a channel is in one partition, whoever produces its events.
            ("partitioner", "murmur2_random".into()),
            ("message.timeout.ms", timeout.clone()),
            ("request.timeout.ms", timeout),
            ("queue.buffering.max.kbytes", SENDING_KBYTES.to_string()),
        ])
    }

    /// What makes a topic.
    pub(super) fn admin(&self) -> Result<Admin, BrokerError> {
        self.create(&[])
    }

    fn create<T: FromClientConfigAndContext<Context>>(
        &self,
        more: &[(&str, String)],
    ) -> Result<T, BrokerError> {
        let mut config = self.config();
        for (key, value) in more {
            config.set(*key, value);
        }
        let created = config.create_with_context(self.context.clone());
        created.map_err(|error| match error {
            // The value may be a secret.
            KafkaError::ClientConfig(_, what, key, _) => {
                self.unavailable(format!("cannot be used as it is set: {key}: {what}"))
            }
            KafkaError::ClientCreation(what) => {
                self.unavailable(format!("cannot be used as it is set: {what}"))
            }
            error => self.error("a client cannot be made", &error),
        })
    }

    fn config(&self) -> ClientConfig {
        let Settings {
            servers,
            login,
            tls,
            ..
        } = &self.settings;
        let mut config = ClientConfig::new();
        let protocol = match (login, tls) {
            (None, None) => "plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), None) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        let most = self.event_data.saturating_add(RECORD_OVERHEAD);
        let most = most.clamp(1_000_000, 1_000_000_000);
        config
            .set("bootstrap.servers", servers.join(","))
            .set("client.id", "fanfare")
            .set("security.protocol", protocol)
            .set("message.max.bytes", most.to_string())
            .set("socket.timeout.ms", self.millis(100))
            .set("socket.connection.setup.timeout.ms", self.millis(1000))
            .set("api.version.request.timeout.ms", self.millis(100))
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "50")
            .set("log.connection.close", "false");
        if let Some(login) = login {
            config
                .set("sasl.mechanism", login.mechanism.name())
                .set("sasl.username", &login.user)
                .set("sasl.password", &login.password);
        }
        if let Some(file) = tls.as_ref().and_then(|tls| tls.ca_file.as_ref()) {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// The timeout as the library takes it.
    fn millis(&self, least: u128) -> String {
        let millis = self.settings.timeout.as_millis();
        millis.clamp(least, 300_000).to_string()
    }

    /// What was said before this is of no interest any more.
    pub(super) fn forget_said(&self) {
        *self.context.0.lock() = Said::default();
    }

    /// An error if the user was not let in.
    pub(super) fn check_denied(&self) -> Result<(), BrokerError> {
        match &self.context.0.lock().denied {
            Some(reason) => Err(BrokerError::Denied(format!(
                "Kafka at {} does not let the user in: {reason}; check user, password and mechanism",
                self.servers()
            ))),
            None => Ok(()),
        }
    }

    /// An operation failed.
    pub(super) fn error(&self, what: &str, error: &KafkaError) -> BrokerError {
        if let Err(denied) = self.check_denied() {
            return denied;
        }
        let code = code(error);
        if code.is_some_and(is_denied) {
            return BrokerError::Denied(format!(
                "Kafka at {}: {what}: {error}; the user needs the right to it",
                self.servers()
            ));
        }
        self.unavailable(format!("{what}: {error}"))
    }

    /// The cluster cannot be used now.
    pub(super) fn unavailable(&self, what: impl Display) -> BrokerError {
        let trouble = self.context.0.lock().trouble.clone();
        let trouble = trouble.map(|trouble| format!(" ({trouble})"));
        BrokerError::Unavailable(format!(
            "Kafka at {}: {what}{}",
            self.servers(),
            trouble.unwrap_or_default()
        ))
    }
}

/// The code of an error.
pub(super) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// Whether a server is away for now, and comes back or another one takes over; or it is about groups, which are not used.
pub(super) fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::Resolve
            | Code::SSL
            | Code::OperationTimedOut
            | Code::GroupAuthorizationFailed
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
    )
}

/// Whether the user may not do it.
pub(super) fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::UnsupportedSASLMechanism
    )
}

// === impl Context ===

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Every attempt to reach a server that is away is an error there, and the reader says that once.
        let loud = matches!(
            level,
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical
        );
        match loud {
            true => tracing::error!(target: "librdkafka", facility, "{message}"),
            false => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut said = self.0.lock();
        match code(&error) {
            Some(Code::PartitionEOF) => {}
            Some(code) if is_denied(code) => said.denied = Some(reason.to_owned()),
            // It says nothing that the errors before it did not.
            Some(Code::AllBrokersDown) if said.trouble.is_some() => {}
            _ => said.trouble = Some(reason.to_owned()),
        }
    }
}

impl ConsumerContext for Context {}
