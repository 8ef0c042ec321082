//! A body in chunks, byte for byte (RFC 9112, section 7.1): stricter than a client has to be.

/// What came of a body in chunks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// The sizes of the chunks, as they were told; the last one may have come in part.
    pub sizes: Vec<usize>,
    /// What was in them.
    pub data: Vec<u8>,
    /// Whether the last chunk came, which is empty.
    pub ended: bool,
    /// What came after the last chunk.
    pub after: Vec<u8>,
}

/// Takes the chunks apart that these bytes begin with. Panics where they are no chunks; they may stop anywhere.
#[track_caller]
pub fn chunks(mut raw: &[u8]) -> Chunks {
    let mut chunks = Chunks::default();
    while !raw.is_empty() {
        let digits = raw
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (size, rest) = raw.split_at(digits);
        let seen = || String::from_utf8_lossy(&raw[..raw.len().min(40)]).into_owned();
        if rest.is_empty() && digits <= 8 {
            return chunks;
        }
        let text = std::str::from_utf8(size).expect("digits are text");
        let size = usize::from_str_radix(text, 16)
            .unwrap_or_else(|_| panic!("no size of a chunk: {:?}", seen()));
        assert!(
            size == 0 && digits == 1 || !text.starts_with('0'),
            "a size of a chunk is written in an odd way: {:?}",
            seen()
        );
        let Some(rest) = line_ending(rest, "a size of a chunk") else {
            return chunks;
        };
        if size == 0 {
            let Some(rest) = line_ending(rest, "the last chunk") else {
                return chunks;
            };
            chunks.ended = true;
            chunks.after = rest.to_vec();
            return chunks;
        }
        chunks.sizes.push(size);
        let (data, rest) = rest.split_at(size.min(rest.len()));
        chunks.data.extend_from_slice(data);
        if data.len() < size {
            return chunks;
        }
        let Some(rest) = line_ending(rest, "a chunk") else {
            return chunks;
        };
        raw = rest;
    }
    chunks
}

/// What follows a line ending; `None` where no more than a part of it has come.
#[track_caller]
fn line_ending<'a>(bytes: &'a [u8], what: &str) -> Option<&'a [u8]> {
    if bytes.len() < 2 {
        assert!(b"\r\n".starts_with(bytes), "{what} ends with {bytes:?}");
        return None;
    }
    let (ending, rest) = bytes.split_at(2);
    assert_eq!(ending, b"\r\n", "{what} ends in no line ending");
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_taken_apart_wherever_they_stop() {
        let whole = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nnext";
        let chunks_of = chunks(whole);
        assert_eq!(chunks_of.sizes, [3, 10]);
        assert_eq!(chunks_of.data, b"abc0123456789");
        assert!(chunks_of.ended);
        assert_eq!(chunks_of.after, b"next");
        for end in 0..whole.len() - 4 {
            let part = chunks(&whole[..end]);
            assert!(b"abc0123456789".starts_with(&part.data) && !part.ended);
        }
    }

    #[test]
    fn what_is_no_chunk_is_found() {
        for bad in [
            &b"x\r\n"[..],
            b"03\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3;a=b\r\nabc\r\n",
            b"\r\n",
            b"0\r\ntrailer: x\r\n\r\n",
        ] {
            let found = std::panic::catch_unwind(|| chunks(bad));
            assert!(found.is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
