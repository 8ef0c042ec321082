//! What an operation of the host may answer instead of its result.

use std::fmt;

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the host, or one that a handler returns to it.
///
/// Every case carries a sentence for people: what was wrong, where, and what to do about it. Decide by the case
/// alone; the sentence may change in any release.
///
/// Texts and errors of `serde_json` turn into it, so that `?` works on both:
///
/// ```
/// use fanfare_guest::{Error, Result};
///
/// fn sum(body: &str) -> Result<i64> {
///     let numbers: Vec<i64> = serde_json::from_str(body)?;
///     let first = numbers.first().ok_or("there is no number")?;
///     Ok(numbers[1..].iter().fold(*first, |sum, number| sum + number))
/// }
///
/// assert_eq!(sum("[1, 2]"), Ok(3));
/// assert_eq!(sum("[]"), Err(Error::Other("there is no number".to_owned())));
/// assert!(matches!(sum("{}"), Err(Error::Invalid(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The app was not granted this, or the other side refused the credentials. Names the missing grant.
    Denied(String),
    /// An argument, or the moment of the call, is wrong. The same call fails again.
    Invalid(String),
    /// There is no such entry, connection or broker.
    NotFound(String),
    /// The value is of another kind. Names the kind asked for and the kind found.
    WrongType(String),
    /// The connection is closed. There is nobody left to send to.
    Closed(String),
    /// The publisher has to be started first.
    NotStarted(String),
    /// A limit is reached. Names the limit, its value and the setting that changes it.
    Limited(String),
    /// A broker or a server cannot be reached now. The same call may succeed later.
    Unavailable(String),
    /// Anything else, such as an error that Redis answered to a command.
    Other(String),
}

impl Error {
    /// The sentence, without the case.
    pub fn message(&self) -> &str {
        match self {
            Self::Denied(message)
            | Self::Invalid(message)
            | Self::NotFound(message)
            | Self::WrongType(message)
            | Self::Closed(message)
            | Self::NotStarted(message)
            | Self::Limited(message)
            | Self::Unavailable(message)
            | Self::Other(message) => message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = match self {
            Self::Denied(_) => "denied: ",
            Self::Invalid(_) => "invalid: ",
            Self::NotFound(_) => "not found: ",
            Self::WrongType(_) => "wrong type: ",
            Self::Closed(_) => "closed: ",
            Self::NotStarted(_) => "not started: ",
            Self::Limited(_) => "limited: ",
            Self::Unavailable(_) => "unavailable: ",
            Self::Other(_) => "",
        };
        write!(f, "{case}{}", self.message())
    }
}

impl std::error::Error for Error {}

/// A mistake in a document, or a value that has no form in JSON: [`Error::Invalid`].
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(format!("JSON: {error}"))
    }
}

/// [`Error::Other`].
impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

/// [`Error::Other`].
impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::Other(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_the_case() {
        assert_eq!(
            Error::NotFound("no value `a`".into()).to_string(),
            "not found: no value `a`"
        );
        assert_eq!(
            Error::from("ERR no such command").to_string(),
            "ERR no such command"
        );
    }
}
