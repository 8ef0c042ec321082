//! The version of an app's code: the digest of its component.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Hexadecimal digits of a version.
const DIGITS: usize = 64;
/// Digits that are shown to people.
const SHORT: usize = 12;
/// Digits that a version may be asked for by, at least. Fewer would name another one after the next deploy.
const LEAST: usize = 4;

/// What names a version of an app's code: the SHA-256 of its component. The same bytes are the same version, on every
/// node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId([u8; 32]);

/// Not the text of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a version is {DIGITS} hexadecimal digits, in lower case")]
pub struct NotAVersion;

/// Why the beginning of a version names none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// Too short, too long, or not hexadecimal.
    #[error(
        "{0:?} names no version; give {LEAST} or more of its hexadecimal digits, such as the {SHORT} that are shown"
    )]
    Invalid(String),
    /// There is none that begins so.
    #[error(
        "there is no version that begins with {0}; `fanfare apps --app NAME` lists those that are kept"
    )]
    Unknown(String),
    /// Several begin so.
    #[error("{0} could be {1} or {2}; give more digits")]
    Ambiguous(String, VersionId, VersionId),
}

impl VersionId {
    /// The version of this component.
    pub fn of(component: &[u8]) -> Self {
        Self(Sha256::digest(component).into())
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORT);
        text
    }

    /// The one of these versions that begins with these digits. The same version may be among them several times.
    pub fn find(prefix: &str, among: impl IntoIterator<Item = Self>) -> Result<Self, PrefixError> {
        let digits = prefix.to_ascii_lowercase();
        let is_prefix = (LEAST..=DIGITS).contains(&digits.len())
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_prefix {
            let shown = prefix.chars().take(DIGITS).collect();
            return Err(PrefixError::Invalid(shown));
        }
        let mut found: Option<Self> = None;
        for version in among {
            if !version.to_string().starts_with(&digits) {
                continue;
            }
            match found {
                Some(other) if other != version => {
                    return Err(PrefixError::Ambiguous(digits, other, version));
                }
                _ => found = Some(version),
            }
        }
        found.ok_or(PrefixError::Unknown(digits))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for VersionId {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != DIGITS || !text.bytes().all(is_digit) {
            return Err(NotAVersion);
        }
        let mut bytes = [0; 32];
        for (byte, place) in bytes.iter_mut().zip((0..DIGITS).step_by(2)) {
            *byte = u8::from_str_radix(&text[place..place + 2], 16).map_err(|_| NotAVersion)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for VersionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VersionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_digest_and_reads_as_it_is_shown() {
        let version = VersionId::of(b"abc");
        // FIPS 180-4, the example of one block.
        let shown = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(version.to_string(), shown);
        assert_eq!(version.short(), "ba7816bf8f01");
        assert_eq!(shown.parse(), Ok(version));
        let json = serde_json::to_string(&version).unwrap();
        assert_eq!(serde_json::from_str::<VersionId>(&json).unwrap(), version);
        for wrong in [
            "",
            "ba78",
            &shown.to_uppercase(),
            &shown.replace('b', "g"),
            &format!("{shown}00"),
            &"ä".repeat(32),
        ] {
            assert_eq!(wrong.parse::<VersionId>(), Err(NotAVersion), "{wrong}");
        }
    }

    #[test]
    fn a_version_is_found_by_digits_that_no_other_begins_with() {
        let id = |text: &str| format!("{text:0<64}").parse::<VersionId>().unwrap();
        let (one, other, third) = (id("abcd1"), id("abcd2"), id("ff00"));
        let find = |prefix: &str| VersionId::find(prefix, [one, other, third, one]);
        assert_eq!(find("abcd1"), Ok(one));
        assert_eq!(find("ABCD2"), Ok(other));
        assert_eq!(find(&third.to_string()), Ok(third));
        assert_eq!(
            find("abcd"),
            Err(PrefixError::Ambiguous("abcd".into(), one, other))
        );
        assert_eq!(find("1234"), Err(PrefixError::Unknown("1234".into())));
        for wrong in ["", "abc", "latest", "../../etc", &"0".repeat(65)] {
            assert!(
                matches!(find(wrong), Err(PrefixError::Invalid(_))),
                "{wrong}"
            );
        }
    }
}
