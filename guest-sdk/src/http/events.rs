//! Reading an event stream (WHATWG HTML, 9.2.6 "Interpreting an event stream").

use std::{collections::VecDeque, time::Duration};

use super::Response;
use crate::{Error, Result, sys};

/// The most that one event may take, in bytes, all its lines together.
const EVENT_BYTES: usize = 8 << 20;

/// An event of another server's stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// The id that the stream stands at: the event's own, or that of an event before it; empty without any.
    pub last_event_id: String,
    /// The type; `message` where the event has none.
    pub event_type: String,
    /// The data, its lines joined by LF.
    pub data: String,
}

/// The events of a response, as they come: an iterator. Dropping it ends the request.
///
/// As in a browser, comments and reconnection times are skipped, and what the stream ends in the middle of is dropped.
/// After an error there is nothing more.
#[derive(Debug)]
pub struct Events {
    response: Response,
    parser: Parser,
    ready: VecDeque<Result<ServerEvent>>,
    over: bool,
}

impl Events {
    pub(super) fn new(response: Response) -> Self {
        Self {
            response,
            parser: Parser::default(),
            ready: VecDeque::new(),
            over: false,
        }
    }

    /// Waits until there is an event, an error or the end, at most so long, whatever else comes meanwhile: comments, or
    /// pieces of an event. True then: `next` does not wait. Between two calls a handler can look whether its own client
    /// is still there.
    pub fn wait(&mut self, most: Duration) -> bool {
        let begun = sys::http::now();
        let mut left = most;
        while self.ready.is_empty() && !self.over {
            if !self.response.wait(left) {
                return false;
            }
            self.read();
            left = most.saturating_sub(sys::http::now().saturating_sub(begun));
            // Something may be there at every look.
            if left.is_zero() {
                break;
            }
        }
        !self.ready.is_empty() || self.over
    }

    fn read(&mut self) {
        let read = match self.response.chunk() {
            Ok(Some(chunk)) => self.parser.feed(&chunk, &mut self.ready),
            Ok(None) => {
                self.over = true;
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            self.over = true;
            self.ready.push_back(Err(error));
        }
    }
}

impl Iterator for Events {
    type Item = Result<ServerEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.over {
            self.read();
        }
        self.ready.pop_front()
    }
}

#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: an LF after it belongs to the same line ending.
    after_cr: bool,
    /// A line was read: a byte order mark may stand before the first alone.
    begun: bool,
    id: String,
    event_type: String,
    data: String,
    has_data: bool,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8], ready: &mut VecDeque<Result<ServerEvent>>) -> Result<()> {
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            let ended = part
                .last()
                .copied()
                .filter(|byte| matches!(byte, b'\r' | b'\n'));
            let content = &part[..part.len() - usize::from(ended.is_some())];
            let after_cr = std::mem::replace(&mut self.after_cr, ended == Some(b'\r'));
            if after_cr && ended == Some(b'\n') && content.is_empty() {
                continue;
            }
            if self.line.len() + self.data.len() + content.len() > EVENT_BYTES {
                return Err(Error::Limited(format!(
                    "an event of the stream is larger than {EVENT_BYTES} bytes"
                )));
            }
            self.line.extend_from_slice(content);
            if ended.is_some() {
                let line = std::mem::take(&mut self.line);
                ready.extend(self.end_line(&line).map(Ok));
            }
        }
        Ok(())
    }

    /// Takes a line; an empty one completes an event.
    fn end_line(&mut self, line: &[u8]) -> Option<ServerEvent> {
        let first = !std::mem::replace(&mut self.begun, true);
        let line = match first {
            true => line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line),
            false => line,
        };
        if line.is_empty() {
            return self.complete();
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.event_type),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // Comments, reconnection times, and what the standard does not know.
            _ => {}
        }
        None
    }

    fn complete(&mut self) -> Option<ServerEvent> {
        let (event_type, data) = (
            std::mem::take(&mut self.event_type),
            std::mem::take(&mut self.data),
        );
        std::mem::take(&mut self.has_data).then(|| ServerEvent {
            last_event_id: self.id.clone(),
            event_type: match event_type.is_empty() {
                true => "message".to_owned(),
                false => event_type,
            },
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stream says, fed in pieces of so many bytes.
    fn parse(text: &str, piece: usize) -> Vec<(String, String, String)> {
        let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
        for piece in text.as_bytes().chunks(piece) {
            parser.feed(piece, &mut ready).unwrap();
        }
        let events = ready.into_iter().map(Result::unwrap);
        events
            .map(|event| (event.last_event_id, event.event_type, event.data))
            .collect()
    }

    #[test]
    fn streams_are_read_as_the_standard_says_however_they_are_cut() {
        for (text, expected) in [
            ("data: a\n\n", vec![("", "message", "a")]),
            (
                "data: a\r\n\r\ndata:b\r\rdata:  c\n\n",
                vec![
                    ("", "message", "a"),
                    ("", "message", "b"),
                    ("", "message", " c"),
                ],
            ),
            (
                "\u{feff}id: 1\nevent: x\ndata: a\ndata\ndata: b\n\n",
                vec![("1", "x", "a\n\nb")],
            ),
            (
                "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
                vec![
                    ("1", "message", "a"),
                    ("1", "message", "b"),
                    ("", "message", "c"),
                ],
            ),
            ("event: lost\n\ndata: a\n\n", vec![("", "message", "a")]),
            (
                ": comment\nretry: 10\nid: a\0b\nother: x\ndata:\n\n",
                vec![("", "message", "")],
            ),
            (
                "data: grüße 🎉\n\ndata: not complete\n",
                vec![("", "message", "grüße 🎉")],
            ),
        ] {
            let owned = |(id, kind, data): &(&str, &str, &str)| {
                ((*id).to_owned(), (*kind).to_owned(), (*data).to_owned())
            };
            let expected: Vec<_> = expected.iter().map(owned).collect();
            for piece in [1, 2, 3, text.len()] {
                assert_eq!(
                    parse(text, piece),
                    expected,
                    "{text:?} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn an_event_without_an_end_is_refused() {
        let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
        let piece = [b'x'; 1 << 20];
        let mut fed = (0..20).map(|_| parser.feed(&piece, &mut ready));
        assert!(fed.any(|fed| matches!(fed, Err(Error::Limited(_)))));
    }
}
