//! What a guest, or a broker, holds of a pooled connection.

use std::{fmt, sync::Arc, time::Duration};

use redis::Value;
use tokio::runtime::Handle;

use super::{RedisError, RedisUrl, commands, link::Link, push::Push, script::Script, value};

/// A handle to a pooled connection. Clones, and handles of the same URL, share the connection.
#[derive(Clone)]
pub struct RedisClient {
    link: Arc<Link>,
}

impl RedisClient {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Where it is connected to.
    pub fn url(&self) -> &RedisUrl {
        self.link.url()
    }

    /// How long a command may take.
    pub fn timeout(&self) -> Duration {
        self.link.dialer().timeout()
    }

    /// Why commands would fail now, if they would.
    pub fn check_up(&self) -> Result<(), RedisError> {
        self.link.up().map(|_| ())
    }

    /// Sends any command but those that would change or block the shared connection.
    pub async fn execute(
        &self,
        command: &str,
        arguments: Vec<Vec<u8>>,
    ) -> Result<Value, RedisError> {
        commands::check(command, &arguments)?;
        self.call(command, &arguments).await
    }

    /// The value under a key.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RedisError> {
        match self.call("GET", &[key]).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            other => Err(self.unexpected("GET", &other)),
        }
    }

    /// Sets a key, for so many milliseconds or for ever.
    pub async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        expires_in: Option<u64>,
    ) -> Result<(), RedisError> {
        let mut arguments = vec![key.as_bytes().to_vec(), value];
        if let Some(milliseconds) = expires_in {
            arguments.extend([b"PX".to_vec(), expiry(milliseconds)?.into_bytes()]);
        }
        self.call("SET", &arguments).await.map(|_| ())
    }

    /// Adds to the number under a key and returns the sum.
    pub async fn incr(&self, key: &str, by: i64) -> Result<i64, RedisError> {
        let by = by.to_string();
        match self.call("INCRBY", &[key, &by]).await? {
            Value::Int(sum) => Ok(sum),
            other => Err(self.unexpected("INCRBY", &other)),
        }
    }

    /// Removes keys and returns how many there were.
    pub async fn del(&self, keys: Vec<String>) -> Result<u64, RedisError> {
        if keys.is_empty() {
            return Ok(0);
        }
        self.count("DEL", &keys).await
    }

    /// Whether a key exists.
    pub async fn exists(&self, key: &str) -> Result<bool, RedisError> {
        Ok(self.count("EXISTS", &[key]).await? > 0)
    }

    /// Lets a key expire in so many milliseconds; false where there is no such key.
    pub async fn expire(&self, key: &str, expires_in: u64) -> Result<bool, RedisError> {
        let expires_in = expiry(expires_in)?;
        Ok(self.count("PEXPIRE", &[key, &expires_in]).await? > 0)
    }

    /// Publishes on a Redis channel and returns how many listened.
    pub async fn publish(&self, channel: &str, payload: Vec<u8>) -> Result<u64, RedisError> {
        self.count("PUBLISH", &[channel.as_bytes(), &payload]).await
    }

    /// Adds members to a set and returns how many are new.
    pub async fn sadd(&self, key: &str, members: Vec<Vec<u8>>) -> Result<u64, RedisError> {
        self.members("SADD", key, members).await
    }

    /// Removes members from a set and returns how many there were.
    pub async fn srem(&self, key: &str, members: Vec<Vec<u8>>) -> Result<u64, RedisError> {
        self.members("SREM", key, members).await
    }

    /// The members of a set, in no particular order.
    pub async fn smembers(&self, key: &str) -> Result<Vec<Vec<u8>>, RedisError> {
        let answer = self.call("SMEMBERS", &[key]).await?;
        let (Value::Array(members) | Value::Set(members)) = answer else {
            return Err(self.unexpected("SMEMBERS", &answer));
        };
        let bytes = |member| match member {
            Value::BulkString(bytes) => Ok(bytes),
            other => Err(self.unexpected("SMEMBERS", &other)),
        };
        members.into_iter().map(bytes).collect()
    }

    /// Where the node's connections to Redis live, and what reads them should.
    pub fn runtime(&self) -> &Handle {
        self.link.dialer().runtime()
    }

    /// The number of the connection, which is another one whenever it was made anew, or why there is none now.
    pub fn connection(&self) -> Result<u64, RedisError> {
        self.link.up().map(|line| line.number())
    }

    /// Runs a script over the connection of this number, and over no other.
    pub async fn run(
        &self,
        connection: u64,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        let count = keys.len().to_string();
        let words = |name: &'static str, script: &'_ [u8]| {
            let mut words: Vec<&[u8]> = Vec::with_capacity(2 + keys.len() + arguments.len());
            words.extend([script, count.as_bytes()]);
            words.extend(keys);
            words.extend(arguments);
            commands::encode(name, &words)
        };
        let call = |words| self.link.call_over(connection, words);
        let reply = call(words("EVALSHA", script.digest())?).await?;
        match value::parse(&self.url().place(), &reply) {
            // The server is new, or has forgotten its scripts. The text itself makes it known again.
            Err(RedisError::Other(error)) if error.starts_with("NOSCRIPT") => {
                let reply = call(words("EVAL", script.text())?).await?;
                value::parse(&self.url().place(), &reply)
            }
            answer => answer,
        }
    }

    /// Opens a connection of its own, with the same URL, that hears Redis channels.
    pub async fn push(&self) -> Result<Push, RedisError> {
        let (dialer, url) = (self.link.dialer().clone(), self.url().clone());
        let opened = self
            .runtime()
            .spawn(async move { Push::open(&dialer, &url).await });
        opened.await.unwrap_or_else(|error| {
            let address = self.url().place();
            Err(RedisError::Unavailable(format!(
                "Redis at {address}: {error}"
            )))
        })
    }

    async fn members(
        &self,
        command: &str,
        key: &str,
        members: Vec<Vec<u8>>,
    ) -> Result<u64, RedisError> {
        if members.is_empty() {
            return Ok(0);
        }
        let arguments: Vec<_> = std::iter::once(key.as_bytes().to_vec())
            .chain(members)
            .collect();
        self.count(command, &arguments).await
    }

    async fn count(
        &self,
        command: &str,
        arguments: &[impl AsRef<[u8]>],
    ) -> Result<u64, RedisError> {
        match self.call(command, arguments).await? {
            Value::Int(count) if count >= 0 => Ok(count.unsigned_abs()),
            other => Err(self.unexpected(command, &other)),
        }
    }

    async fn call(
        &self,
        command: &str,
        arguments: &[impl AsRef<[u8]>],
    ) -> Result<Value, RedisError> {
        let reply = self
            .link
            .call(commands::encode(command, arguments)?)
            .await?;
        value::parse(&self.url().place(), &reply)
    }

    fn unexpected(&self, command: &str, answer: &Value) -> RedisError {
        let kind = match answer {
            Value::Nil => "nothing",
            Value::Int(_) => "a number",
            Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
            Value::Array(_) | Value::Set(_) | Value::Map(_) => "an array",
            _ => "a value of another kind",
        };
        RedisError::Other(format!(
            "Redis at {} answered {command} with {kind}, which is no answer to it",
            self.url().place()
        ))
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisClient").field(self.url()).finish()
    }
}

fn expiry(milliseconds: u64) -> Result<String, RedisError> {
    if milliseconds == 0 {
        return Err(RedisError::Invalid(
            "a key expires in at least 1 millisecond; to remove it at once, use `del`".into(),
        ));
    }
    Ok(milliseconds.to_string())
}
