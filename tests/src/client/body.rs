//! Where a body of HTTP/1 ends (RFC 9112, section 6).

use super::{Head, Socket};
use crate::stream::End;

/// A body on its socket.
pub(super) struct Http1Body {
    pub(super) socket: Socket,
    pub(super) framing: Framing,
}

/// How the end is told.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(usize),
    /// In chunks; so many bytes of the current one are left, its line ending included.
    Chunked(usize),
    /// By the end of the socket.
    UntilClosed,
    /// It is over.
    Ended,
}

/// How the body after this head, for a request of this method, tells its end.
pub(super) fn framing(head: &Head, method: &str) -> Framing {
    if method == "HEAD" || matches!(head.status, 100..200 | 204 | 304) {
        return Framing::Ended;
    }
    if let Some(coding) = head.header("transfer-encoding") {
        assert_eq!(coding, "chunked", "no other coding is known");
        return Framing::Chunked(0);
    }
    match head.header("content-length") {
        Some(length) => Framing::Length(length.parse().expect("a content-length is a number")),
        None => Framing::UntilClosed,
    }
}

impl Framing {
    /// The next bytes of the body.
    pub(super) fn next(&mut self, socket: &mut Socket) -> Result<Vec<u8>, End> {
        match self {
            Self::Ended | Self::Length(0) => Err(End::Complete),
            Self::Length(left) => {
                let bytes = some(socket, *left).ok_or(End::Cut)?;
                *left -= bytes.len();
                Ok(bytes)
            }
            Self::UntilClosed => some(socket, usize::MAX).ok_or(End::Complete),
            Self::Chunked(left) => {
                if *left == 0 {
                    let size = line(socket).ok_or(End::Cut)?;
                    let size = usize::from_str_radix(&size, 16)
                        .unwrap_or_else(|_| panic!("no size of a chunk: {size:?}"));
                    if size == 0 {
                        assert_eq!(line(socket).ok_or(End::Cut)?, "", "no trailers are known");
                        *self = Self::Ended;
                        return Err(End::Complete);
                    }
                    *left = size + 2;
                }
                let mut bytes = some(socket, *left).ok_or(End::Cut)?;
                *left -= bytes.len();
                // The last two are the line ending after the chunk, or a part of it.
                let ending = 2_usize.saturating_sub(*left).min(bytes.len());
                let ending = bytes.split_off(bytes.len() - ending);
                assert!(
                    b"\r\n".ends_with(&ending) || ending == b"\r",
                    "a chunk is longer than it said"
                );
                Ok(bytes)
            }
        }
    }
}

/// At least one byte and at most so many; `None` at the end of the socket.
fn some(socket: &mut Socket, most: usize) -> Option<Vec<u8>> {
    if socket.buffer.is_empty() && socket.fill() == 0 {
        return None;
    }
    let rest = socket.buffer.split_off(most.min(socket.buffer.len()));
    Some(std::mem::replace(&mut socket.buffer, rest))
}

fn line(socket: &mut Socket) -> Option<String> {
    loop {
        if let Some(end) = socket
            .buffer
            .windows(2)
            .position(|window| window == b"\r\n")
        {
            let rest = socket.buffer.split_off(end + 2);
            let line = std::mem::replace(&mut socket.buffer, rest);
            return Some(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if socket.fill() == 0 {
            return None;
        }
    }
}
