//! Durations and sizes as people write them: `"250ms"`, `"64KiB"`.

use std::time::Duration;

use thiserror::Error;

const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;
/// The largest size that a file may give.
pub const MOST_BYTES: u64 = 1 << 40;

/// Why a text is no duration or no size. The text itself is left out: it may be a secret in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a duration.
    #[error(
        "a duration is a whole number with a unit, `ms`, `s`, `m` or `h`, such as \"15s\"; \"0\" needs none"
    )]
    Duration,
    /// Longer than a year.
    #[error("a duration is at most \"8760h\", a year")]
    LongDuration,
    /// Not a size.
    #[error(
        "a size is a whole number of bytes, or one with a unit, `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`, \
         such as \"64KiB\""
    )]
    Size,
    /// Larger than [`MOST_BYTES`].
    #[error("a size is at most \"1024GiB\"")]
    LargeSize,
}

/// Reads a duration: `"250ms"`, `"15s"`, `"2m"`, `"1h"`, or `"0"`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (digits, unit) = split(text).ok_or(UnitError::Duration)?;
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if digits.bytes().all(|digit| digit == b'0') => 0,
        _ => return Err(UnitError::Duration),
    };
    match digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale))
    {
        Some(milliseconds) if milliseconds <= YEAR_MS => Ok(Duration::from_millis(milliseconds)),
        _ => Err(UnitError::LongDuration),
    }
}

/// Reads a size in bytes: `"1MiB"`, `"64KiB"`, `"1MB"`, `"512B"` or `"512"`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (digits, unit) = split(text).ok_or(UnitError::Size)?;
    let scale: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(UnitError::Size),
    };
    match digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(scale))
    {
        Some(bytes) => bounded(bytes),
        None => Err(UnitError::LargeSize),
    }
}

fn bounded(bytes: u64) -> Result<u64, UnitError> {
    if bytes <= MOST_BYTES {
        Ok(bytes)
    } else {
        Err(UnitError::LargeSize)
    }
}

/// The digits and the unit, between which one space may stand.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let unit = match rest.strip_prefix(' ') {
        Some("") => return None,
        Some(unit) => unit,
        None => rest,
    };
    (!digits.is_empty()).then_some((digits, unit))
}

/// The shortest text that [`parse_duration`] reads as this duration, to the millisecond.
pub fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, scale) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if milliseconds > 0 && milliseconds.is_multiple_of(scale) {
            return format!("{}{unit}", milliseconds / scale);
        }
    }
    if milliseconds == 0 {
        "0".to_owned()
    } else {
        format!("{milliseconds}ms")
    }
}

/// The shortest text that [`parse_size`] reads as this size.
pub fn show_size(bytes: u64) -> String {
    for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

/// How a field that is a duration stands in a file.
pub(super) mod duration {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show_duration(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration as text, such as \"15s\" or \"250ms\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                super::parse_duration(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// How a field that is a size stands in a file.
pub(super) mod size {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show_size(*bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct TextOrBytes;

        impl Visitor<'_> for TextOrBytes {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, such as \"64KiB\" or a number of bytes")
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
                super::bounded(bytes).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
                super::parse_size(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(TextOrBytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("0", 0),
            ("00", 0),
            ("0s", 0),
            ("250ms", 250),
            ("15s", 15_000),
            ("15 s", 15_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("8760h", YEAR_MS),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "", " ", "s", "15", "15 ", "15  s", " 15s", "-1s", "+1s", "1.5s", "1S", "1m30s", "1d",
            "١s",
        ] {
            assert_eq!(parse_duration(text), Err(UnitError::Duration), "{text:?}");
        }
        for text in ["8761h", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(
                parse_duration(text),
                Err(UnitError::LongDuration),
                "{text:?}"
            );
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("1kB", 1000),
            ("1KB", 1000),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("1MB", 1_000_000),
            ("1MiB", 1_048_576),
            ("2GB", 2_000_000_000),
            ("1024GiB", MOST_BYTES),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "KiB", "1.5MiB", "-1", "1Kib", "1mb", "1M", "1 ", "0x10", "1_000", "1TiB",
        ] {
            assert_eq!(parse_size(text), Err(UnitError::Size), "{text:?}");
        }
        for text in ["1025GiB", "18446744073709551616", "18446744073709551615GiB"] {
            assert_eq!(parse_size(text), Err(UnitError::LargeSize), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(milliseconds in 0..=YEAR_MS, bytes in 0..=MOST_BYTES) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9]{0,25} ?[a-zA-Z]{0,3}") {
            let _ = (parse_duration(&text), parse_size(&text));
            let _ = (parse_duration(&number), parse_size(&number));
        }
    }
}
