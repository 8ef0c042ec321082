//! `redis-clients` and `redis`: Redis for handlers.

use wasmtime::component::Resource;

use crate::{
    guest::{
        bindings::fanfare::sse::{
            redis::Host,
            redis_clients::{self, HostClient, RedisValue},
        },
        error::{HostError, HostResult},
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

impl State {
    fn client(&self, client: &Resource<RedisClient>) -> HostResult<RedisClient> {
        Ok(self.table.get(client)?.clone())
    }
}

impl Host for State {
    async fn connect(&mut self, url: String) -> HostResult<Resource<RedisClient>> {
        let url = RedisUrl::parse(&url)?;
        // Before anything is looked up or sent: what was not granted must not be reachable to be probed.
        self.shared
            .check_redis_grant(&url)
            .map_err(HostError::Guest)?;
        let client = self.shared.redis.connect(&url).await?;
        Ok(self.table.push(client)?)
    }

    async fn execute(
        &mut self,
        client: Resource<RedisClient>,
        command: String,
        arguments: Vec<Vec<u8>>,
    ) -> HostResult<Vec<RedisValue>> {
        let value = self.client(&client)?.execute(&command, arguments).await?;
        Ok(flatten(value)?.into_iter().map(part).collect())
    }

    async fn get(
        &mut self,
        client: Resource<RedisClient>,
        key: String,
    ) -> HostResult<Option<Vec<u8>>> {
        Ok(self.client(&client)?.get(&key).await?)
    }

    async fn set(
        &mut self,
        client: Resource<RedisClient>,
        key: String,
        value: Vec<u8>,
        expires_in: Option<u64>,
    ) -> HostResult<()> {
        Ok(self.client(&client)?.set(&key, value, expires_in).await?)
    }

    async fn incr(
        &mut self,
        client: Resource<RedisClient>,
        key: String,
        by: i64,
    ) -> HostResult<i64> {
        Ok(self.client(&client)?.incr(&key, by).await?)
    }

    async fn del(&mut self, client: Resource<RedisClient>, keys: Vec<String>) -> HostResult<u64> {
        Ok(self.client(&client)?.del(keys).await?)
    }

    async fn exists(&mut self, client: Resource<RedisClient>, key: String) -> HostResult<bool> {
        Ok(self.client(&client)?.exists(&key).await?)
    }

    async fn expire(
        &mut self,
        client: Resource<RedisClient>,
        key: String,
        expires_in: u64,
    ) -> HostResult<bool> {
        Ok(self.client(&client)?.expire(&key, expires_in).await?)
    }

    async fn publish(
        &mut self,
        client: Resource<RedisClient>,
        channel: String,
        payload: Vec<u8>,
    ) -> HostResult<u64> {
        Ok(self.client(&client)?.publish(&channel, payload).await?)
    }

    async fn sadd(
        &mut self,
        client: Resource<RedisClient>,
        key: String,
        members: Vec<Vec<u8>>,
    ) -> HostResult<u64> {
        Ok(self.client(&client)?.sadd(&key, members).await?)
    }

    async fn srem(
        &mut self,
        client: Resource<RedisClient>,
        key: String,
        members: Vec<Vec<u8>>,
    ) -> HostResult<u64> {
        Ok(self.client(&client)?.srem(&key, members).await?)
    }

    async fn smembers(
        &mut self,
        client: Resource<RedisClient>,
        key: String,
    ) -> HostResult<Vec<Vec<u8>>> {
        Ok(self.client(&client)?.smembers(&key).await?)
    }
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
