//! Named values.

use super::{RedisAddress, State, checks};
use crate::{Error, Result, registry::Kind};

const ENTRIES: usize = 10_000;
const BYTES: usize = 16 * 1024 * 1024;
/// What an entry counts beside the bytes of its name and value.
const ENTRY_COST: usize = 64;

/// A value.
pub enum Stored {
    /// The index of the publisher in the state.
    Publisher(usize),
    Redis(RedisAddress),
    Text(String),
    Bytes(Vec<u8>),
}

impl Stored {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Publisher(_) => Kind::Publisher,
            Self::Redis(_) => Kind::Redis,
            Self::Text(_) => Kind::Text,
            Self::Bytes(_) => Kind::Bytes,
        }
    }
}

impl Stored {
    fn bytes(&self) -> usize {
        match self {
            Self::Publisher(_) | Self::Redis(_) => 0,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl State {
    pub fn stored(&self, name: &str, wanted: Kind) -> Result<&Stored> {
        let value = self.registry.get(name).ok_or_else(|| {
            Error::NotFound(format!("there is nothing under {name:?} in the registry"))
        })?;
        if value.kind() != wanted {
            return Err(Error::WrongType(format!(
                "{name:?} in the registry is {}, not {}",
                name_of(value.kind()),
                name_of(wanted)
            )));
        }
        Ok(value)
    }

    pub fn store(&mut self, name: &str, value: Stored) -> Result<()> {
        checks::check_name("a name in the registry", name)?;
        let cost = |name: &str, value: &Stored| name.len() + value.bytes() + ENTRY_COST;
        let others = self.registry.iter().filter(|(other, _)| *other != name);
        if others.clone().count() == ENTRIES {
            return Err(checks::limited("registry-entries", ENTRIES));
        }
        let bytes: usize = others.map(|(name, value)| cost(name, value)).sum();
        if bytes + cost(name, &value) > BYTES {
            return Err(checks::limited("registry-bytes", BYTES));
        }
        self.registry.insert(name.to_owned(), value);
        Ok(())
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Publisher => "a publisher",
        Kind::Redis => "a Redis client",
        Kind::Text => "a text",
        Kind::Bytes => "bytes",
    }
}
