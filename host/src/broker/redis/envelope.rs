//! What travels between nodes: a line of JSON that says what it is, then the event in its form on the wire.
//!
//! Whatever else is published on the Redis channel, by a program that is none of ours or by a node of another
//! version, is told apart and skipped.

use std::borrow::Cow;

use serde::Deserialize;
use thiserror::Error;

use crate::{
    event::{Data, Event, EventError},
    hub::channel::{ChannelName, NameError},
};

/// The version of this form. A node skips what has another.
const VERSION: u32 = 1;
/// The longest first line: a channel's name may double when it is written as JSON.
const HEADER_BYTES: usize = 1024;
/// The longest name of a node.
const NODE_BYTES: usize = 64;

/// An event that a node published.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// Who published it.
    pub(super) node: String,
    /// The number that it has there.
    pub(super) number: u64,
    pub(super) channel: ChannelName,
    pub(super) event: Event,
}

/// Why a message is not an envelope.
#[derive(Debug, Error)]
pub(super) enum EnvelopeError {
    #[error("it does not begin with a line of JSON that says what it is")]
    Header,
    #[error(
        "it has version {0}, and this node knows version {VERSION}: the nodes do not run the same software"
    )]
    Version(u32),
    #[error("its channel is none: {0}")]
    Channel(#[from] NameError),
    #[error("its event is none: {0}")]
    Event(#[from] EventError),
    #[error("its event has no id")]
    Id,
}

/// The first line, without its version.
#[derive(Deserialize)]
struct Header<'a> {
    node: &'a str,
    number: u64,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    json: bool,
}

/// What every version has.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Puts an event in its envelope.
pub(super) fn encode(node: &str, number: u64, channel: &ChannelName, event: &Event) -> Vec<u8> {
    let json = matches!(event.data(), Data::Json(_));
    let header = serde_json::json!({
        "v": VERSION,
        "node": node,
        "number": number,
        "channel": channel.as_str(),
        "json": json,
    });
    let mut out = header.to_string().into_bytes();
    out.push(b'\n');
    out.extend_from_slice(&event.encode());
    out
}

impl Envelope {
    /// Reads a message from the Redis channel; data of an event may have so many bytes.
    pub(super) fn decode(message: &[u8], limit: usize) -> Result<Self, EnvelopeError> {
        let end = message
            .iter()
            .take(HEADER_BYTES)
            .position(|byte| *byte == b'\n');
        let end = end.ok_or(EnvelopeError::Header)?;
        let (line, event) = (&message[..end], &message[end + 1..]);
        let Version { v } = serde_json::from_slice(line).map_err(|_| EnvelopeError::Header)?;
        if v != VERSION {
            return Err(EnvelopeError::Version(v));
        }
        let header: Header<'_> = serde_json::from_slice(line).map_err(|_| EnvelopeError::Header)?;
        if header.node.len() > NODE_BYTES {
            return Err(EnvelopeError::Header);
        }
        let channel = ChannelName::new(&header.channel)?;
        let event = Event::decode(event, header.json, limit)?;
        if event.id().is_none() {
            // Each node would give it another.
            return Err(EnvelopeError::Id);
        }
        Ok(Self {
            node: header.node.to_owned(),
            number: header.number,
            channel,
            event,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::IdForm;

    const LIMIT: usize = 1000;

    fn event(data: Data) -> Event {
        Event::new(data, LIMIT)
            .unwrap()
            .with_id("7".into(), IdForm::Plain)
            .unwrap()
    }

    fn text(envelope: &str) -> Result<Envelope, EnvelopeError> {
        Envelope::decode(envelope.as_bytes(), LIMIT)
    }

    #[test]
    fn it_is_a_line_of_json_and_the_event() {
        let channel = ChannelName::new("a\"b").unwrap();
        let wire = encode("n1", 5, &channel, &event(Data::Json("{}".into())));
        let wire = String::from_utf8(wire).unwrap();
        let (header, rest) = wire.split_once('\n').unwrap();
        let header: serde_json::Value = serde_json::from_str(header).unwrap();
        assert_eq!(
            header,
            serde_json::json!({"v": 1, "node": "n1", "number": 5, "channel": "a\"b", "json": true})
        );
        assert_eq!(rest, "id: 7\ndata: {}\n\n");
    }

    #[test]
    fn the_longest_channel_fits() {
        for name in ["\"".repeat(255), "☂".repeat(85)] {
            let channel = ChannelName::new(&name).unwrap();
            let wire = encode(
                &"f".repeat(16),
                u64::MAX,
                &channel,
                &event(Data::Text("x".into())),
            );
            assert_eq!(Envelope::decode(&wire, LIMIT).unwrap().channel, channel);
        }
    }

    #[test]
    fn everything_else_is_told_apart() {
        let good = "{\"v\":1,\"node\":\"n\",\"number\":1,\"channel\":\"c\",\"json\":false}\nid: 1\ndata: x\n\n";
        assert!(text(good).is_ok());
        for (bad, version) in [
            ("", false),
            ("hello", false),
            ("\n", false),
            ("{}\nid: 1\ndata: x\n\n", false),
            (&good.replace("\"v\":1", "\"v\":2"), true),
            ("{\"v\":3,\"other\":[]}\n...", true),
            (&good.replace("\"c\"", "\"\""), false),
            (&good.replace("\"c\"", "\"a\\nb\""), false),
            (&good.replace("id: 1\n", ""), false),
            (&good.replace("data: x\n", ""), false),
            (&good.replace("\"json\":false", "\"json\":true"), false),
            (
                &good.replace("\"n\"", &format!("{:?}", "n".repeat(65))),
                false,
            ),
            (
                &good.replace("data: x", &format!("data: {}", "x".repeat(LIMIT + 1))),
                false,
            ),
            (
                &good.replace('{', &format!("{{{}", " ".repeat(HEADER_BYTES))),
                false,
            ),
        ] {
            let error = text(bad).unwrap_err();
            assert_eq!(
                matches!(error, EnvelopeError::Version(_)),
                version,
                "{bad:?}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn decode_reads_what_encode_wrote(
            node in "[0-9a-f]{1,16}",
            number in any::<u64>(),
            channel in "[^\\p{Cc}]{1,60}",
            data in "[^\r]{0,200}",
            json in any::<bool>(),
        ) {
            let data = if json { Data::Json(serde_json::json!(data).to_string()) } else { Data::Text(data) };
            let event = Event::new(data, 10_000).unwrap().with_id("i d".into(), IdForm::Any).unwrap();
            let channel = ChannelName::new(&channel).unwrap();
            let wire = encode(&node, number, &channel, &event);
            prop_assert_eq!(Envelope::decode(&wire, 10_000).unwrap(), Envelope { node, number, channel, event });
        }

        #[test]
        fn decode_survives_anything(
            message in proptest::collection::vec(any::<u8>(), 0..200),
            near in "\\{\"v\":1,\"node\":\"n\",\"number\":[0-9]{1,25},\"channel\":\"[^\"]{0,3}\",\"json\":(true|false)\\}\n(id: .{0,3}\n)?(data: .{0,9}\n){0,3}\n?",
        ) {
            let _ = Envelope::decode(&message, LIMIT);
            let _ = Envelope::decode(near.as_bytes(), LIMIT);
        }
    }
}
