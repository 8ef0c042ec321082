//! `registry`: named values, shared by the app's handlers.

use wasmtime::component::Resource;

use crate::{
    broker::publisher::Publisher,
    guest::{
        bindings::fanfare::sse::registry::{Host, ValueKind},
        error::HostResult,
        registry::{Value, wrong_type},
        state::State,
    },
    redis_pool::RedisClient,
};

impl State {
    fn set(&self, name: String, value: Value) -> HostResult<()> {
        self.shared.registry.set(name, value)
    }

    fn get(&self, name: &str) -> HostResult<Value> {
        self.shared.registry.get(name)
    }
}

fn wrong<T>(name: &str, asked: ValueKind, found: &Value) -> HostResult<T> {
    Err(wrong_type(name, asked, found))
}

impl Host for State {
    fn has(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.shared.registry.kind(&name).is_some())
    }

    fn kind(&mut self, name: String) -> wasmtime::Result<Option<ValueKind>> {
        Ok(self.shared.registry.kind(&name))
    }

    fn get_publisher(&mut self, name: String) -> HostResult<Resource<Publisher>> {
        match self.get(&name)? {
            Value::Publisher(publisher) => Ok(self.table.push(publisher)?),
            other => wrong(&name, ValueKind::Publisher, &other),
        }
    }

    fn get_redis(&mut self, name: String) -> HostResult<Resource<RedisClient>> {
        match self.get(&name)? {
            Value::Redis(client) => Ok(self.table.push(client)?),
            other => wrong(&name, ValueKind::RedisClient, &other),
        }
    }

    fn get_text(&mut self, name: String) -> HostResult<String> {
        match self.get(&name)? {
            Value::Text(text) => Ok(text.to_string()),
            other => wrong(&name, ValueKind::Text, &other),
        }
    }

    fn get_bytes(&mut self, name: String) -> HostResult<Vec<u8>> {
        match self.get(&name)? {
            Value::Bytes(bytes) => Ok(bytes.to_vec()),
            other => wrong(&name, ValueKind::Bytes, &other),
        }
    }

    fn set_publisher(&mut self, name: String, value: Resource<Publisher>) -> HostResult<()> {
        let publisher = self.table.get(&value)?.clone();
        self.set(name, Value::Publisher(publisher))
    }

    fn set_redis(&mut self, name: String, value: Resource<RedisClient>) -> HostResult<()> {
        let client = self.table.get(&value)?.clone();
        self.set(name, Value::Redis(client))
    }

    fn set_text(&mut self, name: String, value: String) -> HostResult<()> {
        self.set(name, Value::Text(value.into()))
    }

    fn set_bytes(&mut self, name: String, value: Vec<u8>) -> HostResult<()> {
        self.set(name, Value::Bytes(value.into()))
    }

    fn remove(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.shared.registry.remove(&name))
    }

    fn keys(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.shared.registry.keys())
    }
}
