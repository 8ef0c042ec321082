//! Values of this crate from those of the contract, and to them.

use std::time::Duration;

use super::bindings::fanfare::sse::{
    connections as wit_connections, errors as wit_errors, events as wit_events,
    publishers as wit_publishers, redis_clients,
};
use crate::{
    CloseReason, Disconnection, Error, Event, EventId, Message, Payload, Receipt,
    redis::{Part, Value},
    time::millis_u32,
};

impl From<wit_errors::Error> for Error {
    fn from(error: wit_errors::Error) -> Self {
        use wit_errors::Error as Wit;
        match error {
            Wit::Denied(message) => Self::Denied(message),
            Wit::Invalid(message) => Self::Invalid(message),
            Wit::NotFound(message) => Self::NotFound(message),
            Wit::WrongType(message) => Self::WrongType(message),
            Wit::Closed(message) => Self::Closed(message),
            Wit::NotStarted(message) => Self::NotStarted(message),
            Wit::Limited(message) => Self::Limited(message),
            Wit::Unavailable(message) => Self::Unavailable(message),
            Wit::Other(message) => Self::Other(message),
        }
    }
}

impl From<Error> for wit_errors::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(message) => Self::Denied(message),
            Error::Invalid(message) => Self::Invalid(message),
            Error::NotFound(message) => Self::NotFound(message),
            Error::WrongType(message) => Self::WrongType(message),
            Error::Closed(message) => Self::Closed(message),
            Error::NotStarted(message) => Self::NotStarted(message),
            Error::Limited(message) => Self::Limited(message),
            Error::Unavailable(message) => Self::Unavailable(message),
            Error::Other(message) => Self::Other(message),
        }
    }
}

impl From<EventId> for wit_events::EventId {
    fn from(id: EventId) -> Self {
        match id {
            EventId::Plain(id) => Self::Plain(id),
            EventId::Any(id) => Self::Any(id),
        }
    }
}

impl From<Payload> for wit_events::Payload {
    fn from(data: Payload) -> Self {
        match data {
            Payload::Text(text) => Self::Text(text),
            Payload::Json(json) => Self::Json(json),
        }
    }
}

impl From<Event> for wit_events::Event {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.map(Into::into),
            event_type: event.event_type,
            data: event.data.into(),
            retry: event.retry.map(millis_u32),
        }
    }
}

impl From<wit_events::Event> for Event {
    fn from(event: wit_events::Event) -> Self {
        Self {
            id: event.id.map(|id| match id {
                wit_events::EventId::Plain(id) => EventId::Plain(id),
                wit_events::EventId::Any(id) => EventId::Any(id),
            }),
            event_type: event.event_type,
            data: match event.data {
                wit_events::Payload::Text(text) => Payload::Text(text),
                wit_events::Payload::Json(json) => Payload::Json(json),
            },
            retry: event
                .retry
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
        }
    }
}

impl From<Message> for wit_events::Message {
    fn from(message: Message) -> Self {
        Self {
            event: message.event.map(Into::into),
            id: message.id.map(Into::into),
            event_type: message.event_type,
            data: message.data.map(Into::into),
            retry: message.retry.map(millis_u32),
        }
    }
}

impl From<wit_publishers::Receipt> for Receipt {
    fn from(receipt: wit_publishers::Receipt) -> Self {
        Self {
            id: receipt.id,
            delivered: receipt.delivered,
            duplicate: receipt.duplicate,
        }
    }
}

impl From<wit_connections::CloseReason> for CloseReason {
    fn from(reason: wit_connections::CloseReason) -> Self {
        use wit_connections::CloseReason as Wit;
        match reason {
            Wit::ClientGone => Self::ClientGone,
            Wit::Closed => Self::Closed,
            Wit::Inactive => Self::Inactive,
            Wit::Expired => Self::Expired,
            Wit::Slow => Self::Slow,
            Wit::Shutdown => Self::Shutdown,
        }
    }
}

impl From<wit_connections::Disconnection> for Disconnection {
    fn from(gone: wit_connections::Disconnection) -> Self {
        Self {
            connection_id: gone.connection_id,
            channels: gone.channels,
            reason: gone.reason.into(),
        }
    }
}

impl From<redis_clients::RedisValue> for Part {
    fn from(value: redis_clients::RedisValue) -> Self {
        use redis_clients::RedisValue as Wit;
        Self::Value(match value {
            Wit::Nil => Value::Nil,
            Wit::Status(text) => Value::Status(text),
            Wit::Integer(integer) => Value::Integer(integer),
            Wit::Double(double) => Value::Double(double),
            Wit::Boolean(boolean) => Value::Boolean(boolean),
            Wit::Bytes(bytes) => Value::Bytes(bytes),
            Wit::Array(length) => return Self::Array(length),
            Wit::Error(text) => Value::Error(text),
        })
    }
}
