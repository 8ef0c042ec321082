//! The registry: named values that outlive a call and are shared by an app's handlers on this node.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    bindings::fanfare::sse::{errors::Error, registry::ValueKind},
    error::HostError,
    limits::Limit,
};
use crate::{broker::publisher::Publisher, redis_pool::RedisClient};

/// The longest name, in bytes.
const NAME_BYTES: usize = 255;
/// What an entry counts beside the bytes of its name and value.
const ENTRY_COST: usize = 64;

/// What may stand under a name.
#[derive(Debug, Clone)]
pub enum Value {
    /// A publisher.
    Publisher(Publisher),
    /// A Redis client.
    Redis(RedisClient),
    /// A text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
}

/// An app's values.
#[derive(Debug)]
pub struct Registry {
    max_entries: usize,
    max_bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_name: BTreeMap<String, Value>,
    /// Names and values, with [`ENTRY_COST`] each.
    bytes: usize,
}

impl Value {
    /// Its kind.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Publisher(_) => ValueKind::Publisher,
            Self::Redis(_) => ValueKind::RedisClient,
            Self::Text(_) => ValueKind::Text,
            Self::Bytes(_) => ValueKind::Bytes,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Publisher(_) | Self::Redis(_) => 0,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Registry {
    /// An empty registry of at most so many entries and bytes.
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            max_entries,
            max_bytes,
            entries: Mutex::default(),
        }
    }

    /// The value under a name, `not-found` where there is none.
    pub fn get(&self, name: &str) -> Result<Value, HostError> {
        check(name)?;
        let entries = self.entries.lock();
        entries.by_name.get(name).cloned().ok_or_else(|| {
            HostError::Guest(Error::NotFound(format!(
                "there is nothing under {name:?} in the registry"
            )))
        })
    }

    /// The kind of the value under a name.
    pub fn kind(&self, name: &str) -> Option<ValueKind> {
        self.entries.lock().by_name.get(name).map(Value::kind)
    }

    /// Sets a value.
    pub fn set(&self, name: String, value: Value) -> Result<(), HostError> {
        check(&name)?;
        let mut entries = self.entries.lock();
        let cost = |value: &Value| name.len() + value.bytes() + ENTRY_COST;
        let before = entries.by_name.get(&name).map(&cost);
        if before.is_none() && entries.by_name.len() >= self.max_entries {
            return Err(limited(Limit::RegistryEntries, self.max_entries));
        }
        let bytes = entries.bytes - before.unwrap_or(0) + cost(&value);
        if bytes > self.max_bytes {
            return Err(limited(Limit::RegistryBytes, self.max_bytes));
        }
        entries.bytes = bytes;
        entries.by_name.insert(name, value);
        Ok(())
    }

    /// Removes a value; false where there was none.
    pub fn remove(&self, name: &str) -> bool {
        let mut entries = self.entries.lock();
        let Some(value) = entries.by_name.remove(name) else {
            return false;
        };
        entries.bytes -= name.len() + value.bytes() + ENTRY_COST;
        true
    }

    /// All names, sorted.
    pub fn keys(&self) -> Vec<String> {
        self.entries.lock().by_name.keys().cloned().collect()
    }
}

fn check(name: &str) -> Result<(), HostError> {
    if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) {
        return Err(HostError::invalid(format!(
            "a name in the registry has 1 to {NAME_BYTES} bytes without control characters"
        )));
    }
    Ok(())
}

fn limited(limit: Limit, value: usize) -> HostError {
    HostError::Limited(
        limit,
        format!("the app's limit {limit} of {value} is reached"),
    )
}

/// `wrong-type`, naming the kind asked for and the kind found.
pub fn wrong_type(name: &str, asked: ValueKind, found: &Value) -> HostError {
    HostError::Guest(Error::WrongType(format!(
        "{name:?} in the registry is {}, not {}",
        kind_name(found.kind()),
        kind_name(asked)
    )))
}

fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Publisher => "a publisher",
        ValueKind::RedisClient => "a Redis client",
        ValueKind::Text => "a text",
        ValueKind::Bytes => "bytes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn sets_replaces_and_removes() {
        let registry = Registry::new(10, 1000);
        registry.set("b".into(), text("1")).unwrap();
        registry.set("a".into(), text("2")).unwrap();
        registry
            .set("b".into(), Value::Bytes(Arc::from(*b"34")))
            .unwrap();
        assert_eq!(registry.keys(), ["a", "b"]);
        assert_eq!(registry.kind("b"), Some(ValueKind::Bytes));
        assert!(registry.remove("b"));
        assert!(!registry.remove("b"));
        assert!(matches!(
            registry.get("b"),
            Err(HostError::Guest(Error::NotFound(_)))
        ));
        assert!(registry.remove("a"));
        assert_eq!(registry.entries.lock().bytes, 0);
    }

    #[test]
    fn limits_name_themselves_and_a_refused_value_changes_nothing() {
        let registry = Registry::new(2, 300);
        registry.set("a".into(), text("x")).unwrap();
        let Err(HostError::Limited(Limit::RegistryBytes, message)) =
            registry.set("a".into(), text(&"x".repeat(300)))
        else {
            panic!("the bytes are over the limit");
        };
        assert!(message.contains("registry-bytes"), "{message}");
        assert!(matches!(registry.get("a"), Ok(Value::Text(text)) if &*text == "x"));
        registry.set("b".into(), text("x")).unwrap();
        let Err(HostError::Limited(Limit::RegistryEntries, message)) =
            registry.set("c".into(), text("x"))
        else {
            panic!("the third entry is over the limit");
        };
        assert!(message.contains("registry-entries"), "{message}");
        registry.set("b".into(), text("y")).unwrap();
    }

    #[test]
    fn names_are_checked() {
        let registry = Registry::new(2, 3000);
        for name in ["", "a\nb", &"x".repeat(256)] {
            assert!(
                matches!(
                    registry.set(name.into(), text("x")),
                    Err(HostError::Guest(Error::Invalid(_)))
                ),
                "{name:?}"
            );
        }
    }
}
