//! The client's side of a stream: a body that a library would take from, or a real socket.

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream},
    pin::Pin,
    sync::Arc,
};

use futures_util::{FutureExt, Stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::hub::delivery::{Delivery, body::Body, outlet::Framing};

/// What a client hears.
#[derive(Debug, Clone)]
pub enum Item {
    Event {
        id: Option<String>,
        data: String,
    },
    Gap {
        channel: String,
        last: String,
        /// It has to be told. Otherwise it may be: a channel that does not exist has forgotten what it had.
        sure: bool,
    },
    /// Come back in a while.
    Retry,
}

/// How a stream reaches its client.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    Body,
    Chunked,
    Plain,
}

/// A client's side.
#[derive(Debug)]
pub struct Wire {
    carrier: Carrier,
    /// Bytes of the body that make no whole block yet.
    rest: String,
    /// Bytes of the socket that make no whole chunk yet.
    raw: Vec<u8>,
    pub heard: Vec<Item>,
    /// What an `EventSource` would come back with.
    pub last_id: Option<String>,
    /// The stream has come to its end, as it should.
    pub complete: bool,
    /// Nothing follows.
    pub over: bool,
}

#[derive(Debug)]
enum Carrier {
    /// The response is still to be made.
    Pending(Delivery),
    Body(Body),
    Socket(TcpStream, Framing),
    /// The client is gone.
    Gone,
}

/// What a socket takes before its client reads is small, so that a client can be slow.
const SEND_BUFFER: usize = 8 * 1024;

impl Item {
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Event { id, .. } => id.as_deref(),
            _ => None,
        }
    }

    /// Whether a client that ought to hear `self` heard `other`.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Event { id, data },
                Self::Event {
                    id: other,
                    data: same,
                },
            ) => id == other && data == same,
            (
                Self::Gap { channel, last, .. },
                Self::Gap {
                    channel: other,
                    last: same,
                    ..
                },
            ) => channel == other && last == same,
            (Self::Retry, Self::Retry) => true,
            _ => false,
        }
    }

    /// Whether it has to be heard.
    pub fn is_sure(&self) -> bool {
        !matches!(self, Self::Gap { sure: false, .. })
    }

    /// At least what it costs while it waits.
    pub fn cost(&self) -> usize {
        match self {
            Self::Event { data, .. } => data.len() + 128,
            _ => 256,
        }
    }
}

/// What is left of what a client ought to hear after what it heard; `None` if it heard something else.
pub fn after<'a>(expected: &'a [(u64, Item)], heard: &[Item]) -> Option<&'a [(u64, Item)]> {
    let Some((item, later)) = heard.split_first() else {
        return Some(expected);
    };
    let (first, rest) = expected.split_first()?;
    let taken = || first.1.is(item).then(|| after(rest, later)).flatten();
    match first.1.is_sure() {
        true => taken(),
        // It may have been another's, of the same name in the other space.
        false => after(rest, heard).or_else(taken),
    }
}

impl Wire {
    pub fn new(delivery: Delivery) -> Self {
        Self {
            carrier: Carrier::Pending(delivery),
            rest: String::new(),
            raw: Vec::new(),
            heard: Vec::new(),
            last_id: None,
            complete: false,
            over: false,
        }
    }

    /// The head of its response has left, and it has not.
    pub fn is_attached(&self) -> bool {
        matches!(self.carrier, Carrier::Body(_) | Carrier::Socket(..))
    }

    pub fn is_socket(&self) -> bool {
        matches!(self.carrier, Carrier::Socket(..))
    }

    /// The head of the response has left.
    pub fn attach(&mut self, way: Way, seats: &Arc<Semaphore>) {
        self.carrier = match (std::mem::replace(&mut self.carrier, Carrier::Gone), way) {
            (Carrier::Pending(delivery), Way::Body) => {
                Carrier::Body(delivery.into_body(CancellationToken::new()))
            }
            (Carrier::Pending(delivery), _) => {
                let framing = match way {
                    Way::Chunked => Framing::Chunked,
                    _ => Framing::Close,
                };
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (server, _) = listener.accept().unwrap();
                for socket in [&client, &server] {
                    socket.set_nonblocking(true).unwrap();
                }
                let buffers = socket2::SockRef::from(&server);
                buffers.set_send_buffer_size(SEND_BUFFER).unwrap();
                let seat = seats.clone().try_acquire_owned().unwrap();
                delivery.take_over(server, framing, seat);
                Carrier::Socket(client, framing)
            }
            (other, _) => other,
        };
    }

    /// The client is gone.
    pub fn leave(&mut self) {
        self.carrier = Carrier::Gone;
    }

    /// Reads what there is; true if it was something.
    pub fn read(&mut self) -> bool {
        let mut some = false;
        match &mut self.carrier {
            Carrier::Pending(_) | Carrier::Gone => {}
            Carrier::Body(body) => loop {
                let next = std::future::poll_fn(|context| Pin::new(&mut *body).poll_next(context));
                match next.now_or_never() {
                    Some(Some(bytes)) => self.rest.push_str(str::from_utf8(&bytes).unwrap()),
                    Some(None) => {
                        (self.over, self.complete) = (true, true);
                        break;
                    }
                    None => break,
                }
                some = true;
            },
            Carrier::Socket(socket, framing) => {
                let mut buffer = [0; 64 * 1024];
                loop {
                    match socket.read(&mut buffer) {
                        Ok(0) => {
                            self.over = true;
                            self.complete |= *framing == Framing::Close;
                            break;
                        }
                        Ok(bytes) => self.raw.extend_from_slice(&buffer[..bytes]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(_) => {
                            self.over = true;
                            break;
                        }
                    }
                    some = true;
                }
                match framing {
                    Framing::Close => {
                        let raw = std::mem::take(&mut self.raw);
                        self.rest.push_str(str::from_utf8(&raw).unwrap());
                    }
                    Framing::Chunked => self.unchunk(),
                }
            }
        }
        self.parse();
        some
    }

    /// Takes whole chunks.
    fn unchunk(&mut self) {
        loop {
            let Some(end) = self.raw.windows(2).position(|two| two == b"\r\n") else {
                return;
            };
            let length =
                usize::from_str_radix(str::from_utf8(&self.raw[..end]).unwrap(), 16).unwrap();
            if self.raw.len() < end + 2 + length + 2 {
                return;
            }
            let chunk = self.raw[end + 2..end + 2 + length].to_vec();
            assert_eq!(self.raw[end + 2 + length..][..2], *b"\r\n");
            self.raw.drain(..end + 2 + length + 2);
            assert!(!self.complete, "nothing follows the last chunk");
            self.complete = length == 0;
            self.rest.push_str(str::from_utf8(&chunk).unwrap());
        }
    }

    /// Takes whole blocks.
    fn parse(&mut self) {
        while let Some(end) = self.rest.find("\n\n") {
            let block: String = self.rest.drain(..end + 2).collect();
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| {
                    line.strip_prefix(name)?
                        .strip_prefix(": ")
                        .map(str::to_owned)
                })
            };
            let id = field("id");
            if let Some(id) = &id {
                self.last_id = Some(id.clone());
            }
            match (field("event"), field("data"), field("retry")) {
                (Some(event), Some(data), None) if event == "fanfare-gap" => {
                    assert_eq!(id, None);
                    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
                    let text = |name: &str| data[name].as_str().unwrap().to_owned();
                    self.heard.push(Item::Gap {
                        channel: text("channel"),
                        last: text("last-event-id"),
                        sure: true,
                    });
                }
                (None, Some(data), None) => self.heard.push(Item::Event { id, data }),
                (None, None, Some(_)) => self.heard.push(Item::Retry),
                // A ping, or an id that takes the client's place forward again.
                (None, None, None) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
