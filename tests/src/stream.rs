//! An event stream, whatever it came over.

use std::{collections::VecDeque, time::Instant};

use crate::{
    client::Head,
    sse::{Event, Item, Parser},
    wait::PATIENCE,
};

/// The body of a response, as it comes.
pub trait Body: Send {
    /// The next bytes, or the end. Panics where none of both comes in time.
    fn next(&mut self) -> Result<Vec<u8>, End>;

    /// Goes away in some manner, see [`Leave`].
    fn leave(self: Box<Self>, manner: Leave);
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As HTTP says: the last chunk came, or what `content-length` told, or the socket was closed in a response that
    /// tells its end in no other way.
    Complete,
    /// The socket was closed or reset before.
    Cut,
}

/// How a client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It closes the socket.
    Close,
    /// It resets the socket, or the stream of an HTTP/2 connection.
    Reset,
}

/// An event stream.
pub struct Stream {
    head: Head,
    body: Box<dyn Body>,
    parser: Parser,
    raw: Vec<u8>,
    /// What was parsed and is not asked for yet.
    items: VecDeque<Item>,
    last_event_id: String,
}

impl Stream {
    /// A stream whose head was read.
    pub fn new(head: Head, body: Box<dyn Body>) -> Self {
        Self {
            head,
            body,
            parser: Parser::new(),
            raw: Vec::new(),
            items: VecDeque::new(),
            last_event_id: String::new(),
        }
    }

    /// The head of the response.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// All bytes of the body that were read so far.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// As [`Stream::raw`], which has to be UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.raw).expect("an event stream is UTF-8")
    }

    /// What a client would send as `Last-Event-ID` that has heard what was asked for so far.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The next event, comment or reconnection time; or the end.
    #[track_caller]
    pub fn next_item(&mut self) -> Result<Item, End> {
        loop {
            let item = self.items.pop_front();
            if let Some(Item::Event(event)) = &item {
                self.last_event_id.clone_from(&event.last_event_id);
            }
            if self.items.is_empty() {
                // An id may stand on its own, too.
                self.parser
                    .last_event_id()
                    .clone_into(&mut self.last_event_id);
            }
            if let Some(item) = item {
                return Ok(item);
            }
            let bytes = self.body.next()?;
            self.raw.extend_from_slice(&bytes);
            self.items.extend(self.parser.feed(&bytes));
        }
    }

    /// The next event; what comes before it is skipped.
    #[track_caller]
    pub fn next_event(&mut self) -> Event {
        let begun = Instant::now();
        loop {
            match self.next_item() {
                Ok(Item::Event(event)) => return event,
                // Pings may go on for ever.
                Ok(_) => assert!(
                    begun.elapsed() < PATIENCE,
                    "no event for {PATIENCE:?}; it had said {:?}",
                    self.said()
                ),
                Err(end) => panic!(
                    "an event was to come, and the stream ended: {end:?}; it had said {:?}",
                    self.said()
                ),
            }
        }
    }

    /// The data of the next `count` events.
    #[track_caller]
    pub fn next_data(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next_event().data).collect()
    }

    /// The next comment; an event before it is a failure.
    #[track_caller]
    pub fn next_comment(&mut self) -> String {
        loop {
            match self.next_item() {
                Ok(Item::Comment(comment)) => return comment,
                Ok(Item::Retry(_)) => {}
                other => panic!(
                    "a comment was to come, and there came {other:?}; it had said {:?}",
                    self.said()
                ),
            }
        }
    }

    /// All events until the end, and how it ended.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<Event>, End) {
        let (mut events, begun) = (Vec::new(), Instant::now());
        loop {
            match self.next_item() {
                Ok(Item::Event(event)) => events.push(event),
                Ok(_) => {}
                Err(end) => return (events, end),
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "no end for {PATIENCE:?}; it had said {:?}",
                self.said()
            );
        }
    }

    /// Waits for the end, and how it ended. An event before it is a failure.
    #[track_caller]
    pub fn wait_end(&mut self) -> End {
        let (events, end) = self.rest();
        assert!(
            events.is_empty(),
            "the stream was to end, and said {events:?}"
        );
        end
    }

    /// Closes the socket.
    pub fn close(self) {
        self.body.leave(Leave::Close);
    }

    /// Resets the socket, or the stream of an HTTP/2 connection.
    pub fn reset(self) {
        self.body.leave(Leave::Reset);
    }

    fn said(&self) -> String {
        let last = self.raw.len().saturating_sub(500);
        String::from_utf8_lossy(&self.raw[last..]).into_owned()
    }
}
