//! What Redis answers.

use crate::{Error, Result};

/// How many arrays may stand inside each other. Redis's own answers need three or four; the bound keeps whatever
/// walks a value, such as its `Drop`, off the end of the stack.
const DEPTH: usize = 128;

/// A value that Redis answers. Maps are arrays of keys and values by turns, sets are arrays.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A simple string, such as `OK`.
    Status(String),
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Double(f64),
    /// True or false.
    Boolean(bool),
    /// A bulk string: text or anything else.
    Bytes(Vec<u8>),
    /// Values in their order.
    Array(Vec<Value>),
    /// An error inside an array, such as one of a script's results.
    Error(String),
}

impl Value {
    /// Whether it is [`Nil`](Self::Nil).
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The bytes of a bulk or a simple string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Status(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The text of a bulk or a simple string, where it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The integer.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// Rebuilds the tree from its parts in depth-first order.
    pub(crate) fn from_parts(parts: Vec<Part>) -> Result<Self> {
        let bad = |what: &str| {
            Error::Other(format!(
                "the host sent an answer of Redis in a shape that is none: {what}"
            ))
        };
        // The arrays that are still being filled, the outermost first, each with how many elements it lacks.
        let mut open: Vec<(u32, Vec<Value>)> = Vec::new();
        let mut parts = parts.into_iter();
        while let Some(part) = parts.next() {
            let mut value = match part {
                Part::Value(value) => value,
                Part::Array(0) => Self::Array(Vec::new()),
                Part::Array(lacking) => {
                    if open.len() == DEPTH {
                        return Err(Error::Other(format!(
                            "the answer of Redis nests more than {DEPTH} arrays"
                        )));
                    }
                    open.push((lacking, Vec::new()));
                    continue;
                }
            };
            loop {
                let Some((lacking, elements)) = open.last_mut() else {
                    return match parts.next() {
                        None => Ok(value),
                        Some(_) => Err(bad("parts follow the last one")),
                    };
                };
                elements.push(value);
                *lacking -= 1;
                if *lacking > 0 {
                    break;
                }
                value = Self::Array(open.pop().map(|(_, elements)| elements).unwrap_or_default());
            }
        }
        Err(bad("its last parts are missing"))
    }

    /// The parts in depth-first order: what the host would send.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn into_parts(self) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest = vec![self];
        while let Some(value) = rest.pop() {
            parts.push(match value {
                Self::Array(elements) => {
                    let part = Part::Array(elements.len() as u32);
                    rest.extend(elements.into_iter().rev());
                    part
                }
                value => Part::Value(value),
            });
        }
        parts
    }
}

/// One part of a value on its way from the host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// Anything but an array.
    Value(Value),
    /// How many of the parts that follow are the elements of this array.
    Array(u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use Part::Array;

    fn int(integer: i64) -> Part {
        Part::Value(Value::Integer(integer))
    }

    #[test]
    fn trees_come_back_as_they_were() {
        let tree = Value::Array(vec![
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![
                Value::Integer(1),
                Value::Array(vec![Value::Status("OK".into())]),
            ]),
            Value::Bytes(vec![0, 255]),
        ]);
        let parts = tree.clone().into_parts();
        assert_eq!(parts.len(), 8);
        assert_eq!(Value::from_parts(parts), Ok(tree));
        assert_eq!(Value::from_parts(vec![int(7)]), Ok(Value::Integer(7)));
        assert_eq!(Value::from_parts(vec![Array(0)]), Ok(Value::Array(vec![])));
    }

    #[test]
    fn bad_shapes_are_errors() {
        for parts in [
            vec![],
            vec![Array(1)],
            vec![Array(2), int(1)],
            vec![Array(u32::MAX), int(1)],
            vec![int(1), int(2)],
            vec![Array(1), int(1), int(2)],
            vec![Array(0), Array(0)],
            vec![Array(2), Array(1), int(1)],
        ] {
            assert!(
                matches!(Value::from_parts(parts.clone()), Err(Error::Other(_))),
                "{parts:?}"
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth| {
            let mut parts = vec![Array(1); depth];
            parts.push(int(1));
            Value::from_parts(parts)
        };
        assert!(nested(DEPTH).is_ok());
        assert!(nested(DEPTH + 1).is_err());
        assert!(nested(1_000_000).is_err());
    }
}
