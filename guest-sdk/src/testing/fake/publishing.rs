//! Publishers, their channels and what was published on them.

use std::collections::{BTreeMap, VecDeque};

use super::{State, checks};
use crate::{CloseReason, Error, Event, EventId, Message, Receipt, Result, testing::Published};

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
}

#[derive(Default)]
struct Channel {
    /// The events that are kept, oldest first, each with an id.
    history: VecDeque<Event>,
    /// Whether there were older ones.
    reaches_back: Reach,
}

#[derive(Default, PartialEq)]
enum Reach {
    #[default]
    ToTheFirst,
    NotToTheFirst,
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
                });
                self.publishers.len() - 1
            })
    }

    pub fn start(&mut self, publisher: usize) -> Result<()> {
        self.check_broker(publisher)?;
        self.publishers[publisher].started = true;
        Ok(())
    }

    pub fn register(&mut self, publisher: usize, stream: usize, channel: &str) -> Result<()> {
        self.check_started(publisher)?;
        checks::check_name("the channel's name", channel)?;
        self.check_open(stream)?;
        let now = self.now;
        let connection = &mut self.streams[stream];
        if !connection
            .registrations
            .insert((publisher, channel.to_owned()))
        {
            return Ok(());
        }
        let (Some(last), Some(channel)) = (
            connection.last_event_id.clone(),
            self.publishers[publisher].channels.get(channel),
        ) else {
            return Ok(());
        };
        let heard = channel
            .history
            .iter()
            .position(|event| event_id(event) == last);
        if heard.is_none()
            && (channel.reaches_back == Reach::NotToTheFirst || !channel.history.is_empty())
        {
            connection.hear(now, &Event::new("").event_type("fanfare-gap"));
        }
        for event in channel
            .history
            .iter()
            .skip(heard.map_or(0, |index| index + 1))
        {
            connection.hear(now, event);
        }
        Ok(())
    }

    pub fn publish(
        &mut self,
        publisher: usize,
        channel: &str,
        message: Message,
    ) -> Result<Receipt> {
        self.check_started(publisher)?;
        checks::check_name("the channel's name", channel)?;
        let mut event = match message {
            Message {
                event: Some(event), ..
            } => event,
            Message {
                event: None,
                id,
                event_type,
                data: Some(data),
                retry,
            } => Event {
                id,
                event_type,
                data,
                retry,
            },
            Message {
                event: None,
                data: None,
                ..
            } => {
                return Err(Error::Invalid(
                    "the message has neither an event nor data".to_owned(),
                ));
            }
        };
        checks::check_event(&event)?;
        self.check_broker(publisher)?;

        let kept = self.publishers[publisher]
            .channels
            .entry(channel.to_owned())
            .or_default();
        if let Some(id) = &event.id
            && kept.history.iter().any(|old| event_id(old) == id.as_str())
        {
            return Ok(Receipt {
                id: id.as_str().to_owned(),
                delivered: 0,
                duplicate: true,
            });
        }
        if event.id.is_none() {
            self.events += 1;
            event.id = Some(EventId::Plain(format!("event{}", self.events)));
        }
        kept.history.push_back(event.clone());
        while kept.history.len() > self.history_limit {
            kept.history.pop_front();
            kept.reaches_back = Reach::NotToTheFirst;
        }

        let registration = (publisher, channel.to_owned());
        let mut delivered = 0;
        for stream in self
            .streams
            .iter_mut()
            .filter(|stream| stream.registrations.contains(&registration))
        {
            stream.hear(self.now, &event);
            delivered += 1;
        }
        let id = event_id(&event).to_owned();
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
        self.check_started(publisher)?;
        checks::check_name("the channel's name", channel)?;
        let open = self
            .streams
            .iter()
            .position(|stream| stream.id == connection_id && stream.end.is_none());
        let Some(index) = open else {
            return Err(Error::NotFound(format!(
                "there is no connection `{connection_id}`"
            )));
        };
        let registrations = &mut self.streams[index].registrations;
        if !registrations.remove(&(publisher, channel.to_owned())) {
            return Err(Error::NotFound(format!(
                "the connection `{connection_id}` does not hear `{channel}`"
            )));
        }
        if registrations.is_empty() {
            self.end(index, CloseReason::Closed);
        }
        Ok(())
    }

    pub fn presence(&mut self, publisher: usize, channel: &str) -> Result<Vec<String>> {
        self.check_started(publisher)?;
        checks::check_name("the channel's name", channel)?;
        let registration = (publisher, channel.to_owned());
        let hearing = self
            .streams
            .iter()
            .filter(|stream| stream.registrations.contains(&registration));
        let mut ids: Vec<_> = hearing.map(|stream| stream.id.clone()).collect();
        ids.sort();
        Ok(ids)
    }

    pub fn history(&mut self, publisher: usize, channel: &str, limit: u32) -> Result<Vec<Event>> {
        self.check_started(publisher)?;
        checks::check_name("the channel's name", channel)?;
        let Some(channel) = self.publishers[publisher].channels.get(channel) else {
            return Ok(Vec::new());
        };
        let older = channel.history.len().saturating_sub(limit as usize);
        Ok(channel.history.iter().skip(older).cloned().collect())
    }

    fn check_started(&self, publisher: usize) -> Result<()> {
        if self.publishers[publisher].started {
            return Ok(());
        }
        Err(Error::NotStarted(
            "the publisher has to be started first, by `Publisher::start`".to_owned(),
        ))
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
                    "the Redis server `{server}` cannot be reached"
                )))
            }
            _ => Ok(()),
        }
    }
}

fn event_id(event: &Event) -> &str {
    event.id.as_ref().map_or("", EventId::as_str)
}
