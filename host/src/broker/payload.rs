//! How an event is kept at a broker: two characters that say what it is, then the event in its form on the wire.
//!
//! The first character is the version of this form, the second says whether the data is JSON. Whatever else is there, of
//! a program that is none of ours or of a node of another version, is told apart.

use thiserror::Error;

use crate::event::{Data, Event, EventError, IdForm};

/// The version of this form. A node skips what has another.
const VERSION: u8 = b'1';
const TEXT: u8 = b't';
const JSON: u8 = b'j';

/// Why something is no event.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum PayloadError {
    /// It has another form.
    #[error("it does not begin as an event of a publisher does")]
    Form,
    /// Another version of the form.
    #[error(
        "it has version {:?}, and this node knows version {:?}: the nodes do not run the same software",
        char::from(*.0),
        char::from(VERSION)
    )]
    Version(u8),
    /// What it holds is no event.
    #[error("its event is none: {0}")]
    Event(#[from] EventError),
}

impl PayloadError {
    /// Whether it was an event of a node: one of another version, or one that is damaged. Else it is of another program.
    pub(super) fn is_of_a_node(&self) -> bool {
        !matches!(self, Self::Form)
    }
}

/// The event in the form in which it is kept.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    let kind = match event.data() {
        Data::Text(_) => TEXT,
        Data::Json(_) => JSON,
    };
    let wire = event.encode();
    let mut payload = Vec::with_capacity(3 + wire.len());
    payload.extend([VERSION, kind, b'\n']);
    payload.extend_from_slice(&wire);
    payload
}

/// Reads an event, whose data may have so many bytes, and whether its id came with it. One without is given this one.
pub(super) fn decode(
    payload: &[u8],
    id: impl FnOnce() -> String,
    limit: usize,
) -> Result<(Event, bool), PayloadError> {
    let (json, wire) = match payload {
        [VERSION, TEXT, b'\n', wire @ ..] => (false, wire),
        [VERSION, JSON, b'\n', wire @ ..] => (true, wire),
        [version @ b'0'..=b'9', b'a'..=b'z', b'\n', ..] if *version != VERSION => {
            return Err(PayloadError::Version(*version));
        }
        _ => return Err(PayloadError::Form),
    };
    let event = Event::decode(wire, json, limit)?;
    match event.id() {
        Some(_) => Ok((event, true)),
        None => Ok((event.with_id(id(), IdForm::Plain)?, false)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1000;

    fn read(payload: &[u8]) -> Result<(Event, bool), PayloadError> {
        decode(payload, || "e-7".into(), LIMIT)
    }

    #[test]
    fn an_event_without_an_id_is_given_one() {
        let event = Event::new(Data::Json("{}".into()), LIMIT).unwrap();
        let payload = encode(&event);
        assert_eq!(payload, b"1j\ndata: {}\n\n");
        let given = event.clone().with_id("e-7".into(), IdForm::Plain).unwrap();
        assert_eq!(read(&payload), Ok((given, false)));
        let own = event.with_id("größe 1".into(), IdForm::Any).unwrap();
        assert_eq!(read(&encode(&own)), Ok((own, true)));
    }

    #[test]
    fn everything_else_is_told_apart() {
        for bad in [
            "",
            "1",
            "1t",
            "hello",
            "1x\ndata: x\n\n",
            "data: x\n\n",
            "1t data: x\n\n",
        ] {
            assert_eq!(read(bad.as_bytes()), Err(PayloadError::Form), "{bad:?}");
            assert!(!PayloadError::Form.is_of_a_node());
        }
        let newer = read(b"2t\ndata: x\n\n").unwrap_err();
        assert_eq!(newer, PayloadError::Version(b'2'));
        assert!(newer.to_string().contains("version '2'"), "{newer}");
        assert!(newer.is_of_a_node());
        let large = format!("1t\ndata: {}\n\n", "x".repeat(LIMIT + 1));
        for bad in [
            "1t\n",
            "1t\nevil: x\n\n",
            "1j\ndata: {\n\n",
            "1t\nid: 1\n\n",
            &large,
        ] {
            assert!(
                matches!(read(bad.as_bytes()), Err(PayloadError::Event(_))),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn decode_reads_what_encode_wrote(
            id in "[^\r\n\0]{1,40}",
            data in "[^\r]{0,200}",
            json in any::<bool>(),
        ) {
            let data = if json { Data::Json(serde_json::json!(data).to_string()) } else { Data::Text(data) };
            let event = Event::new(data, 10_000).unwrap().with_id(id, IdForm::Any).unwrap();
            let read = decode(&encode(&event), || unreachable!(), 10_000);
            prop_assert_eq!(read, Ok((event, true)));
        }

        #[test]
        fn decode_survives_anything(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            near in "[12][tjx]\n(id: .{0,3}\n)?(data: .{0,9}\n){0,3}\n?",
        ) {
            let _ = read(&payload);
            let _ = read(near.as_bytes());
        }
    }
}
