//! The headers of a request, as they are kept for its handler.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers in one small piece of memory of their own, for as long as a handler waits. As they come they are parts of what
/// was read from the socket, some kilobytes, and a map of them takes more than they do.
#[derive(Debug, Default)]
pub struct Headers {
    /// Each name with its value, in front of them their lengths.
    bytes: Box<[u8]>,
}

/// The bytes of a length.
const LENGTH: usize = size_of::<u32>();

impl Headers {
    /// All names, in lower case, with their values. Those of one name are next to each other, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = &*self.bytes;
        std::iter::from_fn(move || {
            let (name, value);
            (name, rest) = piece(rest)?;
            (value, rest) = piece(rest)?;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The first value under a name, in whichever case that is.
    pub fn get(&self, name: impl AsRef<str>) -> Option<&[u8]> {
        let is_named = |there: &str| there.eq_ignore_ascii_case(name.as_ref());
        let found = self.iter().find(|(there, _)| is_named(there));
        found.map(|(_, value)| value)
    }

    /// Whether there is one under a name.
    pub fn contains(&self, name: impl AsRef<str>) -> bool {
        self.get(name).is_some()
    }
}

/// What a length is in front of, and what follows that.
fn piece(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

impl From<&HeaderMap> for Headers {
    fn from(headers: &HeaderMap) -> Self {
        // One that is longer than a length can say cannot come: heads are bounded by less.
        let pieces = || {
            let pairs = headers.iter();
            let pieces =
                pairs.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
            pieces.filter_map(|piece| Some((u32::try_from(piece.len()).ok()?, piece)))
        };
        let size = pieces().map(|(_, piece)| LENGTH + piece.len()).sum();
        let mut bytes = Vec::with_capacity(size);
        for (length, piece) in pieces() {
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(piece);
        }
        Self {
            bytes: bytes.into_boxed_slice(),
        }
    }
}

impl From<&Headers> for HeaderMap {
    fn from(headers: &Headers) -> Self {
        let pairs = headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value).ok()?))
        });
        let mut map = Self::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn they_are_what_came() {
        let request = Request::get("/")
            .header("cookie", "a=1")
            .header("X-Odd", HeaderValue::from_bytes(b"\xff").unwrap())
            .header("empty", "")
            .header("cookie", "b=2");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let headers = Headers::from(&head.headers);
        let pairs = head.headers.iter();
        let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_bytes()));
        assert!(headers.iter().eq(pairs));
        assert_eq!(HeaderMap::from(&headers), head.headers);

        assert_eq!(headers.get("Cookie"), Some(&b"a=1"[..]));
        assert_eq!(headers.get("x-odd"), Some(&b"\xff"[..]));
        assert!(headers.contains("empty") && !headers.contains("host") && !headers.contains(""));
        assert_eq!(Headers::default().iter().count(), 0);
    }
}
