//! Redis for handlers.
//!
//! ```
//! use std::time::Duration;
//! use fanfare_guest::{Redis, testing::Host};
//!
//! let host = Host::new();
//! host.grant_redis("redis.example:6379");
//! host.run(|| {
//!     let redis = Redis::connect("redis://redis.example")?;
//!     redis.set("greeting", "hello")?;
//!     redis.set_for("token", [1, 2, 3], Duration::from_secs(60))?;
//!     assert_eq!(redis.get_text("greeting")?.as_deref(), Some("hello"));
//!     assert_eq!(redis.incr("visits", 1)?, 1);
//!     Ok::<(), fanfare_guest::Error>(())
//! })?;
//! # Ok::<(), fanfare_guest::Error>(())
//! ```
//!
//! Every function waits for the server, at most the host's `redis.timeout`, and answers
//! [`Unavailable`](crate::Error::Unavailable) past it or while the server cannot be reached. An error that Redis
//! answers is [`Other`](crate::Error::Other) and carries its text, but for refused credentials and permissions,
//! which are [`Denied`](crate::Error::Denied).

mod value;

use std::{fmt, time::Duration};

pub(crate) use value::Part;
pub use value::Value;

use crate::{Error, Result, sys, time::millis};

/// A handle to the host's connection to a Redis server. The host keeps one for each URL and reconnects by itself,
/// so a handle costs nothing to make.
pub struct Redis(sys::Redis);

impl Redis {
    /// Connects to `redis://[user][:password@]host[:port][/database]`, or to `rediss://…` for TLS.
    ///
    /// Errors: [`Invalid`](Error::Invalid) for a malformed URL; [`Denied`](Error::Denied) for an address that the
    /// app was not granted, naming the grant, and for a wrong user or password;
    /// [`Unavailable`](Error::Unavailable) where the server cannot be reached.
    pub fn connect(url: &str) -> Result<Self> {
        sys::Redis::connect(url).map(Self)
    }

    /// The address, `host:port`, without user and password.
    pub fn address(&self) -> String {
        self.0.address()
    }

    /// Sends any command.
    ///
    /// ```
    /// # use fanfare_guest::{Redis, redis::Value, testing::Host};
    /// # let host = Host::new();
    /// # host.grant_redis("localhost:6379").answer_redis("LRANGE", Value::Array(vec![Value::Bytes(b"a".to_vec())]));
    /// # host.run(|| {
    /// # let redis = Redis::connect("redis://localhost")?;
    /// let latest = redis.execute("LRANGE", &["log", "0", "9"])?;
    /// for line in latest.as_array().unwrap_or_default() {
    ///     println!("{}", line.as_str().unwrap_or_default());
    /// }
    /// redis.execute("PING", &[""; 0])?; // a command without arguments
    /// # Ok::<(), fanfare_guest::Error>(()) })?;
    /// # Ok::<(), fanfare_guest::Error>(())
    /// ```
    ///
    /// Errors: [`Denied`](Error::Denied) for commands that would change or block the shared connection
    /// (SUBSCRIBE, MULTI, WATCH, SELECT, AUTH, BLPOP, MONITOR and their like); [`Other`](Error::Other) also for an
    /// answer nested deeper than 128 arrays.
    pub fn execute<A: AsRef<[u8]>>(&self, command: &str, arguments: &[A]) -> Result<Value> {
        Value::from_parts(self.0.execute(command, &bytes(arguments))?)
    }

    /// The value under a key; `None` where there is none.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.get(key)
    }

    /// The value under a key as a text; [`WrongType`](Error::WrongType) where it is not UTF-8.
    pub fn get_text(&self, key: &str) -> Result<Option<String>> {
        let not_text = |_| {
            Error::WrongType(format!(
                "a text was asked for; the value of the key `{key}` is not UTF-8"
            ))
        };
        self.get(key)?
            .map(|value| String::from_utf8(value).map_err(not_text))
            .transpose()
    }

    /// Sets a key, for ever.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.0.set(key, value.as_ref(), None)
    }

    /// Sets a key for some time, at least a millisecond.
    pub fn set_for(&self, key: &str, value: impl AsRef<[u8]>, lifetime: Duration) -> Result<()> {
        self.0.set(key, value.as_ref(), Some(millis(lifetime)))
    }

    /// Adds to the number under a key and returns the sum; a key that does not exist counts as 0.
    pub fn incr(&self, key: &str, by: i64) -> Result<i64> {
        self.0.incr(key, by)
    }

    /// Removes keys and returns how many there were.
    pub fn del<K: AsRef<str>>(&self, keys: &[K]) -> Result<u64> {
        let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
        self.0.del(&keys)
    }

    /// Whether a key exists.
    pub fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key)
    }

    /// Lets a key expire after some time, at least a millisecond; false where there is no such key.
    pub fn expire(&self, key: &str, lifetime: Duration) -> Result<bool> {
        self.0.expire(key, millis(lifetime))
    }

    /// Publishes on a Redis channel, for programs that listen there, and returns how many did. Event streams do
    /// not: they hear what goes through a [`Publisher`](crate::Publisher).
    pub fn publish(&self, channel: &str, payload: impl AsRef<[u8]>) -> Result<u64> {
        self.0.publish(channel, payload.as_ref())
    }

    /// Adds members to a set and returns how many are new.
    pub fn sadd<M: AsRef<[u8]>>(&self, key: &str, members: &[M]) -> Result<u64> {
        self.0.sadd(key, &bytes(members))
    }

    /// Removes members from a set and returns how many there were.
    pub fn srem<M: AsRef<[u8]>>(&self, key: &str, members: &[M]) -> Result<u64> {
        self.0.srem(key, &bytes(members))
    }

    /// The members of a set, in no particular order.
    pub fn smembers(&self, key: &str) -> Result<Vec<Vec<u8>>> {
        self.0.smembers(key)
    }

    pub(crate) fn from_sys(client: sys::Redis) -> Self {
        Self(client)
    }

    pub(crate) fn sys(&self) -> &sys::Redis {
        &self.0
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.address()).finish()
    }
}

fn bytes<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<Vec<u8>> {
    arguments
        .iter()
        .map(|argument| argument.as_ref().to_vec())
        .collect()
}
