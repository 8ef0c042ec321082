//! `redis-clients` and `redis`: Redis for handlers.

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::behind;
use crate::{
    guest::{
        bindings::{
            asynchronous::fanfare::sse::redis_async,
            fanfare::sse::{
                redis::Host,
                redis_clients::{self, HostClient, RedisValue},
            },
        },
        error::HostResult,
        state::State,
    },
    redis_pool::{Part, RedisClient, RedisUrl, flatten},
};

impl redis_clients::Host for State {}

impl HostClient for State {
    fn address(&mut self, client: Resource<RedisClient>) -> wasmtime::Result<String> {
        Ok(self.table.get(&client)?.url().address())
    }

    fn drop(&mut self, client: Resource<RedisClient>) -> wasmtime::Result<()> {
        // The connection belongs to the node and stays.
        self.table.delete(client)?;
        Ok(())
    }
}

/// The address, once it is known to be granted: before anything is looked up or sent, because what was not granted must
/// not be reachable to be probed.
fn granted(state: &State, url: &str) -> HostResult<RedisUrl> {
    let url = RedisUrl::parse(url)?;
    state.shared.check_redis_grant(&url)?;
    Ok(url)
}

/// Commands that differ in nothing but what they are told and what they answer, for both worlds.
macro_rules! commands {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty = $client:ident => $call:expr;)*) => {
        impl Host for State {
            async fn connect(&mut self, url: String) -> HostResult<Resource<RedisClient>> {
                let url = granted(self, &url)?;
                let client = self.shared.redis.connect(&url).await?;
                Ok(self.table.push(client)?)
            }

            $(async fn $name(
                &mut self,
                client: Resource<RedisClient>,
                $($argument: $type),*
            ) -> HostResult<$answer> {
                let $client = self.of(&client)?;
                $call
            })*
        }

        impl redis_async::Host for State {}

        impl<T: Send> redis_async::HostWithStore<T> for HasSelf<State> {
            async fn connect(
                accessor: &Accessor<T, Self>,
                url: String,
            ) -> HostResult<Resource<RedisClient>> {
                let (url, redis) = accessor.with(|mut access| {
                    let state = access.get();
                    granted(state, &url).map(|url| (url, state.shared.redis.clone()))
                })?;
                let client = redis.connect(&url).await?;
                Ok(accessor.with(|mut access| access.get().table.push(client))?)
            }

            $(async fn $name(
                accessor: &Accessor<T, Self>,
                client: Resource<RedisClient>,
                $($argument: $type),*
            ) -> HostResult<$answer> {
                let $client = behind(accessor, &client)?;
                $call
            })*
        }
    };
}

commands! {
    execute(command: String, arguments: Vec<Vec<u8>>) -> Vec<RedisValue> = client => {
        let value = client.execute(&command, arguments).await?;
        Ok(flatten(value)?.into_iter().map(part).collect())
    };
    get(key: String) -> Option<Vec<u8>> = client => Ok(client.get(&key).await?);
    set(key: String, value: Vec<u8>, expires_in: Option<u64>) -> () = client => {
        Ok(client.set(&key, value, expires_in).await?)
    };
    incr(key: String, by: i64) -> i64 = client => Ok(client.incr(&key, by).await?);
    del(keys: Vec<String>) -> u64 = client => Ok(client.del(keys).await?);
    exists(key: String) -> bool = client => Ok(client.exists(&key).await?);
    expire(key: String, expires_in: u64) -> bool = client => {
        Ok(client.expire(&key, expires_in).await?)
    };
    publish(channel: String, payload: Vec<u8>) -> u64 = client => {
        Ok(client.publish(&channel, payload).await?)
    };
    sadd(key: String, members: Vec<Vec<u8>>) -> u64 = client => {
        Ok(client.sadd(&key, members).await?)
    };
    srem(key: String, members: Vec<Vec<u8>>) -> u64 = client => {
        Ok(client.srem(&key, members).await?)
    };
    smembers(key: String) -> Vec<Vec<u8>> = client => Ok(client.smembers(&key).await?);
}

fn part(part: Part) -> RedisValue {
    match part {
        Part::Nil => RedisValue::Nil,
        Part::Status(text) => RedisValue::Status(text),
        Part::Integer(number) => RedisValue::Integer(number),
        Part::Double(number) => RedisValue::Double(number),
        Part::Boolean(truth) => RedisValue::Boolean(truth),
        Part::Bytes(bytes) => RedisValue::Bytes(bytes),
        Part::Array(length) => RedisValue::Array(length),
        Part::Error(text) => RedisValue::Error(text),
    }
}
