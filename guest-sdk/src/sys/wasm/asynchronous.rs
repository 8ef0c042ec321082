//! The worlds `app-async`, `disconnect-hooks-async` and `occupancy-hooks-async`.

use std::{marker::PhantomData, time::Duration};

pub use wit_bindgen::spawn_local as spawn;

use super::{
    Connection, Publisher, Request,
    bindings::{
        asynchronous::{
            exports::fanfare::sse as exports,
            fanfare::sse::{
                closing_async as closing, publishing_async as wit_publishing,
                redis_async as wit_redis,
            },
            hooks::exports::fanfare::sse as hooks,
            occupancy::exports::fanfare::sse as occupancy,
            wasi::clocks::monotonic_clock,
        },
        fanfare::sse::{
            connections as wit_connections, errors as wit_errors, publishers as wit_publishers,
            requests as wit_requests,
        },
    },
};
use crate::{
    CloseReason, Result,
    asynchronous::{App, Disconnected, Occupancy},
    flavour::{Publisher as PublisherHandle, Request as Handle},
};

/// The exports of a component, made of an [`App`]. Never a value: the host calls functions, not methods.
pub struct Exports<A>(PhantomData<A>);

impl<A: App> exports::lifecycle_async::Guest for Exports<A> {
    async fn start() -> Result<(), wit_errors::Error> {
        A::start().await.map_err(Into::into)
    }
}

impl<A: App> exports::handler_async::Guest for Exports<A> {
    async fn handle(request: wit_requests::Request) -> Result<(), wit_errors::Error> {
        let request = Handle::from_sys(Request(request));
        A::handle(request).await.map_err(Into::into)
    }
}

impl<A: Disconnected> hooks::disconnect_hook_async::Guest for Exports<A> {
    async fn disconnected(gone: wit_connections::Disconnection) {
        A::disconnected(gone.into()).await;
    }
}

impl<A: Occupancy> occupancy::occupancy_hook_async::Guest for Exports<A> {
    async fn channel_occupied(publisher: wit_publishers::Publisher, channel: String) {
        A::channel_occupied(PublisherHandle::from_sys(Publisher(publisher)), channel).await;
    }

    async fn channel_vacated(publisher: wit_publishers::Publisher, channel: String) {
        A::channel_vacated(PublisherHandle::from_sys(Publisher(publisher)), channel).await;
    }
}

pub async fn sleep(duration: Duration) {
    let nanoseconds = duration.as_nanos().try_into().unwrap_or(u64::MAX);
    monotonic_clock::wait_for(nanoseconds).await;
}

pub async fn closed(connection: &Connection, within: Option<u64>) -> Option<CloseReason> {
    let reason = closing::closed(&connection.0, within).await;
    reason.map(Into::into)
}

pub mod publishing {
    use super::{
        super::{Connection, Publisher},
        wit_publishing as wit,
    };
    use crate::{Event, Message, Receipt, Result};

    pub async fn start(publisher: &Publisher) -> Result<()> {
        Ok(wit::start(&publisher.0).await?)
    }

    pub async fn register(
        publisher: &Publisher,
        connection: &Connection,
        channel: &str,
    ) -> Result<()> {
        Ok(wit::register(&publisher.0, &connection.0, channel.to_owned()).await?)
    }

    pub async fn publish(
        publisher: &Publisher,
        channel: &str,
        message: Message,
    ) -> Result<Receipt> {
        Ok(
            wit::publish(&publisher.0, channel.to_owned(), message.into())
                .await?
                .into(),
        )
    }

    pub async fn remove(publisher: &Publisher, connection_id: &str, channel: &str) -> Result<()> {
        Ok(wit::remove(&publisher.0, connection_id.to_owned(), channel.to_owned()).await?)
    }

    pub async fn subscribers(publisher: &Publisher, channel: &str) -> Result<u64> {
        Ok(wit::subscribers(&publisher.0, channel.to_owned()).await?)
    }

    pub async fn presence(publisher: &Publisher, channel: &str) -> Result<Vec<String>> {
        Ok(wit::presence(&publisher.0, channel.to_owned()).await?)
    }

    pub async fn history(publisher: &Publisher, channel: &str, limit: u32) -> Result<Vec<Event>> {
        let events = wit::history(&publisher.0, channel.to_owned(), limit).await?;
        Ok(events.into_iter().map(Into::into).collect())
    }
}

pub mod redis {
    use super::{super::Redis, wit_redis as wit};
    use crate::{Result, redis::Part};

    pub async fn connect(url: &str) -> Result<Redis> {
        Ok(Redis(wit::connect(url.to_owned()).await?))
    }

    pub async fn execute(redis: &Redis, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Part>> {
        let parts = wit::execute(&redis.0, command.to_owned(), arguments.to_vec()).await?;
        Ok(parts.into_iter().map(Into::into).collect())
    }

    pub async fn get(redis: &Redis, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(wit::get(&redis.0, key.to_owned()).await?)
    }

    pub async fn set(
        redis: &Redis,
        key: &str,
        value: &[u8],
        expires_in: Option<u64>,
    ) -> Result<()> {
        Ok(wit::set(&redis.0, key.to_owned(), value.to_vec(), expires_in).await?)
    }

    pub async fn incr(redis: &Redis, key: &str, by: i64) -> Result<i64> {
        Ok(wit::incr(&redis.0, key.to_owned(), by).await?)
    }

    pub async fn del(redis: &Redis, keys: &[String]) -> Result<u64> {
        Ok(wit::del(&redis.0, keys.to_vec()).await?)
    }

    pub async fn exists(redis: &Redis, key: &str) -> Result<bool> {
        Ok(wit::exists(&redis.0, key.to_owned()).await?)
    }

    pub async fn expire(redis: &Redis, key: &str, expires_in: u64) -> Result<bool> {
        Ok(wit::expire(&redis.0, key.to_owned(), expires_in).await?)
    }

    pub async fn publish(redis: &Redis, channel: &str, payload: &[u8]) -> Result<u64> {
        Ok(wit::publish(&redis.0, channel.to_owned(), payload.to_vec()).await?)
    }

    pub async fn sadd(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        Ok(wit::sadd(&redis.0, key.to_owned(), members.to_vec()).await?)
    }

    pub async fn srem(redis: &Redis, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        Ok(wit::srem(&redis.0, key.to_owned(), members.to_vec()).await?)
    }

    pub async fn smembers(redis: &Redis, key: &str) -> Result<Vec<Vec<u8>>> {
        Ok(wit::smembers(&redis.0, key.to_owned()).await?)
    }
}
