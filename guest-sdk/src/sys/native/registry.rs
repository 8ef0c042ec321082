//! The registry.

use super::{Publisher, Redis};
use crate::{
    Result,
    registry::Kind,
    testing::fake::{Fake, Stored},
};

pub fn has(name: &str) -> bool {
    kind(name).is_some()
}

pub fn kind(name: &str) -> Option<Kind> {
    Fake::current().state().registry.get(name).map(Stored::kind)
}

pub fn get_publisher(name: &str) -> Result<Publisher> {
    let fake = Fake::current();
    let index = match fake.state().stored(name, Kind::Publisher)? {
        Stored::Publisher(index) => *index,
        _ => unreachable!("`stored` checks the kind"),
    };
    Ok(Publisher { fake, index })
}

pub fn get_redis(name: &str) -> Result<Redis> {
    let fake = Fake::current();
    let address = match fake.state().stored(name, Kind::Redis)? {
        Stored::Redis(address) => address.clone(),
        _ => unreachable!("`stored` checks the kind"),
    };
    Ok(Redis { fake, address })
}

pub fn get_text(name: &str) -> Result<String> {
    match Fake::current().state().stored(name, Kind::Text)? {
        Stored::Text(text) => Ok(text.clone()),
        _ => unreachable!("`stored` checks the kind"),
    }
}

pub fn get_bytes(name: &str) -> Result<Vec<u8>> {
    match Fake::current().state().stored(name, Kind::Bytes)? {
        Stored::Bytes(bytes) => Ok(bytes.clone()),
        _ => unreachable!("`stored` checks the kind"),
    }
}

pub fn set_publisher(name: &str, value: &Publisher) -> Result<()> {
    Fake::current()
        .state()
        .store(name, Stored::Publisher(value.index))
}

pub fn set_redis(name: &str, value: &Redis) -> Result<()> {
    Fake::current()
        .state()
        .store(name, Stored::Redis(value.address.clone()))
}

pub fn set_text(name: &str, value: &str) -> Result<()> {
    Fake::current()
        .state()
        .store(name, Stored::Text(value.to_owned()))
}

pub fn set_bytes(name: &str, value: &[u8]) -> Result<()> {
    Fake::current()
        .state()
        .store(name, Stored::Bytes(value.to_owned()))
}

pub fn remove(name: &str) -> bool {
    Fake::current().state().registry.remove(name).is_some()
}

pub fn keys() -> Vec<String> {
    Fake::current().state().registry.keys().cloned().collect()
}
