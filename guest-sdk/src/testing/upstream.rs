//! Other servers, as a test plays them.

use std::{collections::VecDeque, time::Duration};

use crate::{Error, Result};

/// What another server answers to a request of the guest; see [`Host::upstream`](super::Host::upstream).
///
/// ```
/// use std::time::Duration;
/// use fanfare_guest::testing::Upstream;
///
/// let page = Upstream::new(200).header("content-type", "text/plain").chunk("hello");
/// let stream = Upstream::new(200).data("one").pause(Duration::from_secs(1)).data("two");
/// let broken = Upstream::new(200).data("one").cut();
/// ```
#[derive(Debug, Clone)]
#[must_use = "an answer has to be given to `Host::upstream`"]
pub struct Upstream {
    pub(crate) begins_after: Duration,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) pieces: VecDeque<Piece>,
}

#[derive(Debug, Clone)]
pub enum Piece {
    Data(Vec<u8>),
    Pause(Duration),
    Cut,
}

impl Upstream {
    /// A status, without headers and body.
    pub fn new(status: u16) -> Self {
        Self {
            begins_after: Duration::ZERO,
            status,
            headers: Vec::new(),
            pieces: VecDeque::new(),
        }
    }

    /// Lets the response begin after so long, on the clock of the host.
    pub fn begins_after(mut self, time: Duration) -> Self {
        self.begins_after = time;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Adds a piece to the body.
    pub fn chunk(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.pieces.push_back(Piece::Data(bytes));
        }
        self
    }

    /// Adds an event with this data, of one line.
    pub fn data(self, data: &str) -> Self {
        self.chunk(format!("data: {data}\n\n"))
    }

    /// Waits on the clock of the host before what comes next.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pieces.push_back(Piece::Pause(pause));
        self
    }

    /// Closes the connection in the middle of the body.
    pub fn cut(mut self) -> Self {
        self.pieces.push_back(Piece::Cut);
        self
    }
}

/// `Invalid` for a header that is the host's to set, as on a node.
pub fn check_headers(headers: &[(String, Vec<u8>)]) -> Result<()> {
    const OF_THE_HOST: [&str; 10] = [
        "connection",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let forbidden = headers.iter().find(|(name, _)| {
        OF_THE_HOST
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    });
    match forbidden {
        Some((name, _)) => Err(Error::Invalid(format!(
            "the header `{name}` is the host's to set"
        ))),
        None => Ok(()),
    }
}
