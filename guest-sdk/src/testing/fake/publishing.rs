//! Publishers, their channels and what was published on them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde_json::json;

use super::{State, checks, streams::with_lf};
use crate::{
    CloseReason, Error, Event, EventId, Message, Payload, Receipt, Result, testing::Published,
    time::millis_u32,
};

/// How many events of a channel are kept at first.
pub const HISTORY_EVENTS: usize = 100;
const HISTORY_BYTES: usize = 256 * 1024;
const HISTORY_AGE: Duration = Duration::from_secs(120);
const CHANNELS_PER_CONNECTION: usize = 100;
const PRESENCE: usize = 10_000;

/// What makes two handles lead to one publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublisherKind {
    InMemory,
    /// Server and sync channel.
    Redis(String, String),
    /// Label.
    Broker(String),
}

pub(super) struct Publisher {
    kind: PublisherKind,
    started: bool,
    channels: BTreeMap<String, Channel>,
    /// A guest published one id on two channels: from then on its ids are places on their own channels only.
    ids_reused: bool,
}

#[derive(Default)]
struct Channel {
    /// Oldest first.
    history: VecDeque<Kept>,
    /// The place of the newest event that was forgotten.
    forgotten: u64,
}

struct Kept {
    /// Its place in the order of all events of the node.
    place: u64,
    at: Duration,
    /// Its size on the wire.
    bytes: usize,
    event: Event,
}

impl Channel {
    fn forget(&mut self, now: Duration, most: usize) {
        let mut bytes: usize = self.history.iter().map(|kept| kept.bytes).sum();
        while let Some(oldest) = self.history.front() {
            let too_old = oldest.at.saturating_add(HISTORY_AGE) <= now;
            if !too_old && self.history.len() <= most && bytes <= HISTORY_BYTES {
                return;
            }
            bytes -= oldest.bytes;
            self.forgotten = oldest.place;
            self.history.pop_front();
        }
    }

    fn place_of(&self, id: &str) -> Option<u64> {
        let kept = self
            .history
            .iter()
            .find(|kept| event_id(&kept.event) == id)?;
        Some(kept.place)
    }
}

impl State {
    pub fn publisher_of(&mut self, kind: PublisherKind) -> usize {
        self.publishers
            .iter()
            .position(|known| known.kind == kind)
            .unwrap_or_else(|| {
                self.publishers.push(Publisher {
                    kind,
                    started: false,
                    channels: BTreeMap::new(),
                    ids_reused: false,
                });
                self.publishers.len() - 1
            })
    }

    pub fn start(&mut self, publisher: usize) -> Result<()> {
        if !self.publishers[publisher].started {
            self.check_broker(publisher)?;
            self.publishers[publisher].started = true;
        }
        Ok(())
    }

    pub fn register(&mut self, publisher: usize, stream: usize, channel: &str) -> Result<()> {
        self.check_channel(publisher, channel)?;
        self.check_open(stream)?;
        let registration = (publisher, channel.to_owned());
        let registrations = &mut self.streams[stream].registrations;
        if registrations.contains(&registration) {
            return Ok(());
        }
        if registrations.len() == CHANNELS_PER_CONNECTION {
            return Err(checks::limited(
                "channels-per-connection",
                CHANNELS_PER_CONNECTION,
            ));
        }
        registrations.insert(registration.clone());
        let connection = &mut self.streams[stream];
        if let Some(last) = connection.last_event_id.clone()
            && connection.replayed.insert(registration)
        {
            self.replay(publisher, stream, channel, &last);
        }
        Ok(())
    }

    /// Tells a connection what it missed on a channel since its last event.
    fn replay(&mut self, publisher: usize, stream: usize, channel: &str, last: &str) {
        self.forget_old();
        let place = self.place_of(publisher, channel, last);
        let connection = &mut self.streams[stream];
        let known = self.publishers[publisher].channels.get(channel);
        let forgotten = known.map_or(0, |known| known.forgotten);
        if place.is_none_or(|place| place < forgotten) {
            let gap = json!({ "channel": channel, "last-event-id": last });
            connection.hear(
                self.now,
                0,
                &Event::new(gap.to_string()).event_type("fanfare-gap"),
            );
        }
        let (Some(place), Some(known)) = (place, known) else {
            return;
        };
        for kept in known.history.iter().filter(|kept| kept.place > place) {
            connection.hear(self.now, kept.place, &kept.event);
        }
    }

    /// The place of an id in the order of all events, where it is known: on this channel, else on another one of the
    /// publisher.
    fn place_of(&self, publisher: usize, channel: &str, id: &str) -> Option<u64> {
        let Publisher {
            channels,
            ids_reused,
            ..
        } = &self.publishers[publisher];
        let here = channels.get(channel);
        let others = channels.values().filter(|_| !ids_reused);
        here.and_then(|channel| channel.place_of(id))
            .or_else(|| others.filter_map(|channel| channel.place_of(id)).max())
            .or_else(|| self.given.get(id).copied())
    }

    pub fn publish(
        &mut self,
        publisher: usize,
        channel: &str,
        message: Message,
    ) -> Result<Receipt> {
        let event = event_of(message)?;
        checks::check_event(&event)?;
        self.check_channel(publisher, channel)?;
        self.check_broker(publisher)?;
        self.forget_old();

        let known = &mut self.publishers[publisher];
        if let Some(id) = &event.id {
            let id = id.as_str();
            let on = |known: &Channel| known.place_of(id).is_some();
            if known.channels.get(channel).is_some_and(on) {
                return Ok(Receipt {
                    id: id.to_owned(),
                    delivered: 0,
                    duplicate: true,
                });
            }
            known.ids_reused |= known.channels.values().any(on);
        }
        self.events += 1;
        let mut event = as_sent(event);
        let id = match &event.id {
            Some(id) => id.as_str().to_owned(),
            None => {
                let id = format!("event{}", self.events);
                event.id = Some(EventId::Plain(id.clone()));
                // Over Redis the nodes know an id no longer than the event itself.
                if !matches!(self.publishers[publisher].kind, PublisherKind::Redis(..)) {
                    self.given.insert(id.clone(), self.events);
                }
                id
            }
        };
        let kept = Kept {
            place: self.events,
            at: self.now,
            bytes: bytes_of(&event),
            event: event.clone(),
        };
        let known = self.publishers[publisher]
            .channels
            .entry(channel.to_owned())
            .or_default();
        known.history.push_back(kept);
        known.forget(self.now, self.history_limit);

        let registration = (publisher, channel.to_owned());
        let mut delivered = 0;
        for stream in self
            .streams
            .iter_mut()
            .filter(|stream| stream.registrations.contains(&registration))
        {
            stream.hear(self.now, self.events, &event);
            delivered += 1;
        }
        self.published.push(Published {
            at: self.now,
            channel: channel.to_owned(),
            event,
        });
        Ok(Receipt {
            id,
            delivered,
            duplicate: false,
        })
    }

    pub fn remove(&mut self, publisher: usize, connection_id: &str, channel: &str) -> Result<()> {
        self.check_channel(publisher, channel)?;
        let open = self
            .streams
            .iter()
            .position(|stream| stream.id == connection_id && stream.end.is_none());
        let Some(index) = open else {
            return Err(Error::NotFound(format!(
                "there is no connection {connection_id:?} here"
            )));
        };
        let registration = (publisher, channel.to_owned());
        let registrations = &mut self.streams[index].registrations;
        if !registrations.contains(&registration) {
            return Err(Error::NotFound(format!(
                "connection {connection_id:?} does not hear channel {channel:?}"
            )));
        }
        if registrations.len() == 1 {
            // Not removed first: what is told of its end names this channel.
            self.end(index, CloseReason::Closed);
        } else {
            registrations.remove(&registration);
        }
        Ok(())
    }

    pub fn subscribers(&self, publisher: usize, channel: &str) -> Result<u64> {
        Ok(self.hearing(publisher, channel)?.len() as u64)
    }

    pub fn presence(&self, publisher: usize, channel: &str) -> Result<Vec<String>> {
        let mut ids = self.hearing(publisher, channel)?;
        ids.sort();
        ids.truncate(PRESENCE);
        Ok(ids)
    }

    fn hearing(&self, publisher: usize, channel: &str) -> Result<Vec<String>> {
        self.check_channel(publisher, channel)?;
        let registration = (publisher, channel.to_owned());
        let hearing = self
            .streams
            .iter()
            .filter(|stream| stream.registrations.contains(&registration));
        Ok(hearing.map(|stream| stream.id.clone()).collect())
    }

    pub fn history(&mut self, publisher: usize, channel: &str, limit: u32) -> Result<Vec<Event>> {
        self.check_channel(publisher, channel)?;
        self.forget_old();
        let Some(channel) = self.publishers[publisher].channels.get(channel) else {
            return Ok(Vec::new());
        };
        let older = channel.history.len().saturating_sub(limit as usize);
        let newest = channel.history.range(older..);
        Ok(newest.map(|kept| kept.event.clone()).collect())
    }

    fn forget_old(&mut self) {
        let channels = self
            .publishers
            .iter_mut()
            .flat_map(|publisher| publisher.channels.values_mut());
        channels.for_each(|channel| channel.forget(self.now, self.history_limit));
    }

    fn check_channel(&self, publisher: usize, channel: &str) -> Result<()> {
        if !self.publishers[publisher].started {
            return Err(Error::NotStarted(
                "the publisher was not started; call `start` first, best in the app's start hook"
                    .to_owned(),
            ));
        }
        checks::check_name("a channel's name", channel)
    }

    fn check_broker(&self, publisher: usize) -> Result<()> {
        match &self.publishers[publisher].kind {
            PublisherKind::Redis(server, _)
                if self
                    .redis_servers
                    .get(server)
                    .is_none_or(|known| known.unreachable) =>
            {
                Err(Error::Unavailable(format!(
                    "Redis at {server} cannot be reached"
                )))
            }
            _ => Ok(()),
        }
    }
}

fn event_of(message: Message) -> Result<Event> {
    match (message.event, message.data) {
        (Some(event), _) => Ok(event),
        (None, Some(data)) => Ok(Event {
            id: message.id,
            event_type: message.event_type,
            data,
            retry: message.retry,
        }),
        (None, None) => Err(Error::Invalid(
            "the message has neither an event nor data; an event may have empty data".to_owned(),
        )),
    }
}

/// The event as it travels, which is how a history tells it.
fn as_sent(event: Event) -> Event {
    Event {
        id: event.id.map(|id| match id {
            EventId::Any(id) if checks::is_plain(&id) => EventId::Plain(id),
            id => id,
        }),
        event_type: event.event_type,
        data: match event.data {
            Payload::Text(text) => Payload::Text(with_lf(&text)),
            Payload::Json(json) => Payload::Json(with_lf(&json)),
        },
        retry: event
            .retry
            .map(|retry| Duration::from_millis(millis_u32(retry).into())),
    }
}

fn bytes_of(event: &Event) -> usize {
    let field = |name: &str, value: &str| format!("{name}: {value}\n").len();
    let optional = |name, value: Option<&str>| value.map_or(0, |value| field(name, value));
    let retry = event.retry.map(|retry| retry.as_millis().to_string());
    let lines = event.data.as_str().split('\n');
    optional("id", event.id.as_ref().map(EventId::as_str))
        + optional("event", event.event_type.as_deref())
        + optional("retry", retry.as_deref())
        + lines.map(|line| field("data", line)).sum::<usize>()
        + "\n".len()
}

fn event_id(event: &Event) -> &str {
    event.id.as_ref().map_or("", EventId::as_str)
}
