//! What the functions that guests import answer when they fail.

use wasmtime::component::ResourceTableError;

use super::{bindings::fanfare::sse::errors::Error, limits::Limit, shared::Shared};
use crate::{
    broker::{BrokerError, publisher::PublisherError},
    event::EventError,
    hub::HubError,
    redis_pool::RedisError,
};

/// The result of an imported function.
pub type HostResult<T> = Result<T, HostError>;

/// An error of the contract, which the guest gets, or a trap, which ends its call.
#[derive(Debug)]
pub enum HostError {
    /// For the guest.
    Guest(Error),
    /// For the guest: it has reached a limit of its app.
    Limited(Limit, String),
    /// For nobody but the log: a handle that the guest cannot have, or too many of them.
    Trap(wasmtime::Error),
}

impl HostError {
    /// An argument, or the moment of the call, is wrong.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Guest(Error::Invalid(text.into()))
    }

    /// The app was not granted this.
    pub fn denied(text: impl Into<String>) -> Self {
        Self::Guest(Error::Denied(text.into()))
    }

    /// A limit is reached that is not the app's own to set.
    pub fn limited(text: impl Into<String>) -> Self {
        Self::Guest(Error::Limited(text.into()))
    }

    /// The connection is closed.
    pub fn closed(text: impl Into<String>) -> Self {
        Self::Guest(Error::Closed(text.into()))
    }

    /// What the generated bindings ask for: an error for the guest, or a trap. Counts the limits that were reached.
    pub fn into_contract(self, shared: &Shared) -> wasmtime::Result<Error> {
        match self {
            Self::Guest(error) => Ok(error),
            Self::Limited(limit, text) => {
                shared.reach(limit);
                Ok(Error::Limited(text))
            }
            Self::Trap(trap) => Err(trap),
        }
    }
}

impl From<ResourceTableError> for HostError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<EventError> for HostError {
    fn from(error: EventError) -> Self {
        let text = error.to_string();
        match error {
            EventError::Invalid(_) => Self::invalid(text),
            EventError::TooLarge { .. } => Self::Limited(Limit::EventData, text),
        }
    }
}

impl From<HubError> for HostError {
    fn from(error: HubError) -> Self {
        let text = error.to_string();
        if let HubError::Limited { name, .. } = error
            && let Some(limit) = Limit::named(name)
        {
            return Self::Limited(limit, text);
        }
        Self::Guest(match error {
            HubError::Closed => Error::Closed(text),
            HubError::NotFound(_) => Error::NotFound(text),
            HubError::Limited { .. } | HubError::Full { .. } | HubError::Overloaded => {
                Error::Limited(text)
            }
            HubError::Draining => Error::Unavailable(text),
        })
    }
}

impl From<PublisherError> for HostError {
    fn from(error: PublisherError) -> Self {
        let text = error.to_string();
        match error {
            PublisherError::NotStarted(_) => Self::Guest(Error::NotStarted(text)),
            PublisherError::Name(_) => Self::invalid(text),
            PublisherError::Hub(error) => error.into(),
            PublisherError::Broker(BrokerError::Unavailable(text)) => {
                Self::Guest(Error::Unavailable(text))
            }
            PublisherError::Broker(BrokerError::Denied(text)) => Self::denied(text),
            PublisherError::Broker(BrokerError::TooLarge(text)) => Self::limited(text),
        }
    }
}

impl From<RedisError> for HostError {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        Self::Guest(match error {
            RedisError::Invalid(_) => Error::Invalid(text),
            RedisError::Denied(_) => Error::Denied(text),
            RedisError::Unavailable(_) => Error::Unavailable(text),
            RedisError::Limited(_) => Error::Limited(text),
            RedisError::Other(_) => Error::Other(text),
        })
    }
}

/// An error of the contract as a sentence for the log: its case, then its text, on one line, as nothing that a guest
/// says may look like a line of the host's.
pub fn sentence(error: &Error) -> String {
    let (case, text) = match error {
        Error::Denied(text) => ("denied", text),
        Error::Invalid(text) => ("invalid", text),
        Error::NotFound(text) => ("not-found", text),
        Error::WrongType(text) => ("wrong-type", text),
        Error::Closed(text) => ("closed", text),
        Error::NotStarted(text) => ("not-started", text),
        Error::Limited(text) => ("limited", text),
        Error::Unavailable(text) => ("unavailable", text),
        Error::Other(text) => ("other", text),
    };
    format!("{case}: {}", text.replace('\n', "\\n"))
}
