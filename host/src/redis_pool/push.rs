//! A connection that hears Redis channels.
//!
//! It is read by whoever wants the messages, as fast as they are taken and no faster: what cannot be taken now
//! waits in the socket and then in Redis, which bounds it, and not in the memory of this node.

use std::{fmt, sync::Arc, time::Duration};

use redis::{PushKind, Value};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout, timeout_at},
};

use super::{
    RedisError, RedisUrl, commands,
    dial::{Connection, Dialer},
    replies::Reply,
};

/// Channels that are named in one command.
const NAMES: usize = 1000;

/// A connection that hears Redis channels.
pub struct Push {
    connection: Connection,
    url: RedisUrl,
    timeout: Duration,
    /// When it was heard, or asked for a sign of life, for the last time.
    since: Instant,
    /// The server was asked for a sign of life and has given none yet.
    asked: bool,
}

/// What such a connection hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What somebody published on a channel.
    Message {
        /// The channel.
        channel: Vec<u8>,
        /// What was published.
        payload: Vec<u8>,
    },
    /// It hears this channel from now on.
    Subscribed(Vec<u8>),
    /// It hears this channel no longer: as it was asked, or because the channel is another server's now.
    Unsubscribed(Vec<u8>),
    /// Somebody published more than is taken.
    TooLarge,
    /// The server refuses what it was asked. It says why.
    Refused(String),
}

impl Push {
    pub(super) async fn open(dialer: &Arc<Dialer>, url: &RedisUrl) -> Result<Self, RedisError> {
        Ok(Self {
            connection: dialer.open(url).await?,
            url: url.clone(),
            timeout: dialer.timeout(),
            since: Instant::now(),
            asked: false,
        })
    }

    /// Asks to hear channels. Each is confirmed by [`Heard::Subscribed`].
    pub async fn subscribe(&mut self, channels: &[String]) -> Result<(), RedisError> {
        let sharded = self.url.servers().are_cluster();
        let command = if sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" };
        self.send(command, channels).await
    }

    /// Asks to hear channels no longer.
    pub async fn unsubscribe(&mut self, channels: &[String]) -> Result<(), RedisError> {
        let sharded = self.url.servers().are_cluster();
        let command = if sharded {
            "SUNSUBSCRIBE"
        } else {
            "UNSUBSCRIBE"
        };
        self.send(command, channels).await
    }

    /// The next thing that it hears. An error means that the connection is of no use any more.
    ///
    /// Dropping the future before it is ready loses nothing.
    pub async fn next(&mut self) -> Result<Heard, RedisError> {
        loop {
            // A server that is quiet is asked for a sign of life; one that then stays quiet is gone.
            let patience = if self.asked {
                self.timeout
            } else {
                self.timeout * 2
            };
            // By the clock and not from now on: whoever calls this may drop the future again and again.
            match timeout_at(self.since + patience, self.connection.next()).await {
                Ok(Ok(reply)) => {
                    self.since = Instant::now();
                    self.asked = false;
                    match reply {
                        Reply::TooLarge => return Ok(Heard::TooLarge),
                        Reply::Whole(reply) => match heard(&reply) {
                            Some(heard) => return Ok(heard),
                            None => continue,
                        },
                    }
                }
                Ok(Err(error)) => return Err(self.broken(&error)),
                Err(_) if self.asked => return Err(self.broken(&"it does not answer any more")),
                Err(_) => {
                    self.asked = true;
                    self.since = Instant::now();
                    self.send("PING", &[]).await?;
                }
            }
        }
    }

    async fn send(&mut self, command: &str, arguments: &[String]) -> Result<(), RedisError> {
        let mut bytes = Vec::new();
        if arguments.is_empty() {
            bytes = commands::encode(command, arguments)?;
        }
        for arguments in arguments.chunks(NAMES) {
            bytes.extend(commands::encode(command, arguments)?);
        }
        let socket = self.connection.socket();
        let sent = async {
            socket.write_all(&bytes).await?;
            socket.flush().await
        };
        match timeout(self.timeout, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(self.broken(&"it takes no more data")),
        }
    }

    fn broken(&self, reason: &dyn fmt::Display) -> RedisError {
        RedisError::Unavailable(format!(
            "the subscription at Redis at {} broke: {reason}",
            self.url.place()
        ))
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Push").field(&self.url).finish()
    }
}

/// What a reply says: in the newer protocol such things are pushes, in the older one arrays.
fn heard(reply: &[u8]) -> Option<Heard> {
    if let Some(line) = reply.strip_prefix(b"-") {
        return Some(Heard::Refused(
            String::from_utf8_lossy(line).trim_end().to_owned(),
        ));
    }
    let (kind, mut parts) = match redis::parse_redis_value(reply).ok()? {
        Value::Push { kind, data } => (kind, data.into_iter()),
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            let kind = match bytes(parts.next())?.as_slice() {
                b"message" => PushKind::Message,
                b"subscribe" => PushKind::Subscribe,
                b"unsubscribe" => PushKind::Unsubscribe,
                _ => return None,
            };
            (kind, parts)
        }
        _ => return None,
    };
    let channel = bytes(parts.next())?;
    match kind {
        PushKind::Message | PushKind::SMessage => Some(Heard::Message {
            channel,
            payload: bytes(parts.next())?,
        }),
        PushKind::Subscribe | PushKind::SSubscribe => Some(Heard::Subscribed(channel)),
        PushKind::Unsubscribe | PushKind::SUnsubscribe => Some(Heard::Unsubscribed(channel)),
        _ => None,
    }
}

fn bytes(value: Option<Value>) -> Option<Vec<u8>> {
    match value? {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_protocols_say_is_read_and_nothing_else_is() {
        let message = || {
            Some(Heard::Message {
                channel: b"c".to_vec(),
                payload: b"hi".to_vec(),
            })
        };
        let subscribed = || Some(Heard::Subscribed(b"c".to_vec()));
        for (wire, expected) in [
            ("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", message()),
            (">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", message()),
            ("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", subscribed()),
            (">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", subscribed()),
            (
                ">3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:1\r\n",
                Some(Heard::Unsubscribed(b"c".to_vec())),
            ),
            (">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", message()),
            ("*2\r\n$4\r\npong\r\n$0\r\n\r\n", None),
            ("+PONG\r\n", None),
            (">1\r\n$7\r\nmessage\r\n", None),
            ("-ERR no\r\n", Some(Heard::Refused("ERR no".into()))),
            (":1\r\n", None),
        ] {
            assert_eq!(heard(wire.as_bytes()), expected, "{wire:?}");
        }
    }
}
