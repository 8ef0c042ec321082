//! From the tree of a file to the types of the configuration.
//!
//! A deserializer of its own, for the sake of its errors: they know where they are, and hold no value, which
//! may be a secret.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::{ConfigError, KeyPath, Mistake, Segment};
use super::source::{Entry, Node, Source, Value};
use super::suggest;

/// The most mistakes that are told of a file at once: each takes a reading of it.
const MOST_AT_ONCE: usize = 50;

/// Reads a whole file. A reading ends at a mistake; then there is another one, which passes over what was wrong.
pub(super) fn decode<T: for<'de> Deserialize<'de>>(
    source: &mut Source<'_>,
) -> Result<T, ConfigError> {
    let mut found: Vec<(usize, Mistake)> = Vec::new();
    loop {
        let error = match T::deserialize(Decoder(&source.root)) {
            Ok(value) if found.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let (start, mistake) = error.locate(source);
        let below_root = !mistake.path.is_root();
        let Some(node) = source.node_mut(&mistake.path).filter(|_| below_root) else {
            found.push((start, mistake));
            break;
        };
        node.told = true;
        // What is wrong with a table as a whole, such as a missing key, may follow from what is passed over in it.
        if !node.is_partly_told() {
            found.push((start, mistake));
        }
        if found.len() >= MOST_AT_ONCE {
            break;
        }
    }
    found.sort_by_key(|(start, _)| *start);
    Err(ConfigError::Invalid {
        mistakes: found.into_iter().map(|(_, mistake)| mistake).collect(),
    })
}

#[derive(Debug)]
struct DecodeError {
    /// From the innermost key outwards.
    path: Vec<Segment>,
    span: Option<Range<usize>>,
    message: String,
    quote: bool,
    /// Whether the table's name belongs in single brackets.
    is_doubled: bool,
}

impl DecodeError {
    fn new(message: String, quote: bool) -> Self {
        Self {
            path: Vec::new(),
            span: None,
            message,
            quote,
            is_doubled: false,
        }
    }

    /// The mistake in the file, and the byte where it is.
    fn locate(self, source: &Source<'_>) -> (usize, Mistake) {
        let span = self.span.unwrap_or(0..0);
        let path = KeyPath(self.path.into_iter().rev().collect());
        let mut message = self.message;
        if self.is_doubled {
            message.push_str(&format!("; write `[{path}]`"));
        }
        if let Some(written) = self.quote.then(|| source.written(&span)).flatten() {
            message.push_str(&format!(" (it is {written})"));
        }
        (span.start, source.mistake(span.start, path, message))
    }

    fn or_at(mut self, span: &Range<usize>) -> Self {
        self.span.get_or_insert_with(|| span.clone());
        self
    }

    /// A table's or an array's text may hold secrets, whatever the error is about.
    fn or_at_node(mut self, node: &Node) -> Self {
        if self.span.is_none() && matches!(node.value, Value::Table(_) | Value::Array(_)) {
            self.quote = false;
        }
        self.or_at(&node.span)
    }

    fn under(mut self, segment: Segment) -> Self {
        self.path.push(segment);
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

impl Error for DecodeError {
    /// The messages of this module's types leave the value out; what the file has there is shown in its place.
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), true)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (expected, found) = (plain(expected), kind(&unexpected));
        Self::new(format!("expected {expected}, found {found}"), false)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Signed(number) if number < 0 => "one below 0",
            _ => "one that is out of range",
        };
        Self::new(format!("expected {}, found {found}", plain(expected)), true)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known = suggest::known(variant, "values", expected.iter().copied());
        Self::new(format!("not a known value; {known}"), true)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let known = suggest::known(field, "keys", expected.iter().copied());
        Self::new(format!("not a known key; {known}"), false)
    }

    fn missing_field(field: &'static str) -> Self {
        let message = format!("the key `{field}` is missing; add `{field} = …` here");
        Self::new(message, false)
    }
}

/// What a file must have, in the words of TOML and not of Rust.
fn plain(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "a map" => "a table".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a string" => "text".to_owned(),
        "usize" | "u64" => "a whole number from 0".to_owned(),
        rust if rust.starts_with("struct ") => "a table".to_owned(),
        rust if rust.starts_with("enum ") => "text".to_owned(),
        _ => expected,
    }
}

fn kind(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(_) => "true or false".to_owned(),
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number".to_owned(),
        Unexpected::Float(_) => "a number with a fraction".to_owned(),
        Unexpected::Str(_) => "text".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        Unexpected::Other(kind) => (*kind).to_owned(),
        _ => "something else".to_owned(),
    }
}

#[derive(Clone, Copy)]
struct Decoder<'n>(&'n Node);

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.0.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Array(nodes) => visitor.visit_seq(Items(nodes.iter().enumerate())),
            Value::Table(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                value: None,
            }),
            Value::Integer(Some(number)) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Integer(None) => Err(DecodeError::new("the number is too large".into(), false)),
            Value::Float => Err(Error::invalid_type(Unexpected::Float(0.0), &visitor)),
            Value::Date => Err(Error::invalid_type(Unexpected::Other("a date"), &visitor)),
        };
        result.map_err(|error| error.or_at_node(self.0))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        // Serde would take the items of an array for the values of the keys, in their order.
        if matches!(self.0.value, Value::Array(_)) {
            let mut error = DecodeError::invalid_type(Unexpected::Seq, &visitor);
            error.is_doubled = true;
            return Err(error.or_at_node(self.0));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let result = match &self.0.value {
            Value::Text(text) => visitor.visit_enum(Word(text)),
            _ => return self.deserialize_any(visitor),
        };
        result.map_err(|error| error.or_at_node(self.0))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'n>(std::iter::Enumerate<std::slice::Iter<'n, Node>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let Some((index, node)) = self.0.find(|(_, node)| !node.told) else {
            return Ok(None);
        };
        seed.deserialize(Decoder(node))
            .map(Some)
            .map_err(|error| error.or_at_node(node).under(Segment::Index(index)))
    }
}

struct Entries<'n> {
    rest: std::slice::Iter<'n, Entry>,
    value: Option<&'n Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let Some(entry) = self.rest.find(|entry| !entry.node.told) else {
            return Ok(None);
        };
        self.value = Some(entry);
        let key: StrDeserializer<'_, DecodeError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| {
            error
                .or_at(&entry.key_span)
                .under(Segment::Key(entry.key.clone()))
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        let Some(entry) = self.value.take() else {
            return Err(Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Decoder(&entry.node)).map_err(|error| {
            error
                .or_at_node(&entry.node)
                .under(Segment::Key(entry.key.clone()))
        })
    }
}

/// A text that names a variant without fields.
struct Word<'n>(&'n str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), DecodeError> {
        let name: StrDeserializer<'_, DecodeError> = self.0.into_deserializer();
        seed.deserialize(name).map(|value| (value, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        _seed: S,
    ) -> Result<S::Value, DecodeError> {
        Err(Error::invalid_type(Unexpected::Str(""), &"a table"))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        Err(Error::invalid_type(Unexpected::Str(""), &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        Err(Error::invalid_type(Unexpected::Str(""), &visitor))
    }
}
