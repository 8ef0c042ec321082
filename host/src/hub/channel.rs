//! A channel: who hears it, and what it keeps.

use std::{collections::HashMap, fmt, sync::Arc};

use thiserror::Error;

use super::{connection::Connection, history::History};

/// The longest name of a channel, in bytes.
pub const NAME_BYTES: usize = 255;

/// A channel's name: 1 to [`NAME_BYTES`] bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

/// Why a name is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// It has no characters.
    #[error("a channel name must not be empty")]
    Empty,
    /// It has too many bytes.
    #[error("a channel name has at most {NAME_BYTES} bytes, and this one has {0}")]
    TooLong(usize),
    /// It has a character that does not belong in a name.
    #[error("a channel name must not contain control characters, and this one has {0:?}")]
    Odd(char),
}

/// Where a channel is: the same name in two spaces is two channels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChannelKey {
    pub(super) space: u32,
    pub(super) name: ChannelName,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    /// Who hears it, by the id of the connection.
    pub(super) subscribers: HashMap<Arc<str>, Arc<Connection>>,
    /// What it keeps for those who come back.
    pub(super) history: History,
}

impl ChannelName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > NAME_BYTES {
            return Err(NameError::TooLong(name.len()));
        }
        match name.chars().find(|c| c.is_control()) {
            Some(odd) => Err(NameError::Odd(odd)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Channel {
    /// An empty channel in the place of one of which events up to this sequence number may have been forgotten.
    pub(super) fn new(forgotten_through: u64) -> Self {
        Self {
            subscribers: HashMap::new(),
            history: History::new(forgotten_through),
        }
    }

    /// Whether nothing would be missed if it were gone.
    pub(super) fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && !self.history.watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(ChannelName::new(""), Err(NameError::Empty));
        assert_eq!(
            ChannelName::new(&"ä".repeat(128)),
            Err(NameError::TooLong(256))
        );
        assert_eq!(ChannelName::new("a\nb"), Err(NameError::Odd('\n')));
        assert_eq!(ChannelName::new("a\u{85}b"), Err(NameError::Odd('\u{85}')));
        assert_eq!(
            ChannelName::new("raum 1/größe ☂").unwrap().as_str(),
            "raum 1/größe ☂"
        );
    }
}
