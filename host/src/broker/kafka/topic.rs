//! The topic of a log: its name, and how it has to be.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::{
    super::{BrokerError, Retention},
    Topic,
    client::{Clients, Consumer, RECORD_OVERHEAD, is_denied},
    sender::PARTITION,
    shared::now,
};

/// The longest name of a topic, in bytes.
const NAME_BYTES: usize = 249;
/// How long the first attempt to hear of a topic may take; each one after it may take twice as long. In between it is
/// seen whether the user is let in at all.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// Kafka lets go of whole segments: one is closed after at least this time.
const SHORTEST_SEGMENT: Duration = Duration::from_secs(60);
/// What Kafka takes for its longest times.
const LONGEST_MILLIS: u128 = i64::MAX as u128;

/// The name of the topic of a log.
///
/// A log is called `<app>:<sync channel>`; with a prefix its topic is `<prefix><app>.<sync channel>`, where whatever is
/// neither a letter, nor a digit, nor `-` is written as `_` and the two hexadecimal digits of each byte. A name that
/// would be too long ends in a digest.
pub(super) fn name(topic: &Topic, log: &str) -> String {
    let prefix = match topic {
        Topic::Named(name) => return name.clone(),
        Topic::Prefixed(prefix) => prefix,
    };
    let mut name = prefix.clone();
    let mut parts = log.splitn(2, ':').peekable();
    while let Some(part) = parts.next() {
        for byte in part.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => name.push(byte.into()),
                // Writing to a string does not fail.
                _ => drop(write!(name, "_{byte:02x}")),
            }
        }
        if parts.peek().is_some() {
            name.push('.');
        }
    }
    shortened(name, log)
}

/// The name of the topic in which nodes say who hears channels of a log with this topic.
pub(super) fn presence(topic: &str) -> String {
    shortened(format!("{topic}.presence"), topic)
}

/// A name that would be too long, ending in a digest of what it stands for.
fn shortened(mut name: String, of: &str) -> String {
    if name.len() > NAME_BYTES {
        let digest = Sha256::digest(of.as_bytes());
        let digest = digest.iter().take(16);
        let digest = digest.fold(String::from("-"), |text, byte| {
            text + &format!("{byte:02x}")
        });
        let mut end = NAME_BYTES - digest.len();
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push_str(&digest);
    }
    name
}

/// Sees that the topic is there, made if it has to be, and that a log can be kept in it. Returns the largest record that it
/// takes, in bytes, if that can be known. Blocks, for no longer than the timeout a few times.
pub(super) fn open(
    clients: &Clients,
    consumer: &Consumer,
    topic: &str,
    retention: Retention,
    runtime: &Handle,
) -> Result<Option<usize>, BrokerError> {
    match partitions(clients, consumer, topic)? {
        Some(partitions) => check_partitions(clients, topic, partitions)?,
        None => {
            make(clients, topic, retention, runtime)?;
            let until = Instant::now() + clients.timeout();
            loop {
                match partitions(clients, consumer, topic)? {
                    Some(partitions) => break check_partitions(clients, topic, partitions)?,
                    None if Instant::now() > until => {
                        return Err(clients.unavailable(format!(
                            "the topic {topic} was made and cannot be seen yet; try again"
                        )));
                    }
                    None => std::thread::sleep(FIRST_LOOK),
                }
            }
        }
    }
    check_settings(clients, topic, runtime)
}

/// How many partitions the topic has; `None` where there is no such topic.
fn partitions(
    clients: &Clients,
    consumer: &Consumer,
    topic: &str,
) -> Result<Option<usize>, BrokerError> {
    let begun = Instant::now();
    let mut look = FIRST_LOOK;
    loop {
        let left = clients.timeout().saturating_sub(begun.elapsed());
        let metadata = consumer.fetch_metadata(Some(topic), look.min(left));
        // This hears of errors that it does not return.
        while consumer.poll(Duration::ZERO).is_some() {}
        clients.check_denied()?;
        look *= 2;
        let error = match metadata {
            Ok(metadata) => {
                let known = metadata.topics().iter().find(|known| known.name() == topic);
                match known.and_then(|known| known.error()) {
                    None => {
                        let partitions = known.map_or(0, |known| known.partitions().len());
                        if partitions > 0 {
                            return Ok(Some(partitions));
                        }
                        KafkaError::MetadataFetch(Code::LeaderNotAvailable)
                    }
                    Some(code) => match Code::from(code) {
                        Code::UnknownTopicOrPartition | Code::UnknownTopic => return Ok(None),
                        code => KafkaError::MetadataFetch(code),
                    },
                }
            }
            Err(error) => error,
        };
        let denied = super::client::code(&error).is_some_and(is_denied);
        if denied || left <= look {
            return Err(clients.error(&format!("the topic {topic} cannot be looked up"), &error));
        }
        // A server that is away refuses at once.
        std::thread::sleep(FIRST_LOOK / 4);
    }
}

fn check_partitions(clients: &Clients, topic: &str, partitions: usize) -> Result<(), BrokerError> {
    if partitions == 1 {
        return Ok(());
    }
    Err(clients.unavailable(format!(
        "the topic {topic} has {partitions} partitions, and there is no order over several; a client that hears several \
         channels could not say where it was. Use a topic with one partition, and more publishers for more throughput"
    )))
}

/// Makes the topic, with as many replicas as the cluster makes by itself.
fn make(
    clients: &Clients,
    topic: &str,
    retention: Retention,
    runtime: &Handle,
) -> Result<(), BrokerError> {
    let millis = |age: Duration| age.as_millis().clamp(1, LONGEST_MILLIS).to_string();
    let (age, segment) = (
        millis(retention.age),
        millis(retention.age.max(SHORTEST_SEGMENT)),
    );
    let largest = clients.event_data().saturating_add(RECORD_OVERHEAD);
    let largest = largest.clamp(1 << 20, i32::MAX as usize).to_string();
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "delete")
        .set("message.timestamp.type", "LogAppendTime")
        .set("retention.ms", &age)
        .set("segment.ms", &segment)
        .set("max.message.bytes", &largest);
    // It is no small thing for a cluster.
    let limit = Some(2 * clients.timeout());
    let options = AdminOptions::new().request_timeout(limit);
    let admin = clients.admin()?;
    let made = admin.create_topics([&new], &options.operation_timeout(limit));
    let what = format!(
        "there is no topic {topic}, and it cannot be made; make it with one partition, `cleanup.policy=delete` and \
         `message.timestamp.type=LogAppendTime`, or give the user the right to create it"
    );
    match runtime.block_on(made).map(|made| made.into_iter().next()) {
        Ok(Some(Ok(_))) => {
            tracing::info!(topic, "the topic was made");
            Ok(())
        }
        Ok(Some(Err((_, Code::TopicAlreadyExists)))) => Ok(()),
        Ok(Some(Err((_, code)))) => Err(clients.error(&what, &KafkaError::AdminOp(code))),
        Ok(None) => Err(clients.unavailable(what)),
        Err(error) => Err(clients.error(&what, &error)),
    }
}

/// Refuses a topic that is compacted: it would lose all but the newest event of each channel, and nobody would know. Returns
/// the largest record that it takes.
fn check_settings(
    clients: &Clients,
    topic: &str,
    runtime: &Handle,
) -> Result<Option<usize>, BrokerError> {
    let options = AdminOptions::new().request_timeout(Some(clients.timeout()));
    let admin = clients.admin()?;
    let this = ResourceSpecifier::Topic(topic);
    let described = runtime.block_on(admin.describe_configs([&this], &options));
    let described = described.map(|described| described.into_iter().next());
    let config = match described {
        Ok(Some(Ok(config))) => config,
        other => {
            // Some may read and write a topic and not know how it is set.
            tracing::debug!(topic, error = ?other.err(), "how the topic is set cannot be read");
            return Ok(None);
        }
    };
    let value = |name| config.get(name).and_then(|entry| entry.value.as_ref());
    match value("cleanup.policy") {
        Some(policy) if policy.contains("compact") => Err(clients.unavailable(format!(
            "the topic {topic} has `cleanup.policy={policy}`, which forgets events of a channel when newer ones come; set \
             it to `delete`"
        ))),
        _ => Ok(value("max.message.bytes").and_then(|bytes| bytes.parse().ok())),
    }
}

/// The offset of the first record that is no older than this, by the node's clock; `None` if there is none.
pub(super) fn first_since(
    clients: &Clients,
    consumer: &Consumer,
    topic: &str,
    age: Duration,
) -> Result<Option<i64>, BrokerError> {
    let failed = |error: KafkaError| {
        clients.error(&format!("the topic {topic} cannot be looked up"), &error)
    };
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let time = i64::try_from(now().saturating_sub(age)).unwrap_or(0);
    let mut asked = TopicPartitionList::new();
    asked
        .add_partition_offset(topic, PARTITION, Offset::Offset(time))
        .map_err(failed)?;
    let found = consumer.offsets_for_times(asked, clients.timeout());
    let found = found.map_err(failed)?;
    let Some(found) = found.find_partition(topic, PARTITION) else {
        return Ok(None);
    };
    // Where it is an error, the offset is the time that was asked for.
    found.error().map_err(failed)?;
    Ok(match found.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_topic_of_its_own() {
        let prefix = Topic::Prefixed("fanfare.".into());
        assert_eq!(name(&prefix, "shop:prices"), "fanfare.shop.prices");
        assert_eq!(
            name(&prefix, "shop:a.b_c:ö"),
            "fanfare.shop.a_2eb_5fc_3a_c3_b6"
        );
        assert_eq!(name(&prefix, "log"), "fanfare.log");
        assert_eq!(name(&Topic::Named("given".into()), "shop:prices"), "given");
        let long = |end: &str| name(&prefix, &format!("shop:{}{end}", "☂".repeat(85)));
        assert_eq!(long("a").len(), NAME_BYTES);
        assert_ne!(long("a"), long("b"));
        assert_eq!(
            presence("fanfare.shop.prices"),
            "fanfare.shop.prices.presence"
        );
        let (a, b) = (presence(&long("a")), presence(&long("b")));
        assert_eq!(a.len(), NAME_BYTES);
        assert!(a != b && a != long("a"));
    }
}
