//! What is kept on the server, as a log of events.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    HeaderMap, datetime,
    jetstream::{ErrorCode, publish::PublishAck},
};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{
    super::{Accepted, BrokerError, Retention, payload},
    link::{Failure, Link},
    names::{LogStream, Names},
    stream::Attached,
};
use crate::{
    event::{Data, Event, EventError, IdForm},
    hub::{carried::Placed, channel::ChannelName},
};

/// No sequence is as high as this.
const NO_SEQUENCE: u64 = 1 << 62;

/// The header that tells an event with an id of its own.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// A log on a server.
pub(super) struct Log {
    pub(super) link: Link,
    pub(super) names: Names,
    pub(super) retention: Retention,
    pub(super) replicas: usize,
    /// The largest data of an event, in bytes.
    event_data: usize,
    pub(super) runtime: Handle,
    attached: Mutex<Option<Arc<Attached>>>,
    attaching: tokio::sync::Mutex<()>,
    /// The newest position that was seen.
    pub(super) newest: AtomicU64,
    /// Held by whoever looks for an id in the whole log.
    pub(super) scanning: tokio::sync::Mutex<()>,
}

/// How much there is in a stream.
#[derive(Deserialize)]
pub(super) struct Kept {
    pub(super) state: KeptState,
}

#[derive(Deserialize)]
pub(super) struct KeptState {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    /// Messages of each subject that was asked for.
    #[serde(default)]
    pub(super) subjects: HashMap<String, u64>,
}

/// What a message of a channel is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Event(Placed),
    /// An event that this node cannot read: clients are to know that they miss it.
    Unreadable,
    /// None, of another program.
    Foreign,
}

#[derive(Deserialize)]
struct OneMessage {
    message: Sequence,
}

#[derive(Deserialize)]
struct Sequence {
    seq: u64,
}

impl Log {
    pub(super) fn new(
        link: Link,
        name: &str,
        retention: Retention,
        replicas: usize,
        event_data: usize,
        runtime: Handle,
    ) -> Self {
        Self {
            link,
            names: Names::new(name),
            retention,
            replicas,
            event_data,
            runtime,
            attached: Mutex::default(),
            attaching: tokio::sync::Mutex::default(),
            newest: AtomicU64::new(0),
            scanning: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn saw(&self, position: u64) {
        self.newest.fetch_max(position, Ordering::Relaxed);
    }

    /// The stream of the log, which is made where there is none.
    pub(super) async fn attached(&self) -> Result<Arc<Attached>, Failure> {
        if let Some(attached) = self.attached.lock().clone() {
            return Ok(attached);
        }
        let _attaching = self.attaching.lock().await;
        if let Some(attached) = self.attached.lock().clone() {
            return Ok(attached);
        }
        let attached = Arc::new(self.attach().await?);
        *self.attached.lock() = Some(attached.clone());
        Ok(attached)
    }

    /// What was known of the stream may not be so any more.
    pub(super) fn forget(&self) {
        *self.attached.lock() = None;
    }

    /// Accepts an event.
    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        event: &Event,
    ) -> Result<Accepted, BrokerError> {
        let payload = Bytes::from(payload::encode(event));
        let headers = event.id().map(|id| {
            let mut headers = HeaderMap::new();
            headers.insert(MESSAGE_ID, self.names.message_id(channel, id));
            headers
        });
        let published = self.put(self.names.event(channel), headers, payload).await;
        let (stream, ack) = published.map_err(|failure| match failure {
            Failure::Refused(error)
                if error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM =>
            {
                BrokerError::TooLarge(format!(
                    "an event of {} bytes is over the limit `max_msg_size` of the stream of NATS at {} that keeps {}; \
                     raise it there",
                    event.data_bytes(),
                    self.link.address(),
                    self.names.event(channel)
                ))
            }
            Failure::Unknown(text) => BrokerError::Unavailable(format!(
                "{text}; nobody can know whether the event was accepted. It can be published again under the same id"
            )),
            failure => self.link.error("publishing", failure),
        })?;
        let position = stream.position(ack.sequence);
        self.saw(position);
        Ok(Accepted {
            id: match event.id() {
                Some(id) => id.to_owned(),
                None => stream.id_of(position),
            },
            position,
            duplicate: ack.duplicate,
        })
    }

    /// Puts a message into the stream, which is made where there is none any more.
    pub(super) async fn put(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(LogStream, PublishAck), Failure> {
        let attached = self.attached().await?;
        let put = |headers| {
            self.link
                .request::<PublishAck>(subject.clone(), headers, payload.clone())
        };
        let ack = match put(headers.clone()).await {
            Err(Failure::Gone) => {
                self.forget();
                self.attached().await?;
                put(headers).await?
            }
            ack => ack?,
        };
        if ack.stream != attached.stream.name {
            self.forget();
        }
        let stream = LogStream::parse(&ack.stream).ok_or_else(|| {
            Failure::Unknown(format!(
                "the stream {:?} of NATS at {} takes {subject}, where events of a publisher are kept",
                ack.stream,
                self.link.address()
            ))
        })?;
        Ok((stream, ack))
    }

    /// The position of the event with an id of its own on a channel, without looking for it: the server would know it
    /// for published already. If it does not, it refuses because of the sequence.
    pub(super) async fn probe(
        &self,
        channel: &ChannelName,
        id: &str,
    ) -> Result<Option<u64>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, self.names.message_id(channel, id));
        headers.insert("Nats-Expected-Last-Sequence", NO_SEQUENCE.to_string());
        let subject = self.names.event(channel);
        match self.put(subject, Some(headers), Bytes::new()).await {
            Ok((stream, ack)) => Ok(Some(stream.position(ack.sequence))),
            Err(Failure::Refused(error))
                if error.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// How much there is in the stream, and of these subjects.
    pub(super) async fn kept(&self, stream: &LogStream, subjects: &str) -> Result<Kept, Failure> {
        let info = format!("STREAM.INFO.{}", stream.name);
        let request = json!({ "subjects_filter": subjects });
        self.link.api(info, &request).await
    }

    /// The sequence of one message, as the leader of the stream knows it.
    pub(super) async fn sequence_of(
        &self,
        stream: &LogStream,
        which: Value,
    ) -> Result<Option<u64>, Failure> {
        let get = format!("STREAM.MSG.GET.{}", stream.name);
        match self.link.api::<OneMessage>(get, &which).await {
            Ok(found) => Ok(Some(found.message.seq)),
            Err(Failure::Refused(error)) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => {
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// A message that was kept or pushed; where it is no event that can be read, that is logged. What another program
    /// published is an event with that as its data, if it is text.
    pub(super) fn content(
        &self,
        channel: &ChannelName,
        stream: &LogStream,
        sequence: u64,
        payload: &[u8],
        age: Duration,
    ) -> Content {
        let position = stream.position(sequence);
        let id = || stream.id_of(position);
        let read = match payload::decode(payload, id, self.event_data) {
            Err(error) if !error.is_of_a_node() => match str::from_utf8(payload) {
                Ok(text) => plain(text, id(), self.event_data).map_err(|error| error.to_string()),
                Err(error) => {
                    tracing::warn!(
                        stream = stream.name,
                        channel = channel.as_str(),
                        sequence,
                        %error,
                        "what was published through NATS is no text, and so no event, and is skipped"
                    );
                    return Content::Foreign;
                }
            },
            read => read.map_err(|error| error.to_string()),
        };
        match read {
            Ok((event, own_id)) => Content::Event(Placed {
                position,
                event,
                own_id,
                age,
            }),
            Err(error) => {
                tracing::warn!(
                    stream = stream.name,
                    channel = channel.as_str(),
                    sequence,
                    error,
                    "an event that was published through NATS cannot be read; clients are told of a gap"
                );
                Content::Unreadable
            }
        }
    }
}

/// A time of the server, after 1970.
pub(super) fn nanos(time: &datetime::DateTime) -> Duration {
    Duration::from_nanos(u64::try_from(time.unix_timestamp_nanos()).unwrap_or_default())
}

/// What another program published, as an event.
fn plain(text: &str, id: String, limit: usize) -> Result<(Event, bool), EventError> {
    let event = Event::new(Data::Text(text.into()), limit)?;
    Ok((event.with_id(id, IdForm::Plain)?, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_an_event() {
        let (event, own_id) = plain("größe\n2", "e-1".into(), 100).unwrap();
        assert_eq!((event.id(), own_id), (Some("e-1"), false));
        assert_eq!(*event.data(), Data::Text("größe\n2".into()));
        assert!(plain(&"x".repeat(101), "e-1".into(), 100).is_err());
    }
}
