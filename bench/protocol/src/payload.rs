//! The data of an event: `<number> <nanoseconds> <padding>`, one line.
//!
//! The number counts 0, 1, 2 … on each channel, so that a listener sees what is missing. The time is when the event was
//! published, since the Unix epoch, so that a listener on the same machine sees how long it took. The padding follows
//! from the number, so that a listener sees whether an event's parts belong together.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// After so many bytes the padding repeats.
const PERIOD: usize = 64;

/// The padding, twice: from any place in the first half, a whole period follows.
const PADDING: &[u8; 2 * PERIOD] = b"\
    abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-\
    abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-";

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its place among the events of its channel, from 0.
    pub number: u64,
    /// When it was published, in nanoseconds since the Unix epoch.
    pub nanos: u64,
}

/// The time now, in nanoseconds since the Unix epoch.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

impl Payload {
    /// The text of this payload, `size` bytes long, or longer where number and time alone are.
    pub fn text(self, size: usize) -> String {
        let mut text = String::with_capacity(size.max(48));
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{} {} ", self.number, self.nanos);
        let padding = period(self.number);
        while text.len() < size {
            let some = padding.len().min(size - text.len());
            text.push_str(&padding[..some]);
        }
        text
    }

    /// Reads a payload; `None` if the text is none, or its padding is not that of its number.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (number, rest) = digits(text)?;
        let (nanos, rest) = digits(rest)?;
        let padding = period(number).as_bytes();
        let right = rest
            .chunks(PERIOD)
            .all(|chunk| chunk == &padding[..chunk.len()]);
        right.then_some(Self { number, nanos })
    }
}

/// One period of the padding of an event.
fn period(number: u64) -> &'static str {
    let from = (number % PERIOD as u64) as usize;
    // It is ASCII; the empty text stands for what cannot be.
    std::str::from_utf8(&PADDING[from..from + PERIOD]).unwrap_or_default()
}

/// A number and the space after it, and what follows.
fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ')?;
    let number = text[..end].iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (end > 0).then(|| (number, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for size in [0, 10, 23, 64, 65, 200, 1000] {
            let payload = Payload {
                number: 7 * size as u64,
                nanos: now(),
            };
            let text = payload.text(size);
            assert!(text.len() == size || size < 30, "{size}: {text}");
            assert_eq!(Payload::read(text.as_bytes()), Some(payload));
        }
    }

    #[test]
    fn wrong_content_is_none() {
        let text = Payload {
            number: 3,
            nanos: 9,
        }
        .text(200);
        assert!(Payload::read(text.as_bytes()).is_some());
        for index in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[index] = b'!';
            assert_eq!(Payload::read(&wrong), None, "{index}");
        }
        // The padding of one event under the number of another.
        assert_eq!(Payload::read(text.replacen('3', "4", 1).as_bytes()), None);
        for none in [
            "",
            " ",
            "1",
            "1 2",
            " 1 2 ",
            "hello world !",
            "99999999999999999999 1 ",
        ] {
            assert_eq!(Payload::read(none.as_bytes()), None, "{none}");
        }
    }
}
