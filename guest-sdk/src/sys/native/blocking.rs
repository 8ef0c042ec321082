//! What waits, in the blocking flavour: the clock moves on until there is an answer.

use std::time::Duration;

use super::Connection;
use crate::{CloseReason, testing::fake::Fake};

pub fn sleep(duration: Duration) {
    Fake::current().advance(duration);
}

pub fn closed(connection: &Connection, within: Option<u64>) -> Option<CloseReason> {
    let within = within.map(Duration::from_millis);
    let end = || connection.fake.state().stream(connection.index).end;
    connection.fake.advance_until(within, end)
}

pub mod publishing {
    use super::super::{Connection, Publisher};
    use crate::{Event, Message, Receipt, Result};

    pub fn start(publisher: &Publisher) -> Result<()> {
        publisher.fake.state().start(publisher.index)
    }

    pub fn register(publisher: &Publisher, connection: &Connection, channel: &str) -> Result<()> {
        publisher
            .fake
            .state()
            .register(publisher.index, connection.index, channel)
    }

    pub fn publish(publisher: &Publisher, channel: &str, message: Message) -> Result<Receipt> {
        publisher
            .fake
            .state()
            .publish(publisher.index, channel, message)
    }

    pub fn remove(publisher: &Publisher, connection_id: &str, channel: &str) -> Result<()> {
        publisher
            .fake
            .state()
            .remove(publisher.index, connection_id, channel)
    }

    pub fn subscribers(publisher: &Publisher, channel: &str) -> Result<u64> {
        publisher.fake.state().subscribers(publisher.index, channel)
    }

    pub fn presence(publisher: &Publisher, channel: &str) -> Result<Vec<String>> {
        publisher.fake.state().presence(publisher.index, channel)
    }

    pub fn history(publisher: &Publisher, channel: &str, limit: u32) -> Result<Vec<Event>> {
        publisher
            .fake
            .state()
            .history(publisher.index, channel, limit)
    }
}

pub mod redis {
    use super::super::Redis;
    use crate::{Result, redis::Part, testing::fake::check_command};

    pub fn connect(url: &str) -> Result<Redis> {
        Redis::connect(url)
    }

    pub fn execute(redis: &Redis, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Part>> {
        check_command(command, arguments)?;
        Ok(redis
            .fake
            .state()
            .redis(&redis.address)?
            .execute(command, arguments)?
            .into_parts())
    }

    pub fn get(redis: &Redis, key: &str) -> Result<Option<Vec<u8>>> {
        redis.fake.state().redis(&redis.address)?.get(key)
    }

    pub fn set(redis: &Redis, key: &str, value: &[u8], expires_in: Option<u64>) -> Result<()> {
        redis
            .fake
            .state()
            .redis(&redis.address)?
            .set(key, value, expires_in)
    }

    pub fn incr(redis: &Redis, key: &str, by: i64) -> Result<i64> {
        redis.fake.state().redis(&redis.address)?.incr(key, by)
    }

    pub fn del(redis: &Redis, keys: &[String]) -> Result<u64> {
        Ok(redis.fake.state().redis(&redis.address)?.del(keys))
    }

    pub fn exists(redis: &Redis, key: &str) -> Result<bool> {
        Ok(redis.fake.state().redis(&redis.address)?.exists(key))
    }

    pub fn expire(redis: &Redis, key: &str, expires_in: u64) -> Result<bool> {
        redis
            .fake
            .state()
            .redis(&redis.address)?
            .expire(key, expires_in)
    }

    pub fn publish(redis: &Redis, channel: &str, payload: &[u8]) -> Result<u64> {
        Ok(redis
            .fake
            .state()
            .redis(&redis.address)?
            .publish(channel, payload))
    }

    pub fn sadd(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        redis.fake.state().redis(&redis.address)?.sadd(key, members)
    }

    pub fn srem(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        redis.fake.state().redis(&redis.address)?.srem(key, members)
    }

    pub fn smembers(redis: &Redis, key: &str) -> Result<Vec<Vec<u8>>> {
        redis.fake.state().redis(&redis.address)?.smembers(key)
    }
}
