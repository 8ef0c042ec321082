//! Cuts what a server sends into replies, and bounds them.
//!
//! A reply is found without being understood: [`Scanner`] only counts elements and bytes. So one that is too
//! large is skipped, byte by byte and without being kept, and one that is odd inside concerns only the caller
//! who asked for it; the replies of all others on the same connection are not touched.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf};

/// The largest reply that is kept, in bytes.
pub(super) const REPLY_BYTES: usize = 32 * 1024 * 1024;
/// The most elements of a reply. Small ones take more memory than bytes on the wire.
pub(super) const REPLY_ELEMENTS: u64 = 1_000_000;
/// How deep a reply may be nested.
pub(super) const REPLY_DEPTH: usize = 32;

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 * 1024;
/// The longest line that holds a length.
const HEADER_BYTES: usize = 32;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// All of it, as it came.
    Whole(Bytes),
    /// It was over a bound and was skipped.
    TooLarge,
}

/// Where replies are read from.
#[derive(Debug)]
pub(super) struct Replies<R> {
    socket: R,
    /// What was read, from the start of the current reply on.
    buffer: BytesMut,
    /// How much of it was scanned.
    scanned: usize,
    scanner: Scanner,
}

impl<R: AsyncRead + Unpin> Replies<R> {
    pub(super) fn new(socket: R) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            scanned: 0,
            scanner: Scanner::new(),
        }
    }

    /// Where replies are read from, to write to it.
    pub(super) fn socket(&mut self) -> &mut R {
        &mut self.socket
    }

    /// Splits it into what reads and what writes.
    pub(super) fn split(self) -> (Replies<ReadHalf<R>>, WriteHalf<R>)
    where
        R: AsyncWrite,
    {
        let Self {
            socket,
            buffer,
            scanned,
            scanner,
        } = self;
        let (reader, writer) = tokio::io::split(socket);
        let replies = Replies {
            socket: reader,
            buffer,
            scanned,
            scanner,
        };
        (replies, writer)
    }

    /// The next reply. Dropping the future before it is ready loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Reply> {
        loop {
            let (consumed, ended) = self.scanner.scan(&self.buffer[self.scanned..])?;
            self.scanned += consumed;
            if self.scanner.too_large {
                // Nothing of it is needed any more.
                self.buffer = self.buffer.split_off(self.scanned);
                self.scanned = 0;
            }
            if ended {
                let too_large = self.scanner.too_large;
                self.scanner = Scanner::new();
                if too_large {
                    return Ok(Reply::TooLarge);
                }
                let reply = self.buffer.split_to(self.scanned).freeze();
                self.scanned = 0;
                if self.buffer.is_empty() && reply.len() > READ_BYTES {
                    // Or the room for the largest reply would be kept for ever.
                    self.buffer = BytesMut::new();
                }
                return Ok(Reply::Whole(reply));
            }
            self.buffer.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Finds the end of a reply.
#[derive(Debug)]
struct Scanner {
    /// Elements that are still to come.
    open: u64,
    /// For each array and its like that has not ended: how many elements are open after its last.
    levels: Vec<u64>,
    /// The part of the current element.
    part: Part,
    bytes: usize,
    elements: u64,
    /// A bound was passed.
    too_large: bool,
}

/// Where in an element the scanner is.
#[derive(Debug)]
enum Part {
    /// In its first line, of which these are the first bytes.
    Line(Vec<u8>),
    /// Before so many bytes, with the line ending after them.
    Payload(u64),
}

impl Scanner {
    fn new() -> Self {
        Self {
            open: 1,
            levels: Vec::new(),
            part: Part::Line(Vec::new()),
            bytes: 0,
            elements: 1,
            too_large: false,
        }
    }

    /// Scans on. Returns how many bytes belong to the reply and whether it ended with them.
    fn scan(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let mut at = 0;
        while at < bytes.len() && self.open > 0 {
            at += self.step(&bytes[at..])?;
        }
        self.bytes = self.bytes.saturating_add(at);
        self.too_large |= self.bytes > REPLY_BYTES;
        Ok((at, self.open == 0))
    }

    /// Takes the rest of a line or a payload, or as much as there is of it.
    fn step(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.part {
            Part::Payload(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.element_ended();
                }
                Ok(taken)
            }
            Part::Line(header) => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(bytes.len(), |end| end + 1);
                let room = HEADER_BYTES.saturating_sub(header.len()).min(taken);
                header.extend_from_slice(&bytes[..room]);
                if end.is_some() {
                    let header = std::mem::take(header);
                    self.line_ended(&header)?;
                }
                Ok(taken)
            }
        }
    }

    fn line_ended(&mut self, header: &[u8]) -> io::Result<()> {
        match header.first() {
            Some(b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(') => {
                self.element_ended();
                Ok(())
            }
            Some(b'$' | b'=' | b'!') => {
                match length(header)? {
                    Some(length) => {
                        self.too_large |= length > REPLY_BYTES as u64;
                        self.part = Part::Payload(length + 2);
                    }
                    None => self.element_ended(),
                }
                Ok(())
            }
            Some(b'*' | b'~' | b'>') => self.array(length(header)?.unwrap_or(0)),
            Some(b'%') => self.array(length(header)?.unwrap_or(0).saturating_mul(2)),
            // Attributes stand in front of the element that they belong to.
            Some(b'|') => self.array(
                length(header)?
                    .unwrap_or(0)
                    .saturating_mul(2)
                    .saturating_add(1),
            ),
            _ => Err(odd("an element of an unknown type")),
        }
    }

    /// An element is an array of so many others.
    fn array(&mut self, length: u64) -> io::Result<()> {
        let after = self.open - 1;
        self.open = after
            .checked_add(length)
            .ok_or_else(|| odd("an endless array"))?;
        self.elements = self.elements.saturating_add(length);
        self.levels.push(after);
        if self.elements > REPLY_ELEMENTS || self.levels.len() > REPLY_DEPTH {
            self.too_large = true;
        }
        self.settle();
        Ok(())
    }

    fn element_ended(&mut self) {
        self.open -= 1;
        self.settle();
    }

    fn settle(&mut self) {
        self.part = Part::Line(Vec::new());
        if self.too_large {
            // How deep it is does not matter any more, and could take any amount of memory.
            self.levels.clear();
        }
        while self.levels.last().is_some_and(|after| self.open <= *after) {
            self.levels.pop();
        }
    }
}

/// The length in a line such as `$12`; `None` for a null, `$-1`.
fn length(header: &[u8]) -> io::Result<Option<u64>> {
    let digits = header
        .strip_suffix(b"\r\n")
        .and_then(|line| std::str::from_utf8(line.get(1..)?).ok())
        .ok_or_else(|| odd("a length without an end"))?;
    if digits == "-1" {
        return Ok(None);
    }
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let length = plain.then(|| digits.parse::<u64>().ok()).flatten();
    match length {
        Some(length) if length <= i64::MAX as u64 => Ok(Some(length)),
        _ => Err(odd("a length that is none")),
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it does not speak the protocol of Redis: it sent {what}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All replies of a stream that arrives in pieces of so many bytes.
    fn cut(stream: &[u8], piece: usize) -> (Vec<Reply>, io::Error) {
        let mut replies = Replies::new(Pieces(stream, piece));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut out = Vec::new();
            loop {
                match replies.next().await {
                    Ok(reply) => out.push(reply),
                    Err(error) => return (out, error),
                }
            }
        })
    }

    /// A reader that gives at most so many bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let size = self.1.min(self.0.len()).min(buffer.remaining());
            let (now, later) = self.0.split_at(size);
            buffer.put_slice(now);
            self.0 = later;
            std::task::Poll::Ready(Ok(()))
        }
    }

    fn whole(text: &[u8]) -> Reply {
        Reply::Whole(Bytes::copy_from_slice(text))
    }

    const REPLIES: [&[u8]; 16] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-7\r\n",
        b"$0\r\n\r\n",
        b"$5\r\na\r\nb\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n_\r\n",
        b"|1\r\n+ttl\r\n:9\r\n$1\r\nv\r\n",
        b">2\r\n+message\r\n+x\r\n",
        b",3.5\r\n",
        b"#t\r\n",
        b"(123456789012345678901234567890\r\n",
        b"=5\r\ntxt:a\r\n",
    ];

    #[test]
    fn replies_are_cut_wherever_the_network_cuts_them() {
        let stream = REPLIES.concat();
        for piece in 1..stream.len() {
            let (replies, error) = cut(&stream, piece);
            assert_eq!(replies, REPLIES.map(whole));
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn what_is_too_large_is_skipped_and_the_next_reply_is_not() {
        let mut large = format!("*2\r\n:1\r\n${}\r\n", REPLY_BYTES).into_bytes();
        large.resize(large.len() + REPLY_BYTES, b'x');
        large.extend_from_slice(b"\r\n");
        let mut many = format!("*{}\r\n", REPLY_ELEMENTS).into_bytes();
        many.extend(b":1\r\n".repeat(REPLY_ELEMENTS as usize));
        let mut deep = b"*1\r\n".repeat(REPLY_DEPTH + 1);
        deep.extend_from_slice(b":1\r\n");
        let mut stream = [large, many, deep].concat();
        stream.extend_from_slice(b"+OK\r\n");
        let (replies, _) = cut(&stream, 100_000);
        assert_eq!(
            replies,
            [
                Reply::TooLarge,
                Reply::TooLarge,
                Reply::TooLarge,
                whole(b"+OK\r\n")
            ]
        );
    }

    #[test]
    fn the_largest_that_is_allowed_is_kept() {
        let mut deep = b"*1\r\n".repeat(REPLY_DEPTH);
        deep.extend_from_slice(b":1\r\n");
        let wide = [b"*3\r\n".as_slice(), &b"*1\r\n*0\r\n".repeat(3)].concat();
        let (replies, _) = cut(&[deep.clone(), wide.clone()].concat(), 7);
        assert_eq!(replies, [whole(&deep), whole(&wide)]);
    }

    #[test]
    fn what_is_not_redis_is_an_error() {
        for stream in [
            b"HTTP/1.1 400 Bad Request\r\n".as_slice(),
            b"\x15\x03\x03\x00\x02\x02\n",
            b"\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"*99999999999999999999\r\n",
            b"$9223372036854775808\r\n",
            b"*2\r\n*9223372036854775807\r\n*9223372036854775807\r\n*9223372036854775807\r\n",
            b"$?\r\n",
            b"*1\n",
        ] {
            let (_, error) = cut(stream, 1000);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{stream:?}");
        }
    }

    proptest! {
        #[test]
        fn survives_anything(
            stream in proptest::collection::vec(any::<u8>(), 0..100),
            near in "([*$~%|>!=][0-9]{1,3}\r\n|[+:_-][a-z]{0,3}\r\n){0,20}",
            piece in 1..50usize,
        ) {
            cut(&stream, piece);
            cut(near.as_bytes(), piece);
        }
    }
}
