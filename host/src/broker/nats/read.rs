//! Reading what is kept.
//!
//! # What is missing
//!
//! A stream does not say what it removed. It removes the oldest of a subject when there are too many of them, and the
//! oldest of all when they are too old. So nothing after a message that is kept was removed, of its channel. Where
//! nothing of a channel is kept up to the position that is asked for, there is a gap where
//!
//! - the channel has as many messages as it may have: before the first of them, or
//! - the stream is older than the age that it keeps messages for: before the first message that it has, of any channel.
//!
//! Both may tell a gap where there is none, but only where something could have been removed. What somebody deletes by
//! hand from the middle of a stream is not noticed.
//!
//! An event that is there and cannot be read is missing as well; those before it are not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{
    Message, Subscriber,
    jetstream::{
        self,
        consumer::{
            AckPolicy, Consumer, DeliverPolicy,
            pull::{BatchConfig, Config},
        },
        stream::ConsumerErrorKind,
    },
};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use super::{
    super::{BrokerError, Page},
    link::Failure,
    log::{Content, Log, MESSAGE_ID, nanos},
    names::{LogStream, Names, is_given},
};
use crate::hub::channel::ChannelName;

/// Messages that the server sends at a time.
const BATCH: usize = 250;
/// Bytes of a page, beside its last event.
const BYTES: usize = 8 << 20;
/// The most events of a log that an id is looked for in.
const SCAN: u64 = 10_000;
/// After this time the server forgets a consumer that nobody uses.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Reads messages of a subject, oldest first.
struct Reader<'a> {
    log: &'a Log,
    consumer: Consumer<Config>,
    inbox: String,
    messages: Subscriber,
    /// How many the server still sends without being asked again.
    asked: usize,
}

/// A message that is kept.
struct Found {
    sequence: u64,
    /// After 1970, by the clock of the server.
    time: Duration,
    /// How many come after it.
    pending: u64,
    message: Message,
}

impl Log {
    /// Reads the events of a channel after a position.
    pub(super) async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, Failure> {
        let attached = self.attached().await?;
        let stream = &attached.stream;
        let subject = self.names.event(channel);
        let from = stream.sequence(after);
        let mut page = Page {
            through: after.max(stream.base),
            ..Page::default()
        };
        if after < stream.base {
            // Of another stream, which is gone.
            page.missing = stream.base;
        }
        let last = json!({ "last_by_subj": subject });
        let last = self.sequence_of(stream, last).await?;
        if last.is_some_and(|last| last <= from) {
            return Ok(page);
        }
        let mut unreadable = 0;
        let mut now = SystemTime::now().duration_since(UNIX_EPOCH);
        if let Some(last) = last {
            let mut reader = self.reader(stream, subject.clone(), from, false).await?;
            now = Ok(nanos(&reader.consumer.cached_info().created));
            unreadable = self
                .fill(&mut page, channel, stream, &mut reader, last, limit)
                .await?;
        }
        let now = now.unwrap_or_default();
        // Only after that: what was removed meanwhile is missing too.
        let kept = self.kept(stream, &subject).await?.state;
        let first = json!({ "seq": 1, "next_by_subj": subject });
        let first = self.sequence_of(stream, first).await?;
        if first.is_none_or(|first| first > from) {
            let count = kept.subjects.get(&subject).copied().unwrap_or(0);
            let full = count >= self.retention.events as u64;
            let by_count = first.filter(|_| full).map_or(0, |first| first - 1);
            let old = now.saturating_sub(attached.created) > self.retention.age;
            let by_age = if old {
                kept.first_seq.saturating_sub(1)
            } else {
                0
            };
            let missing = by_count.max(by_age);
            if missing > from {
                page.missing = page.missing.max(stream.position(missing));
            }
        }
        // The server takes its time to remove what is too old.
        let old = page.events.iter();
        let old = old.filter(|event| event.age > self.retention.age);
        page.missing = old.map(|event| event.position).fold(page.missing, u64::max);
        page.events.retain(|event| event.position > page.missing);
        page.through = page.through.max(page.missing);
        page.missing = page.missing.max(unreadable);
        Ok(page)
    }

    /// Reads until the page is full or has the message with this sequence. Returns the position of the newest event that
    /// cannot be read, or 0.
    async fn fill(
        &self,
        page: &mut Page,
        channel: &ChannelName,
        stream: &LogStream,
        reader: &mut Reader<'_>,
        last: u64,
        limit: usize,
    ) -> Result<u64, Failure> {
        let now = nanos(&reader.consumer.cached_info().created);
        let (mut count, mut bytes, mut unreadable) = (0, 0, 0);
        while count < limit && bytes < BYTES {
            let found = reader.next(limit - count).await?;
            let (sequence, payload) = (found.sequence, &found.message.payload);
            let age = now.saturating_sub(found.time);
            page.through = stream.position(sequence);
            match self.content(channel, stream, sequence, payload, age) {
                Content::Event(placed) => page.events.push(placed),
                Content::Unreadable => unreadable = page.through,
                Content::Foreign => {}
            }
            count += 1;
            bytes += found.message.length;
            if sequence >= last {
                return Ok(unreadable);
            }
        }
        page.more = true;
        Ok(unreadable)
    }

    /// The position of an id.
    pub(super) async fn place(
        &self,
        channel: &ChannelName,
        id: &str,
    ) -> Result<Option<u64>, Failure> {
        let attached = self.attached().await?;
        if let Some(position) = attached.stream.position_of(id) {
            return Ok(Some(position));
        }
        if let Some(position) = self.probe(channel, id).await? {
            return Ok(Some(position));
        }
        if is_given(id) {
            // Of a stream that is gone, and many may come with such; or this one is, which the server says then.
            let any = json!({ "seq": 1, "next_by_subj": self.names.all_events() });
            self.sequence_of(&attached.stream, any).await?;
            return Ok(None);
        }
        self.scan(&attached.stream, id).await
    }

    /// Looks for an id in the whole log, unless that is too large, or others take too long with that.
    async fn scan(&self, stream: &LogStream, id: &str) -> Result<Option<u64>, Failure> {
        // One at a time: whoever asks for ids that never were is not to keep the server busy.
        let turn = timeout(self.link.timeout() / 4, self.scanning.lock()).await;
        let Ok(_scanning) = turn else {
            return Ok(None);
        };
        let events = self.names.all_events();
        let mut reader = self.reader(stream, events, 0, true).await?;
        let mut pending = reader.consumer.cached_info().num_pending;
        if pending > SCAN {
            return Ok(None);
        }
        let mut place = None;
        while pending > 0 {
            let found = reader.next(usize::MAX).await?;
            pending = found.pending;
            let headers = found.message.headers.as_ref();
            let message_id = headers.and_then(|headers| headers.get(MESSAGE_ID));
            if message_id.is_some_and(|found| Names::has_id(found.as_str(), id)) {
                if place.is_some() {
                    return Ok(None);
                }
                place = Some(stream.position(found.sequence));
            }
        }
        Ok(place)
    }

    async fn reader(
        &self,
        stream: &LogStream,
        subject: String,
        after: u64,
        headers_only: bool,
    ) -> Result<Reader<'_>, Failure> {
        let config = Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: after + 1,
            },
            ack_policy: AckPolicy::None,
            filter_subject: subject,
            headers_only,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let context = self.link.context();
        let consumer = self.link.bounded(async {
            let made = context
                .create_consumer_on_stream(config, &stream.name)
                .await;
            made.map_err(|error| match error.kind() {
                ConsumerErrorKind::JetStream(error) => Failure::Refused(error),
                _ => Failure::Unknown(self.about("a consumer", &error)),
            })
        });
        let consumer = consumer.await?;
        let inbox = self.link.inbox();
        Ok(Reader {
            messages: self.link.subscribe(inbox.clone()).await?,
            log: self,
            consumer,
            inbox,
            asked: 0,
        })
    }

    fn about(&self, what: &str, error: &dyn std::fmt::Display) -> String {
        format!(
            "reading from NATS at {} failed at {what}: {error}",
            self.link.address()
        )
    }
}

impl Reader<'_> {
    /// The next message, of which as many are wanted.
    async fn next(&mut self, wanted: usize) -> Result<Found, Failure> {
        let (log, limit) = (self.log, self.log.link.timeout());
        // Twice in vain means that there is no such message.
        for _ in 0..2 {
            if self.asked == 0 {
                self.asked = wanted.min(BATCH);
                let batch = BatchConfig {
                    batch: self.asked,
                    expires: Some(limit),
                    max_bytes: BYTES.max(2 * log.link.max_payload()),
                    ..BatchConfig::default()
                };
                let asked = self
                    .consumer
                    .request_batch(batch, self.inbox.clone().into());
                asked
                    .await
                    .map_err(|error| Failure::Unknown(log.about("asking", &error)))?;
            }
            let message = match timeout(limit, self.messages.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(late) => return Err(Failure::Unknown(log.about("the next message", &late))),
            };
            if message.status.is_some() {
                // As many bytes as were asked for, or nothing for a while.
                self.asked = 0;
                continue;
            }
            self.asked -= 1;
            let message = jetstream::Message {
                message,
                context: log.link.context().clone(),
            };
            let info = message
                .info()
                .map_err(|error| Failure::Unknown(log.about("a message", &error)))?;
            return Ok(Found {
                sequence: info.stream_sequence,
                time: nanos(&info.published),
                pending: info.pending,
                message: message.message,
            });
        }
        Err(Failure::NotDone(BrokerError::Unavailable(log.about(
            "the next message",
            &"there is none, although there was one",
        ))))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.log.link.forget(&self.consumer, &self.log.runtime);
    }
}
