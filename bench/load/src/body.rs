//! How the bytes of a body are framed.

use anyhow::{Result, bail};
use memchr::memchr;

/// The place in a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    /// Chunks, each with its size.
    Chunked(Chunk),
    /// So many bytes are still to come.
    Length(u64),
    /// All bytes until the socket's end.
    UntilTheEnd,
}

/// The place in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In the size of a chunk, as far as it was read.
    Size(u64),
    /// After that size, before the end of the line.
    Extension(u64),
    /// In the chunk: so many bytes are still to come.
    Data(u64),
    /// After the chunk, before the end of the line.
    After,
    /// After the last chunk, in a line: whether anything stands in it.
    Trailer(bool),
    /// At the end of the body.
    End,
}

impl Framing {
    /// The start of a chunked body.
    pub fn chunked() -> Self {
        Self::Chunked(Chunk::Size(0))
    }

    /// The start of a body of that many bytes.
    pub fn length(bytes: u64) -> Self {
        Self::Length(bytes)
    }

    /// The start of a body that lasts until the socket's end.
    pub fn until_the_end() -> Self {
        Self::UntilTheEnd
    }

    /// Takes bytes from the socket, and hands out those of the body. Whether the body has ended. Fails where chunks are
    /// none.
    pub fn feed(&mut self, bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<bool> {
        match self {
            Self::Chunked(chunk) => chunk.feed(bytes, body),
            Self::Length(left) => {
                let some = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                body(&bytes[..some]);
                *left -= some as u64;
                Ok(*left == 0)
            }
            Self::UntilTheEnd => {
                body(bytes);
                Ok(false)
            }
        }
    }
}

impl Chunk {
    fn feed(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<bool> {
        while let Some(&byte) = bytes.first() {
            let mut taken = 1;
            match self {
                Self::Size(size) => match char::from(byte).to_digit(16) {
                    Some(digit) if *size >> 56 == 0 => *size = *size << 4 | u64::from(digit),
                    Some(_) => bail!("a chunk's size is too large"),
                    None if matches!(byte, b'\r' | b'\n' | b';' | b' ' | b'\t') => {
                        *self = Self::Extension(*size);
                        continue;
                    }
                    None => bail!("a chunk's size is no number"),
                },
                Self::Extension(size) => match memchr(b'\n', bytes) {
                    Some(end) => {
                        taken = end + 1;
                        *self = match *size {
                            0 => Self::Trailer(false),
                            size => Self::Data(size),
                        };
                    }
                    None => taken = bytes.len(),
                },
                Self::Data(left) => {
                    taken = bytes
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    body(&bytes[..taken]);
                    *left -= taken as u64;
                    if *left == 0 {
                        *self = Self::After;
                    }
                }
                Self::After => match byte {
                    b'\r' => {}
                    b'\n' => *self = Self::Size(0),
                    _ => bail!("a chunk is longer than its size"),
                },
                Self::Trailer(something) => match byte {
                    b'\r' => {}
                    b'\n' if *something => *something = false,
                    b'\n' => *self = Self::End,
                    _ => *something = true,
                },
                Self::End => break,
            }
            bytes = &bytes[taken..];
        }
        Ok(*self == Self::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut framing: Framing, parts: &[&[u8]]) -> Result<(Vec<u8>, bool)> {
        let (mut body, mut ended) = (Vec::new(), false);
        for part in parts {
            ended = framing.feed(part, |bytes| body.extend_from_slice(bytes))?;
        }
        Ok((body, ended))
    }

    #[test]
    fn chunks_may_be_split_anywhere() {
        let bytes: &[u8] =
            b"5\r\nhello\r\n1;name=value\r\n \r\n00A \r\n0123456789\r\n0\r\nx: y\r\n\r\n";
        for split in 0..=bytes.len() {
            let parts = [&bytes[..split], &bytes[split..]];
            let (body, ended) = all(Framing::chunked(), &parts).unwrap();
            assert_eq!(body, b"hello 0123456789", "{split}");
            assert!(ended, "{split}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(
            all(Framing::chunked(), &single).unwrap(),
            (b"hello 0123456789".to_vec(), true)
        );
        assert!(
            !all(Framing::chunked(), &[&bytes[..bytes.len() - 1]])
                .unwrap()
                .1
        );
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        for wrong in ["x\r\n", "1\r\nab", "fffffffffffffffff\r\n"] {
            assert!(
                all(Framing::chunked(), &[wrong.as_bytes()]).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_length_ends_the_body() {
        let parts: [&[u8]; 3] = [b"abc", b"de", b"more"];
        assert_eq!(
            all(Framing::length(9), &parts).unwrap(),
            (b"abcdemore".to_vec(), true)
        );
        assert_eq!(
            all(Framing::length(6), &parts).unwrap(),
            (b"abcdem".to_vec(), true)
        );
        assert!(!all(Framing::length(10), &parts).unwrap().1);
        assert!(!all(Framing::until_the_end(), &parts).unwrap().1);
    }
}
