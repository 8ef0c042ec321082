//! An event stream as its client sees it.

use std::{fmt, rc::Rc, time::Duration};

use serde::de::DeserializeOwned;

use super::fake::Fake;
use crate::{CloseReason, Result};

/// The client's end of a connection. Clones are the same end.
#[derive(Clone)]
pub struct Stream {
    fake: Rc<Fake>,
    index: usize,
}

impl Stream {
    pub(super) fn new(fake: Rc<Fake>, index: usize) -> Self {
        Self { fake, index }
    }

    /// The id of the connection.
    pub fn id(&self) -> String {
        self.fake.state().stream(self.index).id.clone()
    }

    /// The events that the client heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.fake.state().stream(self.index).heard.clone()
    }

    /// The data of those events.
    pub fn data(&self) -> Vec<String> {
        self.heard().into_iter().map(|event| event.data).collect()
    }

    /// The names of the channels that the connection hears now, sorted; none after its end.
    pub fn channels(&self) -> Vec<String> {
        self.fake.state().stream(self.index).channels()
    }

    /// Whether the stream is still open.
    pub fn is_open(&self) -> bool {
        self.end().is_none()
    }

    /// Why the stream ended; `None` while it is open.
    pub fn end(&self) -> Option<CloseReason> {
        self.fake.state().stream(self.index).end
    }

    /// After how long without an event the host sends a comment, where the handler said so; zero for never.
    pub fn ping_interval(&self) -> Option<Duration> {
        let options = self.fake.state().stream(self.index).options.ping_interval;
        options.map(|milliseconds| Duration::from_millis(milliseconds.into()))
    }

    /// The client goes away.
    pub fn hang_up(&self) {
        self.end_with(CloseReason::ClientGone);
    }

    /// The stream ends for another reason, such as [`Shutdown`](CloseReason::Shutdown) of the node.
    pub fn end_with(&self, reason: CloseReason) {
        self.fake.state().end(self.index, reason);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("id", &self.id())
            .field("end", &self.end())
            .field("heard", &self.heard())
            .finish()
    }
}

/// An event as `EventSource` would hand it to a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When, on the clock of the host.
    pub at: Duration,
    /// The id that the event carried.
    pub id: Option<String>,
    /// The type; `message` where the event had none.
    pub event_type: String,
    /// The data, every end of a line an LF.
    pub data: String,
    /// How long the client was told to wait before it reconnects.
    pub retry: Option<Duration>,
}

impl Heard {
    /// Reads the data as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(&self.data)?)
    }
}
