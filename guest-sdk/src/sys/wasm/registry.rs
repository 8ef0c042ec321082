//! The registry.

use super::{Publisher, Redis, bindings::fanfare::sse::registry as wit};
use crate::{Result, registry::Kind};

pub fn has(name: &str) -> bool {
    wit::has(name)
}

pub fn kind(name: &str) -> Option<Kind> {
    wit::kind(name).map(|kind| match kind {
        wit::ValueKind::Publisher => Kind::Publisher,
        wit::ValueKind::RedisClient => Kind::Redis,
        wit::ValueKind::Text => Kind::Text,
        wit::ValueKind::Bytes => Kind::Bytes,
    })
}

pub fn get_publisher(name: &str) -> Result<Publisher> {
    Ok(Publisher(wit::get_publisher(name)?))
}

pub fn get_redis(name: &str) -> Result<Redis> {
    Ok(Redis(wit::get_redis(name)?))
}

pub fn get_text(name: &str) -> Result<String> {
    Ok(wit::get_text(name)?)
}

pub fn get_bytes(name: &str) -> Result<Vec<u8>> {
    Ok(wit::get_bytes(name)?)
}

pub fn set_publisher(name: &str, value: &Publisher) -> Result<()> {
    Ok(wit::set_publisher(name, &value.0)?)
}

pub fn set_redis(name: &str, value: &Redis) -> Result<()> {
    Ok(wit::set_redis(name, &value.0)?)
}

pub fn set_text(name: &str, value: &str) -> Result<()> {
    Ok(wit::set_text(name, value)?)
}

pub fn set_bytes(name: &str, value: &[u8]) -> Result<()> {
    Ok(wit::set_bytes(name, value)?)
}

pub fn remove(name: &str) -> bool {
    wit::remove(name)
}

pub fn keys() -> Vec<String> {
    wit::keys()
}
