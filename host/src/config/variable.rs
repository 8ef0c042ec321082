//! `[apps.<name>.variables]`: what a guest reads through `wasi:config/store`.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// A variable of an app: a text, or a table with the text and whether it is secret.
#[derive(Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "Written")]
pub struct Variable {
    value: String,
    secret: bool,
}

impl Variable {
    /// A variable that may be shown.
    pub fn plain(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            secret: false,
        }
    }

    /// A variable that must not show up in logs.
    pub fn secret(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            secret: true,
        }
    }

    /// The text. Not for logs where it [is secret](Self::is_secret).
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether the text must not show up in logs.
    pub fn is_secret(&self) -> bool {
        self.secret
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret {
            f.write_str("Variable(redacted)")
        } else {
            f.debug_tuple("Variable").field(&self.value).finish()
        }
    }
}

/// The two forms in a file, for the schema.
#[derive(JsonSchema)]
#[schemars(untagged, rename = "Variable")]
#[allow(dead_code, reason = "the schema is made from it, and nothing else")]
enum Written {
    Text(String),
    Table(Table),
}

/// A variable with what else is to be said about it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(inline)]
struct Table {
    /// The text.
    value: String,
    /// Whether the text is kept out of logs.
    #[serde(default)]
    secret: bool,
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;

        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Variable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or a table such as { value = \"…\", secret = true }")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Variable, E> {
                Ok(Variable::plain(value))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Variable, A::Error> {
                let Table { value, secret } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Variable { value, secret })
            }
        }

        deserializer.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_what_is_not_secret() {
        assert_eq!(
            format!("{:?}", Variable::plain("blue")),
            "Variable(\"blue\")"
        );
        assert_eq!(
            format!("{:?}", Variable::secret("hunter2")),
            "Variable(redacted)"
        );
    }
}
