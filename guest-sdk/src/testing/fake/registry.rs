//! Named values.

use super::{RedisAddress, State, checks};
use crate::{Error, Result, registry::Kind};

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

impl State {
    pub fn stored(&self, name: &str, wanted: Kind) -> Result<&Stored> {
        let value = self
            .registry
            .get(name)
            .ok_or_else(|| Error::NotFound(format!("the registry has no value under `{name}`")))?;
        let (wanted_name, found_name) = (name_of(wanted), name_of(value.kind()));
        if value.kind() != wanted {
            let message = format!(
                "a {wanted_name} was asked for; the value under `{name}` is a {found_name}"
            );
            return Err(Error::WrongType(message));
        }
        Ok(value)
    }

    pub fn store(&mut self, name: &str, value: Stored) -> Result<()> {
        checks::check_name("the value's name", name)?;
        self.registry.insert(name.to_owned(), value);
        Ok(())
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Publisher => "publisher",
        Kind::Redis => "redis client",
        Kind::Text => "text",
        Kind::Bytes => "list of bytes",
    }
}
