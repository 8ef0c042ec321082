//! Redis servers: the commands that the contract names, on data in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{State, checks};
use crate::{Error, Result, redis::Value};

/// Commands that would change, block or end the connection that all share.
const DENIED: &[&str] = &[
    "ASKING",
    "AUTH",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLIENT",
    "DEBUG",
    "DISCARD",
    "EXEC",
    "HELLO",
    "HOST:",
    "MONITOR",
    "MULTI",
    "POST",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "RESET",
    "SELECT",
    "SHUTDOWN",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WAITAOF",
    "WATCH",
];

/// Refuses what cannot be sent over the connection that all share.
pub fn check_command(command: &str, arguments: &[Vec<u8>]) -> Result<()> {
    if command.is_empty() || command.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::Invalid(format!(
            "a Redis command is one word, and {command:?} is not: what follows the first word are arguments"
        )));
    }
    let name = command.to_ascii_uppercase();
    let mut options = arguments.iter().map(|word| word.to_ascii_uppercase());
    let denied = match name.as_str() {
        "XREAD" | "XREADGROUP" => options
            .take_while(|word| word != b"STREAMS")
            .any(|word| word == b"BLOCK"),
        "SCRIPT" => options.next().as_deref() == Some(b"DEBUG"),
        name => DENIED.contains(&name),
    };
    if denied {
        return Err(Error::Denied(format!(
            "the Redis command {name} is not allowed: it would change, block or end the connection that others share"
        )));
    }
    Ok(())
}

/// Where a client's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// `host:port`.
    pub server: String,
    database: u32,
}

impl RedisAddress {
    pub fn parse(url: &str) -> Result<Self> {
        // Not the URL itself: it may hold a password.
        let invalid = |what: &str| Error::Invalid(format!("the Redis URL is malformed: {what}"));
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        if !["redis", "rediss"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err(invalid("it must start with redis:// or rediss://"));
        }
        if rest.contains(['#', '?']) {
            return Err(invalid("it must not have a `#` or `?` part"));
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let address = authority
            .rsplit_once('@')
            .map_or(authority, |(_, address)| address)
            .to_ascii_lowercase();
        let (host, port) = checks::split_port(&address);
        if !host.is_ascii() || !checks::is_host(host) {
            return Err(invalid("it names no host"));
        }
        let port = checks::number(port.unwrap_or("6379"), 1..=65535)
            .ok_or_else(|| invalid("the port is not a number from 1 to 65535"))?;
        let database = match database {
            "" => 0,
            text => checks::number(text, 0..=u32::MAX)
                .ok_or_else(|| invalid("the database is not a number"))?,
        };
        Ok(Self {
            server: format!("{host}:{port}"),
            database,
        })
    }
}

/// A server.
#[derive(Default)]
pub struct Server {
    pub unreachable: bool,
    databases: BTreeMap<u32, BTreeMap<String, Entry>>,
}

struct Entry {
    data: Data,
    expires_at: Option<Duration>,
}

enum Data {
    Bytes(Vec<u8>),
    Set(BTreeSet<Vec<u8>>),
}

/// What a client may do now.
pub struct Session<'a> {
    keys: &'a mut BTreeMap<String, Entry>,
    answers: &'a BTreeMap<String, Value>,
    published: &'a mut Vec<(String, Vec<u8>)>,
    now: Duration,
}

impl State {
    pub fn redis(&mut self, address: &RedisAddress) -> Result<Session<'_>> {
        let name = &address.server;
        let server = self.redis_servers.get_mut(name).ok_or_else(|| {
            Error::Denied(format!(
                "the app was not granted Redis at {name}; in a test, `Host::grant_redis` grants it"
            ))
        })?;
        if server.unreachable {
            return Err(Error::Unavailable(format!(
                "Redis at {name} cannot be reached"
            )));
        }
        let keys = server.databases.entry(address.database).or_default();
        keys.retain(|_, entry| entry.expires_at.is_none_or(|at| at > self.now));
        Ok(Session {
            keys,
            answers: &self.redis_answers,
            published: &mut self.redis_published,
            now: self.now,
        })
    }
}

impl Session<'_> {
    pub fn execute(&mut self, command: &str, arguments: &[Vec<u8>]) -> Result<Value> {
        let command = command.to_ascii_uppercase();
        if let Some(answer) = self.answers.get(&command) {
            return Ok(answer.clone());
        }
        let count = |count: u64| Value::Integer(count as i64);
        let texts: Vec<String> = arguments
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        Ok(match (command.as_str(), texts.as_slice()) {
            ("PING", []) => Value::Status("PONG".to_owned()),
            ("GET", [key]) => self.get(key)?.map_or(Value::Nil, Value::Bytes),
            ("SET", [key, _]) => {
                self.set(key, &arguments[1], None)?;
                Value::Status("OK".to_owned())
            }
            ("INCR", [key]) => Value::Integer(self.incr(key, 1)?),
            ("INCRBY", [key, by]) => {
                Value::Integer(self.incr(key, by.parse().map_err(|_| not_an_integer())?)?)
            }
            ("DEL", keys @ [_, ..]) => count(self.del(keys)),
            ("EXISTS", [key]) => count(self.exists(key).into()),
            ("PEXPIRE", [key, time]) => count(
                self.expire(key, time.parse().map_err(|_| not_an_integer())?)?
                    .into(),
            ),
            ("PUBLISH", [channel, _]) => count(self.publish(channel, &arguments[1])),
            ("SADD", [key, _, ..]) => count(self.sadd(key, &arguments[1..])?),
            ("SREM", [key, _, ..]) => count(self.srem(key, &arguments[1..])?),
            ("SCARD", [key]) => count(self.smembers(key)?.len() as u64),
            ("SMEMBERS", [key]) => {
                Value::Array(self.smembers(key)?.into_iter().map(Value::Bytes).collect())
            }
            _ => {
                return Err(Error::Other(format!(
                    "ERR the Redis of a test does not know {command} with {} arguments; `Host::answer_redis` can teach it",
                    arguments.len()
                )));
            }
        })
    }

    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Entry {
                data: Data::Bytes(bytes),
                ..
            }) => Ok(Some(bytes.clone())),
            Some(_) => Err(wrong_type()),
        }
    }

    pub fn set(&mut self, key: &str, value: &[u8], expires_in: Option<u64>) -> Result<()> {
        let expires_at = expires_in
            .map(|expires_in| self.expiry(expires_in))
            .transpose()?;
        self.keys.insert(
            key.to_owned(),
            Entry {
                data: Data::Bytes(value.to_owned()),
                expires_at,
            },
        );
        Ok(())
    }

    pub fn incr(&mut self, key: &str, by: i64) -> Result<i64> {
        let old = match self.get(key)? {
            None => 0,
            Some(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(not_an_integer)?,
        };
        let sum = i64::checked_add(old, by).ok_or("ERR increment or decrement would overflow")?;
        let expires_at = self.keys.get(key).and_then(|entry| entry.expires_at);
        self.keys.insert(
            key.to_owned(),
            Entry {
                data: Data::Bytes(sum.to_string().into_bytes()),
                expires_at,
            },
        );
        Ok(sum)
    }

    pub fn del(&mut self, keys: &[String]) -> u64 {
        keys.iter()
            .filter(|key| self.keys.remove(*key).is_some())
            .count() as u64
    }

    pub fn exists(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub fn expire(&mut self, key: &str, expires_in: u64) -> Result<bool> {
        let expires_at = self.expiry(expires_in)?;
        let entry = self.keys.get_mut(key);
        Ok(entry
            .map(|entry| entry.expires_at = Some(expires_at))
            .is_some())
    }

    pub fn publish(&mut self, channel: &str, payload: &[u8]) -> u64 {
        self.published
            .push((channel.to_owned(), payload.to_owned()));
        0
    }

    pub fn sadd(&mut self, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        if members.is_empty() {
            return Ok(0);
        }
        let new = || Entry {
            data: Data::Set(BTreeSet::new()),
            expires_at: None,
        };
        match &mut self.keys.entry(key.to_owned()).or_insert_with(new).data {
            Data::Set(set) => Ok(members
                .iter()
                .filter(|member| set.insert(member.to_vec()))
                .count() as u64),
            Data::Bytes(_) => Err(wrong_type()),
        }
    }

    pub fn srem(&mut self, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        let Some(entry) = self.keys.get_mut(key).filter(|_| !members.is_empty()) else {
            return Ok(0);
        };
        let Data::Set(set) = &mut entry.data else {
            return Err(wrong_type());
        };
        let removed = members.iter().filter(|member| set.remove(*member)).count() as u64;
        if set.is_empty() {
            self.keys.remove(key);
        }
        Ok(removed)
    }

    pub fn smembers(&mut self, key: &str) -> Result<Vec<Vec<u8>>> {
        match self.keys.get(key) {
            None => Ok(Vec::new()),
            Some(Entry {
                data: Data::Set(set),
                ..
            }) => Ok(set.iter().cloned().collect()),
            Some(_) => Err(wrong_type()),
        }
    }

    fn expiry(&self, expires_in: u64) -> Result<Duration> {
        if expires_in == 0 {
            return Err(Error::Invalid(
                "a key expires in at least 1 millisecond; to remove it at once, use `del`"
                    .to_owned(),
            ));
        }
        Ok(self.now.saturating_add(Duration::from_millis(expires_in)))
    }
}

fn wrong_type() -> Error {
    Error::from("WRONGTYPE Operation against a key holding the wrong kind of value")
}

fn not_an_integer() -> Error {
    Error::from("ERR value is not an integer or out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let address =
            |url| RedisAddress::parse(url).map(|address| (address.server, address.database));
        assert_eq!(
            address("redis://localhost"),
            Ok(("localhost:6379".into(), 0))
        );
        assert_eq!(
            address("rediss://ada:se@cret@redis.example:7000/3"),
            Ok(("redis.example:7000".into(), 3))
        );
        assert_eq!(
            address("redis://:secret@[::1]"),
            Ok(("[::1]:6379".into(), 0))
        );
        assert_eq!(address("REDIS://Example"), Ok(("example:6379".into(), 0)));
        assert_eq!(address("redis://[::1]:7000"), Ok(("[::1]:7000".into(), 0)));
        for url in [
            "",
            "localhost",
            "http://localhost",
            "redis://",
            "redis://h:0x10",
            "redis://h:70000",
            "redis://h/x",
            "redis://h/+1",
            "redis://h:0",
            "redis://h?x=1",
            "redis://h_/ ",
            "redis://a b",
        ] {
            assert!(matches!(address(url), Err(Error::Invalid(_))), "{url}");
        }
        let error = address("redis://user:hunter2@host:port").unwrap_err();
        assert!(!error.message().contains("hunter2"));
    }
}
