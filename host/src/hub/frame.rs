//! A frame: an encoded event with its place in the order. Everybody who is to hear it shares it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::event::{self, Data, Event};

/// An event, or another block of a stream, as it leaves.
#[derive(Debug)]
pub(super) struct Frame {
    /// Its place in the order of the hub.
    pub(super) sequence: u64,
    /// When it was made.
    pub(super) at: Instant,
    /// Between a chunk's head and its end (RFC 9112, section 7.1), so that it can be written as it is; within them,
    /// as other carriers want it.
    chunk: Bytes,
    /// The bytes of the chunk's head.
    head: u8,
    /// The bytes of the id; 0 where there is none. They stand in front, after `id: `.
    id: u16,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Published on a channel.
    Published {
        /// Whether the id came with it, or is the hub's.
        own_id: bool,
        /// Whether the data is JSON.
        json: bool,
    },
    /// Sent to one connection.
    Sent,
    /// The host's own words.
    Word,
    /// A comment.
    Ping,
    /// What ends the body of a response.
    LastChunk,
}

/// What follows the data of a chunk.
const CHUNK_END: &str = "\r\n";
/// What stands in front of an id.
const ID_FIELD: &str = "id: ";

impl Frame {
    /// An event for a channel. `rest` is what [`Event::encode_after_id`] wrote.
    pub(super) fn published(event: &Event, id: &str, rest: &str, sequence: u64) -> Arc<Self> {
        let kind = Kind::Published {
            own_id: event.id().is_some(),
            json: matches!(event.data(), Data::Json(_)),
        };
        Self::new(sequence, id, &[ID_FIELD, id, "\n", rest], kind)
    }

    /// An event that a broker has carried: `own_id` tells whether its id came with it. It was published so long ago.
    pub(super) fn carried(event: &Event, own_id: bool, sequence: u64, age: Duration) -> Arc<Self> {
        let json = matches!(event.data(), Data::Json(_));
        let id = event.id().unwrap_or_default();
        let rest = event.encode_after_id();
        let kind = Kind::Published { own_id, json };
        let mut frame = Self::made(sequence, id, &[ID_FIELD, id, "\n", &rest], kind);
        frame.at = frame.at.checked_sub(age).unwrap_or(frame.at);
        Arc::new(frame)
    }

    /// An event for one connection.
    pub(super) fn sent(event: &Event, rest: &str, sequence: u64) -> Arc<Self> {
        match event.id() {
            Some(id) => Self::new(sequence, id, &[ID_FIELD, id, "\n", rest], Kind::Sent),
            None => Self::new(sequence, "", &[rest], Kind::Sent),
        }
    }

    /// A block that the host says of its own.
    pub(super) fn word(block: &str, sequence: u64) -> Arc<Self> {
        Self::new(sequence, "", &[block], Kind::Word)
    }

    /// A comment.
    pub(super) fn ping() -> Arc<Self> {
        Self::new(0, "", &[event::PING], Kind::Ping)
    }

    /// The end of a chunked body. It is nothing to other carriers.
    pub(super) fn last_chunk() -> Arc<Self> {
        Arc::new(Self {
            sequence: u64::MAX,
            at: Instant::now(),
            chunk: Bytes::from_static(b"0\r\n\r\n"),
            head: 3,
            id: 0,
            kind: Kind::LastChunk,
        })
    }

    fn new(sequence: u64, id: &str, pieces: &[&str], kind: Kind) -> Arc<Self> {
        Arc::new(Self::made(sequence, id, pieces, kind))
    }

    fn made(sequence: u64, id: &str, pieces: &[&str], kind: Kind) -> Self {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let head = format!("{bytes:x}\r\n");
        let mut chunk = String::with_capacity(head.len() + bytes + CHUNK_END.len());
        chunk.push_str(&head);
        for piece in pieces {
            chunk.push_str(piece);
        }
        chunk.push_str(CHUNK_END);
        Self {
            sequence,
            at: Instant::now(),
            chunk: Bytes::from(chunk),
            head: head.len() as u8,
            id: id.len() as u16,
            kind,
        }
    }

    /// The frame as a chunk of an HTTP/1.1 body.
    pub(super) fn chunk(&self) -> &[u8] {
        &self.chunk
    }

    /// The frame alone.
    pub(super) fn block(&self) -> &[u8] {
        &self.chunk[self.head as usize..self.chunk.len() - CHUNK_END.len()]
    }

    /// The frame alone, to keep.
    pub(super) fn plain(&self) -> Bytes {
        self.chunk.slice_ref(self.block())
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.block().len()
    }

    /// The id; empty where there is none.
    pub(super) fn id(&self) -> &str {
        let start = self.head as usize + ID_FIELD.len();
        let id = self.chunk.get(start..start + self.id as usize);
        id.and_then(|id| str::from_utf8(id).ok())
            .unwrap_or_default()
    }

    /// The id, if it came with the event.
    pub(super) fn own_id(&self) -> Option<&str> {
        matches!(self.kind, Kind::Published { own_id: true, .. }).then(|| self.id())
    }

    /// Whether a guest said it.
    pub(super) fn is_event(&self) -> bool {
        matches!(self.kind, Kind::Published { .. } | Kind::Sent)
    }

    /// Whether it is a comment.
    pub(super) fn is_ping(&self) -> bool {
        self.kind == Kind::Ping
    }

    /// The event, read back.
    pub(super) fn event(&self, limit: usize) -> Option<Event> {
        let json = matches!(self.kind, Kind::Published { json: true, .. });
        Event::decode(self.block(), json, limit).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_chunk_with_the_event_in_it() {
        let event = Event::new(Data::Text("x".into()), 10).unwrap();
        let frame = Frame::published(&event, "e-1", &event.encode_after_id(), 1);
        assert_eq!(frame.chunk(), b"11\r\nid: e-1\ndata: x\n\n\r\n");
        assert_eq!(&frame.plain()[..], b"id: e-1\ndata: x\n\n");
        assert_eq!((frame.len(), frame.id()), (0x11, "e-1"));
        assert_eq!(frame.own_id(), None);
        let read = frame.event(10).unwrap();
        assert_eq!((read.id(), read.data()), (Some("e-1"), event.data()));
    }

    #[test]
    fn what_has_no_id_has_the_empty_one() {
        assert_eq!(Frame::word("retry: 1\n\n", 1).id(), "");
        assert_eq!(Frame::last_chunk().plain(), "");
    }
}
