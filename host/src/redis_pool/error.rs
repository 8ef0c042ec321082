//! Why Redis did not do what it was asked.

use thiserror::Error;

/// Errors that do not name the server, because Redis puts them where they belong: in front of its text.
const NOT_READY: [&str; 8] = [
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "TRYAGAIN",
    "MOVED",
    "ASK",
];

/// Why Redis did not do what it was asked. Every text is for people and holds no password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RedisError {
    /// The URL, the command or an argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The user, the password or the user's permissions do not allow it, or the command is one that the shared
    /// connection cannot bear.
    #[error("{0}")]
    Denied(String),
    /// The server cannot be reached, or cannot answer now.
    #[error("{0}")]
    Unavailable(String),
    /// Too large, or too many.
    #[error("{0}")]
    Limited(String),
    /// An error that Redis answered, in its words.
    #[error("{0}")]
    Other(String),
}

impl RedisError {
    /// What an error reply of the server at the address means. `text` is all of it, such as `ERR no such key`.
    pub(super) fn from_reply(address: &str, text: &str) -> Self {
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            "WRONGPASS" => Self::Denied(format!(
                "Redis at {address} does not accept the user and password; check them in the URL \
                 (redis://user:password@…). It says: {text}"
            )),
            "NOAUTH" => Self::Denied(format!(
                "Redis at {address} wants a password; put it in the URL (redis://user:password@…). It says: {text}"
            )),
            "NOPERM" | "DENIED" => Self::Denied(format!(
                "Redis at {address} does not permit this to the user; its permissions are set on the server. It \
                 says: {text}"
            )),
            code if NOT_READY.contains(&code) => Self::Unavailable(format!(
                "Redis at {address} cannot do this now; try again later. It says: {text}"
            )),
            _ => Self::Other(text.to_owned()),
        }
    }

    /// What an error reply to a subscription means.
    pub(crate) fn refused(address: &str, text: &str) -> Self {
        match Self::from_reply(address, text) {
            Self::Other(text) => Self::Unavailable(format!(
                "Redis at {address} does not let the channels be heard. It says: {text}"
            )),
            error => error,
        }
    }

    /// What an error reply means while a connection is being set up. Redis repeats the arguments of a command
    /// that it does not know, and of these one may be the password.
    pub(super) fn from_setup(address: &str, text: &str) -> Self {
        let text = match text.find("with args beginning with") {
            Some(cut) => text[..cut].trim_end_matches([' ', ',']),
            None => text,
        };
        match Self::from_reply(address, text) {
            Self::Other(text) => Self::Unavailable(format!(
                "Redis at {address} does not take the connection. It says: {text}"
            )),
            error => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart_by_their_code() {
        let error = |text| RedisError::from_reply("h:1", text);
        for text in ["WRONGPASS no", "NOAUTH no", "NOPERM no", "DENIED no"] {
            assert!(matches!(error(text), RedisError::Denied(_)), "{text}");
        }
        for text in NOT_READY {
            assert!(matches!(error(text), RedisError::Unavailable(_)), "{text}");
        }
        assert_eq!(
            error("WRONGTYPE Operation against a key"),
            RedisError::Other("WRONGTYPE Operation against a key".into())
        );
        assert_eq!(error(""), RedisError::Other(String::new()));
    }

    #[test]
    fn an_error_of_the_setup_never_repeats_the_password() {
        let text =
            "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'bob' 'hunter2'";
        let error = RedisError::from_setup("h:1", text).to_string();
        assert!(error.contains("unknown command 'HELLO'"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
