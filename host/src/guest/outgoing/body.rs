//! The body of a response, as the guest reads it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, WasiBody};

/// A piece of a body on its way from the exchange to the guest.
#[derive(Debug)]
pub enum Piece {
    /// Data or trailers.
    Frame(Frame<Bytes>),
    /// The body is complete.
    End,
}

/// Where pieces come from. It holds one at most: the exchange reads on when the guest has taken it.
pub type Pieces = mpsc::Receiver<Result<Piece, Error>>;

/// The body. Dropping it ends the exchange.
pub struct Received {
    pieces: Pieces,
    _exchange: AbortOnDropHandle<()>,
    over: bool,
}

impl Received {
    /// The body whose pieces come from an exchange.
    pub fn new(pieces: Pieces, exchange: AbortOnDropHandle<()>) -> Self {
        Self {
            pieces,
            _exchange: exchange,
            over: false,
        }
    }

    /// As `wasi:http` takes it.
    pub fn boxed(self) -> WasiBody {
        self.boxed_unsync()
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(context));
        self.over = !matches!(piece, Some(Ok(Piece::Frame(_))));
        Poll::Ready(match piece {
            Some(Ok(Piece::Frame(frame))) => Some(Ok(frame)),
            Some(Ok(Piece::End)) => None,
            Some(Err(error)) => Some(Err(error)),
            // The exchange is gone, as when the node ends: what came so far must not pass for all.
            None => Some(Err(Error::ConnectionTerminated)),
        })
    }
}
