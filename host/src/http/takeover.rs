//! The way of a socket out of the HTTP library.
//!
//! Once the head of an event stream has left, a plain HTTP/1.1 socket needs no library: the delivery engine writes to
//! it. The library does not hand out a socket in the middle of a response, so it is taken in these steps:
//!
//! 1. The library asks the stream's body for its first bytes: the head is in its buffer by then. The body notes that
//!    the stream waits here ([`Exit::answer`]) and never says anything.
//! 2. The library has written all that it has, which it shows by flushing the socket ([`Leaving::poll_flush`]).
//! 3. Whoever drives the library sees that ([`Exit::is_due`]) and drops it.
//! 4. The socket, dropped with it, is kept here, and the stream goes on with it ([`Exit::take`]).

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::socket::Socket;
use crate::hub::delivery::{Delivery, outlet::Framing};

/// What leaves the library: shared by the socket, the body and whoever drives the library.
#[derive(Debug, Clone, Default)]
pub struct Exit {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The stream, once its head is in the library's buffer.
    stream: Option<(Delivery, Framing)>,
    /// The head has left.
    flushed: bool,
    /// What the library had.
    socket: Option<TcpStream>,
}

/// A socket that may leave.
#[derive(Debug)]
pub struct Leaving {
    /// `None` only while it is dropped.
    socket: Option<Socket<TcpStream>>,
    exit: Exit,
}

/// The body of a stream that leaves.
#[derive(Debug)]
pub struct Handover {
    stream: Option<(Delivery, Framing)>,
    exit: Exit,
}

impl Exit {
    /// A body for a stream that leaves this way.
    pub fn body(&self, delivery: Delivery, framing: Framing) -> Handover {
        Handover {
            stream: Some((delivery, framing)),
            exit: self.clone(),
        }
    }

    /// Whether the library is to be dropped.
    pub fn is_due(&self) -> bool {
        self.state.lock().flushed
    }

    /// The stream and its socket, after the library was dropped.
    pub fn take(&self) -> Option<(Delivery, Framing, TcpStream)> {
        let mut state = self.state.lock();
        let (delivery, framing) = state.stream.take()?;
        Some((delivery, framing, state.socket.take()?))
    }

    fn answer(&self, stream: (Delivery, Framing)) {
        self.state.lock().stream = Some(stream);
    }

    fn flushed(&self) {
        let mut state = self.state.lock();
        state.flushed = state.stream.is_some();
    }
}

impl http_body::Body for Handover {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(stream) = self.stream.take() {
            self.exit.answer(stream);
        }
        Poll::Pending
    }
}

// === impl Leaving ===

impl Leaving {
    /// A socket and its exit.
    pub fn new(socket: Socket<TcpStream>, exit: Exit) -> Self {
        Self {
            socket: Some(socket),
            exit,
        }
    }

    fn socket(&mut self) -> io::Result<Pin<&mut Socket<TcpStream>>> {
        let socket = self.socket.as_mut();
        socket
            .map(Pin::new)
            .ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Leaving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Leaving {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket()?.poll_flush(context))?;
        self.exit.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(context)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut state = self.exit.state.lock();
        if state.flushed {
            state.socket = self.socket.take().map(Socket::into_inner);
        }
    }
}
