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

use std::{fmt, marker::PhantomData, time::Duration};

pub(crate) use value::Part;
pub use value::Value;

use crate::{
    Error, Result,
    flavour::{Asynchronous, Blocking, in_both_flavours},
    sys,
    time::millis,
};

/// A handle to the host's connection to a Redis server. The host keeps one for each URL and reconnects by itself,
/// so a handle costs nothing to make.
pub struct Redis<F> {
    sys: sys::Redis,
    flavour: PhantomData<F>,
}

impl<F> Redis<F> {
    /// The address, `host:port`, without user and password.
    pub fn address(&self) -> String {
        self.sys.address()
    }

    pub(crate) fn from_sys(client: sys::Redis) -> Self {
        Self {
            sys: client,
            flavour: PhantomData,
        }
    }

    pub(crate) fn sys(&self) -> &sys::Redis {
        &self.sys
    }
}

macro_rules! waiting {
    ($flavour:ident, $sys:ident, [$($async:tt)*], [$($await:tt)*]) => {
        impl Redis<$flavour> {
            /// Connects to `redis://[user][:password@]host[:port][/database]`, or to `rediss://…` for TLS.
            ///
            /// Errors: [`Invalid`](Error::Invalid) for a malformed URL; [`Denied`](Error::Denied) for an address that
            /// the app was not granted, naming the grant, and for a wrong user or password;
            /// [`Unavailable`](Error::Unavailable) where the server cannot be reached.
            pub $($async)* fn connect(url: &str) -> Result<Self> {
                sys::$sys::redis::connect(url) $($await)* .map(Self::from_sys)
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
            /// (SUBSCRIBE, MULTI, WATCH, SELECT, AUTH, BLPOP, MONITOR and their like); [`Other`](Error::Other) also for
            /// an answer nested deeper than 128 arrays.
            pub $($async)* fn execute<A: AsRef<[u8]>>(&self, command: &str, arguments: &[A]) -> Result<Value> {
                Value::from_parts(sys::$sys::redis::execute(&self.sys, command, &bytes(arguments)) $($await)* ?)
            }

            /// The value under a key; `None` where there is none.
            pub $($async)* fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
                sys::$sys::redis::get(&self.sys, key) $($await)*
            }

            /// The value under a key as a text; [`WrongType`](Error::WrongType) where it is not UTF-8.
            pub $($async)* fn get_text(&self, key: &str) -> Result<Option<String>> {
                let not_text = |_| {
                    Error::WrongType(format!(
                        "a text was asked for; the value of the key `{key}` is not UTF-8"
                    ))
                };
                self.get(key) $($await)* ?
                    .map(|value| String::from_utf8(value).map_err(not_text))
                    .transpose()
            }

            /// Sets a key, for ever.
            pub $($async)* fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
                sys::$sys::redis::set(&self.sys, key, value.as_ref(), None) $($await)*
            }

            /// Sets a key for some time, at least a millisecond.
            pub $($async)* fn set_for(&self, key: &str, value: impl AsRef<[u8]>, lifetime: Duration) -> Result<()> {
                sys::$sys::redis::set(&self.sys, key, value.as_ref(), Some(millis(lifetime))) $($await)*
            }

            /// Adds to the number under a key and returns the sum; a key that does not exist counts as 0.
            pub $($async)* fn incr(&self, key: &str, by: i64) -> Result<i64> {
                sys::$sys::redis::incr(&self.sys, key, by) $($await)*
            }

            /// Removes keys and returns how many there were.
            pub $($async)* fn del<K: AsRef<str>>(&self, keys: &[K]) -> Result<u64> {
                let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
                sys::$sys::redis::del(&self.sys, &keys) $($await)*
            }

            /// Whether a key exists.
            pub $($async)* fn exists(&self, key: &str) -> Result<bool> {
                sys::$sys::redis::exists(&self.sys, key) $($await)*
            }

            /// Lets a key expire after some time, at least a millisecond; false where there is no such key.
            pub $($async)* fn expire(&self, key: &str, lifetime: Duration) -> Result<bool> {
                sys::$sys::redis::expire(&self.sys, key, millis(lifetime)) $($await)*
            }

            /// Publishes on a Redis channel, for programs that listen there, and returns how many did. Event streams do
            /// not: they hear what goes through a [`Publisher`](crate::Publisher).
            pub $($async)* fn publish(&self, channel: &str, payload: impl AsRef<[u8]>) -> Result<u64> {
                sys::$sys::redis::publish(&self.sys, channel, payload.as_ref()) $($await)*
            }

            /// Adds members to a set and returns how many are new.
            pub $($async)* fn sadd<M: AsRef<[u8]>>(&self, key: &str, members: &[M]) -> Result<u64> {
                sys::$sys::redis::sadd(&self.sys, key, &bytes(members)) $($await)*
            }

            /// Removes members from a set and returns how many there were.
            pub $($async)* fn srem<M: AsRef<[u8]>>(&self, key: &str, members: &[M]) -> Result<u64> {
                sys::$sys::redis::srem(&self.sys, key, &bytes(members)) $($await)*
            }

            /// The members of a set, in no particular order.
            pub $($async)* fn smembers(&self, key: &str) -> Result<Vec<Vec<u8>>> {
                sys::$sys::redis::smembers(&self.sys, key) $($await)*
            }
        }
    };
}

in_both_flavours!(waiting);

impl<F> fmt::Debug for Redis<F> {
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
