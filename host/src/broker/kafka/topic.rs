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
    super::BrokerError,
    Topic,
    client::{Clients, Consumer, RECORD_OVERHEAD, is_denied},
    cut::PARTITIONS,
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

/// How a topic has to be.
pub(super) struct Wanted<'a> {
    pub(super) topic: &'a str,
    /// It is made with so many partitions.
    pub(super) partitions: usize,
    /// It has to have one partition.
    pub(super) one: bool,
    /// It is made to keep records for so long.
    pub(super) kept: Duration,
}

/// How a topic is.
pub(super) struct Found {
    pub(super) partitions: usize,
    /// The largest record that it takes, in bytes, if that can be known.
    pub(super) largest: Option<usize>,
}

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

/// The name of the topic that says in what order the records of a topic with several partitions come.
pub(super) fn order(topic: &str) -> String {
    let name = format!("{topic}.order");
    // Not what the other topic beside this one ends in.
    shortened(name.clone(), &name)
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

/// Sees that the topic is there, made if it has to be, and that a log can be kept in it. Blocks, for no longer than the
/// timeout a few times.
pub(super) fn open(
    clients: &Clients,
    consumer: &Consumer,
    wanted: &Wanted<'_>,
    runtime: &Handle,
) -> Result<Found, BrokerError> {
    let topic = wanted.topic;
    let mut found = partitions(clients, consumer, topic)?;
    if found.is_none() {
        make(clients, wanted, runtime)?;
        let until = Instant::now() + clients.timeout();
        while found.is_none() {
            if Instant::now() > until {
                return Err(clients.unavailable(format!(
                    "the topic {topic} was made and cannot be seen yet; try again"
                )));
            }
            std::thread::sleep(FIRST_LOOK);
            found = partitions(clients, consumer, topic)?;
        }
    }
    let partitions = found.unwrap_or_default();
    check_partitions(clients, wanted, partitions)?;
    let largest = check_settings(clients, topic, runtime)?;
    Ok(Found {
        partitions,
        largest,
    })
}

/// How many partitions the topic has now, if that can be seen within this time.
pub(super) fn partitions_now(consumer: &Consumer, topic: &str, limit: Duration) -> Option<usize> {
    let metadata = consumer.fetch_metadata(Some(topic), limit).ok()?;
    let known = metadata.topics().iter().find(|known| known.name() == topic);
    let known = known.filter(|known| known.error().is_none());
    known.map(|known| known.partitions().len())
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

fn check_partitions(
    clients: &Clients,
    wanted: &Wanted<'_>,
    partitions: usize,
) -> Result<(), BrokerError> {
    let topic = wanted.topic;
    if wanted.one && partitions != 1 {
        return Err(clients.unavailable(format!(
            "the topic {topic} has {partitions} partitions, and there is no order over several; delete it, and make it \
             with one"
        )));
    }
    if partitions > PARTITIONS {
        return Err(clients.unavailable(format!(
            "the topic {topic} has {partitions} partitions, of which every node would read all; use one with {PARTITIONS} \
             at most"
        )));
    }
    Ok(())
}

/// Makes the topic, with as many replicas as the cluster makes by itself.
fn make(clients: &Clients, wanted: &Wanted<'_>, runtime: &Handle) -> Result<(), BrokerError> {
    let Wanted {
        topic,
        partitions,
        kept,
        ..
    } = *wanted;
    let millis = |age: Duration| age.as_millis().clamp(1, LONGEST_MILLIS).to_string();
    let (age, segment) = (millis(kept), millis(kept.max(SHORTEST_SEGMENT)));
    let largest = clients.event_data().saturating_add(RECORD_OVERHEAD);
    let largest = largest.clamp(1 << 20, i32::MAX as usize).to_string();
    let new = NewTopic::new(
        topic,
        i32::try_from(partitions).unwrap_or(1),
        TopicReplication::Fixed(-1),
    )
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
    let count = match partitions {
        1 => "one partition".to_owned(),
        count => format!("{count} partitions"),
    };
    let what = format!(
        "there is no topic {topic}, and it cannot be made; make it with {count}, `cleanup.policy=delete`, \
         `message.timestamp.type=LogAppendTime` and `retention.ms={age}`, or give the user the right to create it"
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

/// For each of the first partitions the offset of the first record that is no older than this, by the node's clock; `None`
/// if there is none.
pub(super) fn first_since(
    clients: &Clients,
    consumer: &Consumer,
    topic: &str,
    partitions: usize,
    age: Duration,
) -> Result<Vec<Option<u64>>, BrokerError> {
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let time = i64::try_from(now().saturating_sub(age)).unwrap_or(0);
    let found = offsets(
        consumer,
        topic,
        partitions,
        Offset::Offset(time),
        clients.timeout(),
    );
    found.map_err(|error| clients.error(&format!("the topic {topic} cannot be looked up"), &error))
}

/// For each of the first partitions the offset that follows on all that can be read (`Offset::End`), or the first that
/// there is (`Offset::Beginning`).
pub(super) fn edges(
    consumer: &Consumer,
    topic: &str,
    partitions: usize,
    edge: Offset,
    limit: Duration,
) -> Result<Vec<u64>, KafkaError> {
    let offsets = offsets(consumer, topic, partitions, edge, limit)?;
    // What is not known is not taken for 0: then the topic would hold less than it does.
    let all: Option<_> = offsets.into_iter().collect();
    all.ok_or(KafkaError::MetadataFetch(Code::UnknownPartition))
}

/// Looks up the first partitions: by time, or what stands for the beginning and the end.
fn offsets(
    consumer: &Consumer,
    topic: &str,
    partitions: usize,
    what: Offset,
    limit: Duration,
) -> Result<Vec<Option<u64>>, KafkaError> {
    let mut asked = TopicPartitionList::with_capacity(partitions);
    let numbers = 0..i32::try_from(partitions).unwrap_or(i32::MAX);
    for number in numbers.clone() {
        asked.add_partition_offset(topic, number, what)?;
    }
    let found = consumer.offsets_for_times(asked, limit)?;
    let offset = |number| {
        let Some(found) = found.find_partition(topic, number) else {
            return Ok(None);
        };
        // Where it is an error, the offset is what was asked for.
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        })
    };
    numbers.map(offset).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::Settings, *};

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
        assert_eq!(order("fanfare.shop.prices"), "fanfare.shop.prices.order");
        let order = order(&long("a"));
        assert_eq!(order.len(), NAME_BYTES);
        assert!(order != a && order != long("a"));
    }

    #[test]
    fn what_has_too_many_partitions_says_so() {
        let settings = Settings {
            servers: vec!["kafka:9092".into()],
            topic: Topic::Named("news".into()),
            partitions: 1,
            login: None,
            tls: None,
            timeout: Duration::from_secs(1),
            memory: 0,
        };
        let clients = Clients::new(settings, 0);
        let check = |one, partitions| {
            let wanted = Wanted {
                topic: "news",
                partitions: 1,
                one,
                kept: Duration::ZERO,
            };
            let checked = check_partitions(&clients, &wanted, partitions);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(false, 1), Ok(()));
        assert_eq!(check(false, 1000), Ok(()));
        assert_eq!(check(true, 1), Ok(()));
        for (one, partitions, says) in [(false, 1001, "1000 at most"), (true, 2, "with one")] {
            let error = check(one, partitions).unwrap_err();
            let count = format!("topic news has {partitions} partitions");
            assert!(error.contains(&count) && error.contains(says), "{error}");
        }
    }
}
