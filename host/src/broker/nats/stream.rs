//! The stream of a log: how it is found, made and set up.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{
    datetime,
    jetstream::{self, ErrorCode},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    link::Failure,
    log::{KeptState, Log, nanos},
    names::LogStream,
};
use crate::broker::BrokerError;

/// The shortest age that a server keeps to.
const LEAST_AGE: Duration = Duration::from_millis(100);
/// How often a stream is made or deleted before it is given up.
const TRIES: usize = 2;

/// The setting that says for how long the server knows it.
const WINDOW: &str = "duplicate_window";
/// The setting that says what a stream pushes.
const REPUBLISH: &str = "republish";
/// Messages of a stream that only pushes. It goes on after the newest of them.
const PUSHER_KEEPS: u64 = 100;

/// A stream that is there.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) stream: LogStream,
    /// When it was made, after 1970, by the clock of the server.
    pub(super) created: Duration,
}

#[derive(Deserialize)]
struct StreamNames {
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: Map<String, Value>,
    created: String,
    state: KeptState,
}

impl Log {
    /// Finds the stream of the log, or makes it, and sees that it is as it is to be.
    pub(super) async fn attach(&self) -> Result<Attached, Failure> {
        let (mut made, mut tries) = (None, 0);
        loop {
            tries += 1;
            // All streams of the log, if two nodes made one at the same time: then the older one stays.
            let found = self.find().await?.into_iter();
            let Some(stream) = found.min_by_key(|found| found.base) else {
                if tries > TRIES {
                    return Err(Failure::Gone);
                }
                made = self.make().await?;
                continue;
            };
            if let Some(made) = made.take().filter(|made| *made != stream) {
                self.delete(&made.name).await?;
            }
            let known = stream.sequence(self.newest.load(Ordering::Relaxed));
            let info = format!("STREAM.INFO.{}", stream.name);
            let info: StreamInfo = self.link.api(info, &json!({})).await?;
            if info.state.last_seq < known && tries <= TRIES {
                // It would give the same positions again.
                tracing::error!(
                    address = self.link.address(),
                    stream = stream.name,
                    "NATS has lost events that it had accepted, and the log begins anew; the setting `sync_interval: \
                     always` of its JetStream prevents that"
                );
                self.delete(&stream.name).await?;
                continue;
            }
            self.adjust(info.config).await?;
            self.see_pusher(&stream, info.state.last_seq).await?;
            let created = datetime::parse_rfc3339(&info.created).map(|created| nanos(&created));
            return Ok(Attached {
                stream,
                created: created.unwrap_or_default(),
            });
        }
    }

    async fn delete(&self, name: &str) -> Result<(), Failure> {
        let delete = format!("STREAM.DELETE.{name}");
        self.link.api::<Value>(delete, &json!({})).await?;
        Ok(())
    }

    /// Where the stream does not push in order, sees that there is another one that takes all from it, one after the
    /// other, and pushes that. It keeps next to nothing.
    async fn see_pusher(&self, stream: &LogStream, last: u64) -> Result<(), Failure> {
        let mut wanted = match self.link.pushes_in_order() {
            true => None,
            false => Some(stream.pusher()),
        };
        for found in self.streams(&self.names.unused("*")).await? {
            if wanted.as_ref() == Some(&found) {
                wanted = None;
            } else if LogStream::is_pusher(&found) {
                // Of a stream that is gone, or of a server that was older.
                self.delete(&found).await?;
            }
        }
        let Some(name) = wanted else { return Ok(()) };
        let config = json!({
            "name": name,
            "subjects": [self.names.unused(&stream.epoch)],
            "sources": [{ "name": stream.name, "opt_start_seq": last + 1 }],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_msgs": PUSHER_KEEPS,
            // What is taken was no duplicate, and is none here.
            WINDOW: nanos_of(LEAST_AGE),
            "num_replicas": self.replicas.max(1),
            "republish": self.republish(),
        });
        match self.change("CREATE", object(config)).await {
            Err(Failure::Refused(error)) if is_there(&error) => Ok(()),
            made => made,
        }
    }

    fn republish(&self) -> Value {
        let (source, destination) = self.names.republish();
        json!({ "src": source, "dest": destination })
    }

    /// The names of the streams with a subject.
    async fn streams(&self, subject: &str) -> Result<Vec<String>, Failure> {
        let request = json!({ "subject": subject });
        let found: StreamNames = self.link.api("STREAM.NAMES".into(), &request).await?;
        Ok(found.streams.unwrap_or_default())
    }

    /// The streams that keep what is published on the subjects of the log.
    async fn find(&self) -> Result<Vec<LogStream>, Failure> {
        let subject = self.names.all_events();
        let found = self.streams(&subject).await?;
        let read = |name: &String| {
            LogStream::parse(name).ok_or_else(|| {
                Failure::NotDone(BrokerError::Denied(format!(
                    "the stream {name:?} of NATS at {} takes {subject}, where events of a publisher are kept; let it \
                     take other subjects, or remove it",
                    self.link.address()
                )))
            })
        };
        found.iter().map(read).collect()
    }

    /// Makes a stream, unless somebody else was faster.
    async fn make(&self) -> Result<Option<LogStream>, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or_default();
        // After all that was seen of a stream that is gone.
        let base = now.max(self.newest.load(Ordering::Relaxed));
        let stream = self.names.new_stream(base);
        let config = json!({
            "name": stream.name,
            "subjects": self.names.subjects(),
            "retention": "limits",
            "storage": "file",
            "discard": "old",
        });
        let mut config = object(config);
        config.extend(self.settings());
        if self.link.pushes_in_order() {
            config.insert(REPUBLISH.into(), self.republish());
        }
        match self.change("CREATE", config).await {
            Ok(()) => Ok(Some(stream)),
            Err(Failure::Refused(error)) if is_there(&error) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What the configuration of the node says of a stream.
    fn settings(&self) -> [(String, Value); 4] {
        let age = nanos_of(self.retention.age.max(LEAST_AGE));
        [
            ("max_msgs_per_subject", json!(self.retention.events)),
            ("max_age", json!(age)),
            (WINDOW, json!(age)),
            ("num_replicas", json!(self.replicas.max(1))),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    /// Sees that the stream is as the configuration of the node says, and leaves all else as it is.
    async fn adjust(&self, mut config: Map<String, Value>) -> Result<(), Failure> {
        let wanted = self.link.pushes_in_order().then(|| self.republish());
        let mut changed = config.get(REPUBLISH) != wanted.as_ref();
        config.remove(REPUBLISH);
        config.extend(wanted.map(|wanted| (REPUBLISH.to_owned(), wanted)));
        for (name, value) in self.settings() {
            let found = config.insert(name.clone(), value.clone());
            let same = match name.as_str() {
                // It may be the longest that the server allows.
                WINDOW => {
                    found.as_ref().and_then(Value::as_u64) <= value.as_u64() && found.is_some()
                }
                _ => found.as_ref() == Some(&value),
            };
            if let Some(found) = found.filter(|_| same) {
                config.insert(name, found);
            }
            changed |= !same;
        }
        match changed {
            true => self.change("UPDATE", config).await,
            false => Ok(()),
        }
    }

    pub(super) async fn change(
        &self,
        how: &str,
        mut config: Map<String, Value>,
    ) -> Result<(), Failure> {
        let name = config.get("name").and_then(Value::as_str);
        let subject = format!("STREAM.{how}.{}", name.unwrap_or_default());
        loop {
            let request = Value::Object(config.clone());
            match self.link.api::<Value>(subject.clone(), &request).await {
                Ok(_) => return Ok(()),
                // Where the server has a limit of its own, it takes that if it is not told anything.
                Err(Failure::Refused(error))
                    if error.to_string().contains("duplicates window")
                        && config.remove(WINDOW).is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Somebody else has made the stream.
pub(super) fn is_there(error: &jetstream::Error) -> bool {
    [
        ErrorCode::STREAM_SUBJECT_OVERLAP,
        ErrorCode::STREAM_NAME_EXIST,
    ]
    .contains(&error.error_code())
}

/// A time as JetStream has it in its settings.
pub(super) fn nanos_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).map_or(i64::MAX as u64, |nanos| nanos.min(i64::MAX as u64))
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
