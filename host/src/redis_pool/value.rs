//! Answers of Redis, made flat for guests, whose interface has no recursive types.

use redis::Value;

use super::{
    RedisError,
    replies::{REPLY_BYTES, REPLY_ELEMENTS, Reply},
};

/// One part of an answer. [`Part::Array`] is followed by its elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Nothing.
    Nil,
    /// A simple string, such as `OK`.
    Status(String),
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Double(f64),
    /// A truth value.
    Boolean(bool),
    /// A bulk string.
    Bytes(Vec<u8>),
    /// How many elements follow.
    Array(u32),
    /// An error inside an array.
    Error(String),
}

/// The parts of an answer in depth-first order.
///
/// Maps are arrays of keys and values by turns, sets are arrays, and a push is an array that begins with its
/// kind. Attributes are left out. Numbers that fit into no integer are their digits, and a verbatim string is its
/// text, both as bytes.
pub fn flatten(value: Value) -> Result<Vec<Part>, RedisError> {
    let mut parts = Vec::new();
    // What is still to be made flat, the next at the end: no recursion, however deep the answer is.
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        if (parts.len() + rest.len()) as u64 >= REPLY_ELEMENTS {
            return Err(too_large());
        }
        let part = match value {
            Value::Nil => Part::Nil,
            Value::Int(number) => Part::Integer(number),
            Value::BulkString(bytes) => Part::Bytes(bytes),
            Value::SimpleString(text) => Part::Status(text),
            Value::Okay => Part::Status("OK".into()),
            Value::Double(number) => Part::Double(number),
            Value::Boolean(truth) => Part::Boolean(truth),
            Value::VerbatimString { text, .. } => Part::Bytes(text.into_bytes()),
            Value::BigNumber(digits) => Part::Bytes(digits),
            Value::ServerError(error) => Part::Error(error_text(&error)),
            Value::Attribute { data, .. } => {
                rest.push(*data);
                continue;
            }
            Value::Array(elements) | Value::Set(elements) => {
                array(&mut rest, elements.into_iter())?
            }
            Value::Map(pairs) => {
                let elements: Vec<_> = pairs
                    .into_iter()
                    .flat_map(|(key, value)| [key, value])
                    .collect();
                array(&mut rest, elements.into_iter())?
            }
            Value::Push { kind, data } => {
                let kind = Value::SimpleString(kind.to_string());
                let elements: Vec<_> = std::iter::once(kind).chain(data).collect();
                array(&mut rest, elements.into_iter())?
            }
            _ => {
                return Err(RedisError::Other(
                    "Redis answered with a value of a kind that is not known here".into(),
                ));
            }
        };
        parts.push(part);
    }
    Ok(parts)
}

/// Puts the elements of an array where they come next.
fn array(
    rest: &mut Vec<Value>,
    elements: impl ExactSizeIterator<Item = Value> + DoubleEndedIterator,
) -> Result<Part, RedisError> {
    let length = u32::try_from(elements.len()).map_err(|_| too_large())?;
    rest.extend(elements.rev());
    Ok(Part::Array(length))
}

/// What a reply says.
pub(super) fn parse(address: &str, reply: &Reply) -> Result<Value, RedisError> {
    let Reply::Whole(bytes) = reply else {
        return Err(too_large());
    };
    // Not left to the parser, because Redis repeats arguments in its errors, and these may be any bytes.
    if let Some(line) = bytes.strip_prefix(b"-") {
        return Err(RedisError::from_reply(
            address,
            String::from_utf8_lossy(line).trim_end(),
        ));
    }
    match redis::parse_redis_value(bytes) {
        Ok(Value::ServerError(error)) => Err(RedisError::from_reply(address, &error_text(&error))),
        Ok(value) => Ok(value),
        Err(error) => Err(RedisError::Other(format!(
            "Redis at {address} gave an answer that cannot be read: {error}"
        ))),
    }
}

fn error_text(error: &redis::ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

fn too_large() -> RedisError {
    RedisError::Limited(format!(
        "the answer of Redis is over the limit of {REPLY_BYTES} bytes, {REPLY_ELEMENTS} elements and {} levels; ask \
         for less at a time, with SCAN, GETRANGE or LRANGE",
        super::replies::REPLY_DEPTH
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn parts(wire: &str) -> Vec<Part> {
        flatten(parsed(wire.as_bytes()).unwrap()).unwrap()
    }

    fn parsed(wire: &[u8]) -> Result<Value, RedisError> {
        parse("h:1", &Reply::Whole(Bytes::copy_from_slice(wire)))
    }

    fn status(text: &str) -> Part {
        Part::Status(text.into())
    }

    fn bytes(text: &str) -> Part {
        Part::Bytes(text.into())
    }

    #[test]
    fn every_kind_of_value_has_its_part() {
        assert_eq!(parts("+OK\r\n"), [status("OK")]);
        assert_eq!(parts("+fine\r\n"), [status("fine")]);
        assert_eq!(parts(":-7\r\n"), [Part::Integer(-7)]);
        assert_eq!(parts("$2\r\nab\r\n"), [bytes("ab")]);
        assert_eq!(parts("$-1\r\n"), [Part::Nil]);
        assert_eq!(parts("_\r\n"), [Part::Nil]);
        assert_eq!(parts("*-1\r\n"), [Part::Nil]);
        assert_eq!(parts(",1.5\r\n"), [Part::Double(1.5)]);
        assert_eq!(parts(",inf\r\n"), [Part::Double(f64::INFINITY)]);
        assert_eq!(parts("#t\r\n"), [Part::Boolean(true)]);
        assert_eq!(
            parts("(99999999999999999999\r\n"),
            [bytes("99999999999999999999")]
        );
        assert_eq!(parts("=8\r\ntxt:a:b\n\r\n"), [bytes("a:b\n")]);
    }

    #[test]
    fn arrays_are_followed_by_their_elements() {
        assert_eq!(
            parts("*3\r\n:1\r\n*2\r\n+a\r\n-ERR b c\r\n$-1\r\n"),
            [
                Part::Array(3),
                Part::Integer(1),
                Part::Array(2),
                status("a"),
                Part::Error("ERR b c".into()),
                Part::Nil
            ]
        );
        assert_eq!(parts("*0\r\n"), [Part::Array(0)]);
        assert_eq!(parts("~1\r\n:1\r\n"), [Part::Array(1), Part::Integer(1)]);
        assert_eq!(
            parts("%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n"),
            [
                Part::Array(4),
                status("a"),
                Part::Integer(1),
                status("b"),
                Part::Array(1),
                Part::Integer(2)
            ]
        );
        assert_eq!(parts("|1\r\n+ttl\r\n:9\r\n$1\r\nv\r\n"), [bytes("v")]);
        assert_eq!(
            parts(">3\r\n+message\r\n+c\r\n+p\r\n"),
            [Part::Array(3), status("message"), status("c"), status("p")]
        );
    }

    #[test]
    fn an_error_is_an_error_whatever_bytes_it_holds() {
        assert_eq!(
            parsed(b"-ERR no\r\n"),
            Err(RedisError::Other("ERR no".into()))
        );
        assert_eq!(
            parsed(b"!6\r\nERR no\r\n"),
            Err(RedisError::Other("ERR no".into()))
        );
        assert_eq!(
            parsed(b"-ERR \xff\r\n"),
            Err(RedisError::Other("ERR \u{fffd}".into()))
        );
        assert!(matches!(parsed(b"+\xff\r\n"), Err(RedisError::Other(_))));
        assert!(matches!(
            parse("h:1", &Reply::TooLarge),
            Err(RedisError::Limited(_))
        ));
    }

    #[test]
    fn too_many_parts_are_an_error() {
        let many = Value::Array(vec![Value::Nil; REPLY_ELEMENTS as usize]);
        assert!(matches!(flatten(many), Err(RedisError::Limited(_))));
    }

    #[test]
    fn depth_is_no_danger() {
        let mut deep = Value::Nil;
        for _ in 0..1_000 {
            deep = Value::Array(vec![deep]);
        }
        assert_eq!(flatten(deep).unwrap().len(), 1_001);
    }

    /// Reads parts back: what flattening loses can be said, and nothing else is.
    fn nested(parts: &mut impl Iterator<Item = Part>) -> Value {
        match parts.next().unwrap() {
            Part::Nil => Value::Nil,
            Part::Integer(number) => Value::Int(number),
            Part::Boolean(truth) => Value::Boolean(truth),
            Part::Bytes(bytes) => Value::BulkString(bytes),
            Part::Array(length) => Value::Array((0..length).map(|_| nested(parts)).collect()),
            other => panic!("{other:?}"),
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            any::<bool>().prop_map(Value::Boolean),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            proptest::collection::vec(inner, 0..6).prop_map(Value::Array)
        })
    }

    proptest! {
        #[test]
        fn nothing_is_lost(value in any_value()) {
            let mut parts = flatten(value.clone()).unwrap().into_iter();
            prop_assert_eq!(nested(&mut parts), value);
            prop_assert_eq!(parts.next(), None);
        }

        #[test]
        fn no_answer_panics(wire in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parsed(&wire).and_then(flatten);
        }
    }
}
