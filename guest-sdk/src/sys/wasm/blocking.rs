//! The worlds `app`, `disconnect-hooks` and `occupancy-hooks`.

use std::{marker::PhantomData, time::Duration};

use super::{
    Connection, Publisher, Request,
    bindings::{
        exports::fanfare::sse as exports,
        fanfare::sse::{
            closing, connections as wit_connections, errors as wit_errors,
            publishers as wit_publishers, publishing as wit_publishing, redis as wit_redis,
            requests as wit_requests,
        },
        hooks::exports::fanfare::sse as hooks,
        occupancy::exports::fanfare::sse as occupancy,
    },
};
use crate::{
    App, CloseReason, Disconnected, Occupancy, Result,
    flavour::{Publisher as PublisherHandle, Request as Handle},
};

/// The exports of a component, made of an [`App`]. Never a value: the host calls functions, not methods.
pub struct Exports<A>(PhantomData<A>);

impl<A: App> exports::lifecycle::Guest for Exports<A> {
    fn start() -> Result<(), wit_errors::Error> {
        A::start().map_err(Into::into)
    }
}

impl<A: App> exports::handler::Guest for Exports<A> {
    fn handle(request: wit_requests::Request) -> Result<(), wit_errors::Error> {
        let request = Handle::from_sys(Request(request));
        A::handle(request).map_err(Into::into)
    }
}

impl<A: Disconnected> hooks::disconnect_hook::Guest for Exports<A> {
    fn disconnected(gone: wit_connections::Disconnection) {
        A::disconnected(gone.into());
    }
}

impl<A: Occupancy> occupancy::occupancy_hook::Guest for Exports<A> {
    fn channel_occupied(publisher: wit_publishers::Publisher, channel: String) {
        A::channel_occupied(PublisherHandle::from_sys(Publisher(publisher)), channel);
    }

    fn channel_vacated(publisher: wit_publishers::Publisher, channel: String) {
        A::channel_vacated(PublisherHandle::from_sys(Publisher(publisher)), channel);
    }
}

pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

pub fn closed(connection: &Connection, within: Option<u64>) -> Option<CloseReason> {
    closing::closed(&connection.0, within).map(Into::into)
}

pub mod publishing {
    use super::{
        super::{Connection, Publisher},
        wit_publishing as wit,
    };
    use crate::{Event, Message, Receipt, Result};

    pub fn start(publisher: &Publisher) -> Result<()> {
        Ok(wit::start(&publisher.0)?)
    }

    pub fn register(publisher: &Publisher, connection: &Connection, channel: &str) -> Result<()> {
        Ok(wit::register(&publisher.0, &connection.0, channel)?)
    }

    pub fn publish(publisher: &Publisher, channel: &str, message: Message) -> Result<Receipt> {
        Ok(wit::publish(&publisher.0, channel, &message.into())?.into())
    }

    pub fn remove(publisher: &Publisher, connection_id: &str, channel: &str) -> Result<()> {
        Ok(wit::remove(&publisher.0, connection_id, channel)?)
    }

    pub fn subscribers(publisher: &Publisher, channel: &str) -> Result<u64> {
        Ok(wit::subscribers(&publisher.0, channel)?)
    }

    pub fn presence(publisher: &Publisher, channel: &str) -> Result<Vec<String>> {
        Ok(wit::presence(&publisher.0, channel)?)
    }

    pub fn history(publisher: &Publisher, channel: &str, limit: u32) -> Result<Vec<Event>> {
        let events = wit::history(&publisher.0, channel, limit)?;
        Ok(events.into_iter().map(Into::into).collect())
    }
}

pub mod redis {
    use super::{super::Redis, wit_redis as wit};
    use crate::{Result, redis::Part};

    pub fn connect(url: &str) -> Result<Redis> {
        Ok(Redis(wit::connect(url)?))
    }

    pub fn execute(redis: &Redis, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Part>> {
        let parts = wit::execute(&redis.0, command, arguments)?;
        Ok(parts.into_iter().map(Into::into).collect())
    }

    pub fn get(redis: &Redis, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(wit::get(&redis.0, key)?)
    }

    pub fn set(redis: &Redis, key: &str, value: &[u8], expires_in: Option<u64>) -> Result<()> {
        Ok(wit::set(&redis.0, key, value, expires_in)?)
    }

    pub fn incr(redis: &Redis, key: &str, by: i64) -> Result<i64> {
        Ok(wit::incr(&redis.0, key, by)?)
    }

    pub fn del(redis: &Redis, keys: &[String]) -> Result<u64> {
        Ok(wit::del(&redis.0, keys)?)
    }

    pub fn exists(redis: &Redis, key: &str) -> Result<bool> {
        Ok(wit::exists(&redis.0, key)?)
    }

    pub fn expire(redis: &Redis, key: &str, expires_in: u64) -> Result<bool> {
        Ok(wit::expire(&redis.0, key, expires_in)?)
    }

    pub fn publish(redis: &Redis, channel: &str, payload: &[u8]) -> Result<u64> {
        Ok(wit::publish(&redis.0, channel, payload)?)
    }

    pub fn sadd(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        Ok(wit::sadd(&redis.0, key, members)?)
    }

    pub fn srem(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        Ok(wit::srem(&redis.0, key, members)?)
    }

    pub fn smembers(redis: &Redis, key: &str) -> Result<Vec<Vec<u8>>> {
        Ok(wit::smembers(&redis.0, key)?)
    }
}
