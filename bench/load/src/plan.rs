//! What a load is to do.

use std::time::Duration;

use crate::target::Target;

/// What a load is to do. The fields of [`Plan::new`] are those of streams that are opened and stay.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where streams are opened.
    pub target: Target,
    /// How many are open at a time.
    pub streams: usize,
    /// How many may be on their way, from connecting to the head of the response: more overflow a server's queue.
    pub in_flight: usize,
    /// The most connects in a second.
    pub rate: Option<u64>,
    /// Headers of each request, besides `Host`, `Accept` and `Last-Event-ID`.
    pub headers: Vec<(String, String)>,
    /// The `Last-Event-ID` of each stream's first request. A stream that comes back sends the last id that it heard.
    pub last_event_id: Option<String>,
    /// What streams are to hear.
    pub expect: Expect,
    /// Events of this type are no payload: they are counted among the bytes alone.
    pub skip_type: Option<String>,
    /// A stream leaves after so many events, and another comes in its place.
    pub leave_after: Option<u64>,
    /// A stream that ended or could not be opened is opened again after this time, or what its server said by `retry`.
    pub reconnect: Option<Duration>,
    /// The first so many streams stop reading once they are open.
    pub stuck: usize,
}

/// What streams are to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything. A stream whose first event is a payload of the benchmark is checked like the others below.
    Any,
    /// Payloads of so many bytes, without a gap from the first that is heard on.
    Payloads {
        /// The bytes of data of one event.
        size: usize,
    },
    /// Payloads of so many bytes, without a gap from this number on.
    PayloadsFrom {
        /// The bytes of data of one event.
        size: usize,
        /// The number of the first event.
        number: u64,
    },
}

impl Plan {
    /// Streams that are opened, and stay until their server ends them.
    pub fn new(target: Target, streams: usize) -> Self {
        Self {
            target,
            streams,
            in_flight: 200,
            rate: None,
            headers: Vec::new(),
            last_event_id: None,
            expect: Expect::Any,
            skip_type: None,
            leave_after: None,
            reconnect: None,
            stuck: 0,
        }
    }
}
