//! A parser of event streams, written from the HTML Living Standard, section 9.2.6 "Interpreting an event stream",
//! and from nothing of the host.

/// What a stream says, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event was dispatched.
    Event(Event),
    /// A comment, without its colon.
    Comment(String),
    /// The reconnection time was set, in milliseconds.
    Retry(u64),
}

/// An event as a listener gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `MessageEvent.type`: `message` where the stream says none.
    pub event_type: String,
    /// `MessageEvent.data`.
    pub data: String,
    /// `MessageEvent.lastEventId`: the last id that the stream has set, by this event or an earlier one.
    pub last_event_id: String,
}

/// The parser. It may be fed in pieces of any size.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes of a line that has not ended.
    line: Vec<u8>,
    /// The last byte was a CR: an LF would belong to it.
    after_cr: bool,
    /// A line has ended: a byte order mark would be no such any more.
    begun: bool,
    data: String,
    event_type: String,
    /// Becomes the last event id when an event ends, dispatched or not.
    id: String,
    last_event_id: String,
}

impl Parser {
    /// A parser at the begin of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a client would send as `Last-Event-ID` now.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Parses more of the stream. What stands before its last empty line is all that ever comes of it: there is
    /// nothing to be called at the end, since an event without its empty line is not dispatched.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => self.end_line(&mut items),
                _ => self.line.push(byte),
            }
        }
        items
    }

    fn end_line(&mut self, items: &mut Vec<Item>) {
        let bytes = std::mem::take(&mut self.line);
        let bytes = match std::mem::replace(&mut self.begun, true) {
            false => bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes),
            true => &bytes,
        };
        let line = String::from_utf8_lossy(bytes);
        if line.is_empty() {
            items.extend(self.dispatch().map(Item::Event));
        } else if let Some(comment) = line.strip_prefix(':') {
            items.push(Item::Comment(comment.to_owned()));
        } else {
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            items.extend(self.field(field, value.strip_prefix(' ').unwrap_or(value)));
        }
    }

    fn field(&mut self, field: &str, value: &str) -> Option<Item> {
        match field {
            "event" => value.clone_into(&mut self.event_type),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                return value.parse().ok().map(Item::Retry);
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_event_id.clone_from(&self.id);
        let event_type = std::mem::take(&mut self.event_type);
        let mut data = std::mem::take(&mut self.data);
        // Removes the last LF; where there is none, there was no data, and there is no event.
        data.pop()?;
        Some(Event {
            event_type: if event_type.is_empty() {
                "message".to_owned()
            } else {
                event_type
            },
            data,
            last_event_id: self.last_event_id.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
