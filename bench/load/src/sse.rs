//! The event stream format, from any split of bytes.

use std::{mem, time::Duration};

use memchr::memchr2;

/// What buffers may keep for the next event, in bytes; more is given back.
const KEPT: usize = 16 * 1024;

/// What stands in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An event.
    Event {
        /// Its type; empty where none was given, which means `message`.
        kind: &'a [u8],
        /// Its data, a line feed between two lines.
        data: &'a [u8],
    },
    /// A comment.
    Comment,
    /// How long to wait before coming back.
    Retry(Duration),
}

/// The place in a stream. Its buffers grow with the first event and stay.
#[derive(Debug, Default)]
pub struct Parser {
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// The data of the event so far, a line feed after each line.
    data: Vec<u8>,
    kind: Vec<u8>,
    /// The id that the next event's end makes the last one.
    id: Vec<u8>,
    last_id: Vec<u8>,
    /// The last byte was a carriage return: a line feed is part of that end of line.
    after_return: bool,
    /// A line has been read: no byte order mark can come.
    begun: bool,
}

impl Parser {
    /// The start of a stream that a client comes back to.
    pub fn after(last_id: &[u8]) -> Self {
        Self {
            id: last_id.to_vec(),
            last_id: last_id.to_vec(),
            ..Self::default()
        }
    }

    /// The id of the last event, empty if there was none: what a client that comes back sends.
    pub fn last_id(&self) -> &[u8] {
        &self.last_id
    }

    /// Takes bytes, and hands out what is whole.
    pub fn feed(&mut self, mut bytes: &[u8], mut item: impl FnMut(Item)) {
        while !bytes.is_empty() {
            if mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else {
                self.line.extend_from_slice(bytes);
                return;
            };
            self.after_return = bytes[end] == b'\r';
            if self.line.is_empty() {
                self.line(&bytes[..end], &mut item);
            } else {
                let mut line = mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.line(&line, &mut item);
                self.line = kept(line);
            }
            bytes = &bytes[end + 1..];
        }
    }

    fn line(&mut self, mut line: &[u8], item: &mut impl FnMut(Item)) {
        if !mem::replace(&mut self.begun, true) {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(item);
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return item(Item::Comment),
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => set(&mut self.kind, value),
            b"id" if !value.contains(&0) => set(&mut self.id, value),
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let text = std::str::from_utf8(value).unwrap_or_default();
                // What is longer than that is for ever.
                let milliseconds = text.parse().unwrap_or(u64::from(u32::MAX));
                item(Item::Retry(Duration::from_millis(milliseconds)));
            }
            _ => {}
        }
    }

    /// The event has ended.
    fn dispatch(&mut self, item: &mut impl FnMut(Item)) {
        if self.last_id != self.id {
            set(&mut self.last_id, &self.id);
        }
        if let Some(data) = self.data.strip_suffix(b"\n") {
            item(Item::Event {
                kind: &self.kind,
                data,
            });
        }
        self.data = kept(mem::take(&mut self.data));
        self.kind.clear();
    }
}

fn set(buffer: &mut Vec<u8>, value: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(value);
}

/// A buffer that is empty again, given back where it has become large.
fn kept(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer.shrink_to(KEPT);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parts: &[&[u8]]) -> (Vec<String>, String) {
        let mut parser = Parser::default();
        let mut items = Vec::new();
        for part in parts {
            parser.feed(part, |item| {
                items.push(match item {
                    Item::Event { kind, data } => format!(
                        "{}|{}",
                        String::from_utf8_lossy(kind),
                        String::from_utf8_lossy(data)
                    ),
                    Item::Comment => ":".to_owned(),
                    Item::Retry(time) => format!("retry {}", time.as_millis()),
                });
            });
        }
        (
            items,
            String::from_utf8_lossy(parser.last_id()).into_owned(),
        )
    }

    const STREAM: &str = "\u{feff}: hello\n\nid: 1\nevent: a\ndata: one\ndata:two\ndata\n\nretry: 250\nretry: x\n\
        data:  three\nfoo: bar\nevent\n\nid\nevent: none\n\ndata: four\nid: 2\0\n\ndata\n\ndata: not ended\nid: 3\n";

    const ITEMS: [&str; 6] = [":", "a|one\ntwo\n", "retry 250", "| three", "|four", "|"];

    #[test]
    fn every_split_is_the_same() {
        for ends in ["\n", "\r", "\r\n"] {
            let stream = STREAM.replace('\n', ends);
            let bytes = stream.as_bytes();
            for split in 0..=bytes.len() {
                let (items, last_id) = all(&[&bytes[..split], &bytes[split..]]);
                assert_eq!(items, ITEMS, "{ends:?} {split}");
                assert_eq!(last_id, "");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(all(&single).0, ITEMS, "{ends:?}");
        }
    }

    #[test]
    fn an_id_counts_once_its_event_has_ended() {
        assert_eq!(all(&[b"id: a\ndata: x\n"]).1, "");
        assert_eq!(all(&[b"id: a\ndata: x\n\nid: b\n"]).1, "a");
        assert_eq!(all(&[b"id: a\ndata: x\n\ndata: y\n\n"]).1, "a");
        assert_eq!(all(&[b"id: a\ndata: x\n\nid: b\n\n"]).1, "b");
    }

    #[test]
    fn large_events_leave_nothing_behind() {
        let mut parser = Parser::default();
        let event = format!("data: {}\n\n", "x".repeat(1 << 20));
        for part in event.as_bytes().chunks(1000) {
            parser.feed(part, |_| {});
        }
        assert!(parser.data.capacity() <= KEPT && parser.line.capacity() <= KEPT);
    }
}
