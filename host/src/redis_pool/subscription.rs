//! A connection that hears a Redis channel.
//!
//! It is read by whoever wants the messages, as fast as they are taken and no faster: what cannot be taken now
//! waits in the socket and then in Redis, which bounds it, and not in the memory of this node.

use std::{sync::Arc, time::Duration};

use redis::{PushKind, Value};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    RedisError, RedisUrl, commands,
    dial::{Connection, Dialer, ask},
    replies::Reply,
};

/// A connection that hears one Redis channel.
pub struct Subscription {
    connection: Connection,
    url: RedisUrl,
    timeout: Duration,
}

/// What a subscription hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What somebody published.
    Message(Vec<u8>),
    /// Somebody published more than is taken.
    TooLarge,
}

impl Subscription {
    pub(super) async fn open(
        dialer: &Arc<Dialer>,
        url: &RedisUrl,
        channel: &str,
    ) -> Result<Self, RedisError> {
        let address = url.address();
        let mut connection = dialer.open(url).await?;
        let channel = [channel];
        let confirmed = ask(&mut connection, url, "SUBSCRIBE", &channel);
        match timeout(dialer.timeout(), confirmed).await {
            Ok(Ok(None)) => Ok(Self {
                connection,
                url: url.clone(),
                timeout: dialer.timeout(),
            }),
            Ok(Ok(Some(error))) => Err(match RedisError::from_reply(&address, &error) {
                RedisError::Other(text) => RedisError::Unavailable(format!(
                    "Redis at {address} does not let the channel be heard. It says: {text}"
                )),
                error => error,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RedisError::Unavailable(format!(
                "Redis at {address} did not confirm the subscription within {:?}",
                dialer.timeout()
            ))),
        }
    }

    /// The next message. An error means that the connection is of no use any more.
    ///
    /// Dropping the future before it is ready loses no message.
    pub async fn next(&mut self) -> Result<Heard, RedisError> {
        let mut asked = false;
        loop {
            // A server that is quiet is asked for a sign of life; one that then stays quiet is gone.
            let patience = if asked {
                self.timeout
            } else {
                self.timeout * 2
            };
            match timeout(patience, self.connection.next()).await {
                Ok(Ok(Reply::TooLarge)) => return Ok(Heard::TooLarge),
                Ok(Ok(Reply::Whole(reply))) => {
                    asked = false;
                    if let Some(payload) = message(&reply) {
                        return Ok(Heard::Message(payload));
                    }
                }
                Ok(Err(error)) => return Err(self.broken(&error)),
                Err(_) if asked => return Err(self.broken(&"it does not answer any more")),
                Err(_) => {
                    asked = true;
                    let ping = commands::encode("PING", &[] as &[&[u8]])?;
                    let socket = self.connection.socket();
                    let sent = async {
                        socket.write_all(&ping).await?;
                        socket.flush().await
                    };
                    match timeout(self.timeout, sent).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Err(self.broken(&error)),
                        Err(_) => return Err(self.broken(&"it takes no more data")),
                    }
                }
            }
        }
    }

    fn broken(&self, reason: &dyn std::fmt::Display) -> RedisError {
        RedisError::Unavailable(format!(
            "the subscription at Redis at {} broke: {reason}",
            self.url.address()
        ))
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Subscription").field(&self.url).finish()
    }
}

/// The payload, if this is a message: in the newer protocol a push, in the older one an array.
fn message(reply: &[u8]) -> Option<Vec<u8>> {
    let parts = match redis::parse_redis_value(reply).ok()? {
        Value::Push {
            kind: PushKind::Message,
            data,
        } => data,
        Value::Array(mut parts) if parts.len() == 3 => {
            let kind = parts.remove(0);
            if kind != Value::BulkString(b"message".to_vec()) {
                return None;
            }
            parts
        }
        _ => return None,
    };
    match parts.into_iter().nth(1)? {
        Value::BulkString(payload) => Some(payload),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_both_protocols_are_read_and_nothing_else_is() {
        for (wire, payload) in [
            ("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", Some("hi")),
            (">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", Some("hi")),
            ("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", None),
            (">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", None),
            ("*2\r\n$4\r\npong\r\n$0\r\n\r\n", None),
            ("+PONG\r\n", None),
            (">1\r\n$7\r\nmessage\r\n", None),
            ("-ERR no\r\n", None),
            (":1\r\n", None),
        ] {
            assert_eq!(
                message(wire.as_bytes()).as_deref(),
                payload.map(str::as_bytes),
                "{wire:?}"
            );
        }
    }
}
