//! Events, and what is published.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::Result;

/// The data of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Any text. CR, LF and CRLF all end a line and arrive at the client as LF; nothing else changes.
    Text(String),
    /// A JSON document. The host checks it and sends it as it is written.
    Json(String),
}

impl Payload {
    /// The text, or the JSON as it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Json(text) => text,
        }
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The id of an event: what a client sends back as `Last-Event-ID` when it reconnects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventId {
    /// 1 to 128 bytes of `A`-`Z`, `a`-`z`, `0`-`9`, `.`, `_` and `-`; the host refuses all others.
    Plain(String),
    /// 1 to 1,024 bytes without CR, LF and NUL. Browsers may have to send a preflight request before they
    /// reconnect across origins with such an id.
    Any(String),
}

impl EventId {
    /// The text of the id.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Plain(id) | Self::Any(id) => id,
        }
    }
}

/// An event.
///
/// ```
/// use std::time::Duration;
/// use fanfare_guest::{Event, Result};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Score { home: u32, away: u32 }
///
/// # fn main() -> Result<()> {
/// let text = Event::new("line one\nline two");
/// let json = Event::json(&Score { home: 2, away: 1 })?
///     .event_type("score")
///     .id("match-7.3")
///     .retry(Duration::from_secs(5));
/// assert_eq!(json.data.as_str(), r#"{"home":2,"away":1}"#);
/// # Ok(()) }
/// ```
///
/// What is wrong with an event, the host says when it is published or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an event has to be published or sent"]
pub struct Event {
    /// `None`: a published event gets an id from the host, one that is sent goes without.
    pub id: Option<EventId>,
    /// What a client listens for, at most 1,024 bytes without CR, LF and NUL. `None` and the empty text both
    /// arrive as `message`.
    pub event_type: Option<String>,
    /// What the event says.
    pub data: Payload,
    /// How long the client is to wait before it reconnects, from this event on. It travels in milliseconds.
    pub retry: Option<Duration>,
}

impl Event {
    /// An event of nothing but a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            id: None,
            event_type: None,
            data: Payload::Text(text.into()),
            retry: None,
        }
    }

    /// An event of nothing but a value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::new("").data(Payload::Json(serde_json::to_string(value)?)))
    }

    /// Sets the id, which has to be plain: 1 to 128 letters, digits, `.`, `_` and `-`.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(EventId::Plain(id.into()));
        self
    }

    /// Sets an id of any kind, see [`EventId::Any`] for its price.
    pub fn any_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(EventId::Any(id.into()));
        self
    }

    /// Sets the type.
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Sets other data.
    pub fn data(mut self, data: impl Into<Payload>) -> Self {
        self.data = data.into();
        self
    }

    /// Tells the client how long to wait before it reconnects.
    pub fn retry(mut self, retry: Duration) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Reads the data as JSON, such as that of an event from [`Publisher::history`](crate::Publisher::history).
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(self.data.as_str())?)
    }
}

/// As [`Event::new`].
impl From<String> for Event {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// As [`Event::new`].
impl From<&str> for Event {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// An event of nothing but its data.
impl From<Payload> for Event {
    fn from(data: Payload) -> Self {
        Self::new("").data(data)
    }
}

impl From<&Event> for Event {
    fn from(event: &Event) -> Self {
        event.clone()
    }
}

/// What is published: a ready-made event, or its fields.
///
/// `publish` takes whatever turns into it: an [`Event`], most of the time, or a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "a message has to be published"]
pub struct Message {
    /// A ready-made event. Where there is one, the fields below are ignored.
    pub event: Option<Event>,
    /// As in [`Event`].
    pub id: Option<EventId>,
    /// As in [`Event`].
    pub event_type: Option<String>,
    /// As in [`Event`]. The host refuses a message with neither an event nor data.
    pub data: Option<Payload>,
    /// As in [`Event`].
    pub retry: Option<Duration>,
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self {
            event: Some(event),
            ..Self::default()
        }
    }
}

impl From<&Event> for Message {
    fn from(event: &Event) -> Self {
        event.clone().into()
    }
}

impl From<Payload> for Message {
    fn from(data: Payload) -> Self {
        Self {
            data: Some(data),
            ..Self::default()
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Payload::Text(text).into()
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Payload::from(text).into()
    }
}
