//! Names of apps and labels of brokers.

use thiserror::Error;

const LONGEST: usize = 63;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a name is 1 to 63 of `a` to `z`, `0` to `9` and `-`, and starts with a letter")]
pub(super) struct NameError;

pub(super) fn check(name: &str) -> Result<(), NameError> {
    let good = name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(is_good);
    good.then_some(()).ok_or(NameError)
}

fn is_good(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// The name nearest to a text, such as the name of a file.
pub(super) fn sanitise(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut name = String::new();
    for c in lower.chars() {
        if c.is_ascii_lowercase() || (c.is_ascii_digit() && !name.is_empty()) {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(LONGEST);
    let name = name.trim_end_matches('-');
    if name.is_empty() {
        "app".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for name in ["a", "chat", "chat-2", "a-", &"a".repeat(63)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "2chat",
            "-a",
            "Chat",
            "a_b",
            "a.b",
            "é",
            &"a".repeat(64),
        ] {
            assert_eq!(check(name), Err(NameError), "{name}");
        }
    }

    #[test]
    fn names_from_files() {
        for (text, name) in [
            ("chat", "chat"),
            ("My Guest_v1.2", "my-guest-v1-2"),
            ("2048 game", "game"),
            ("été", "t"),
            ("__", "app"),
            ("", "app"),
        ] {
            assert_eq!(sanitise(text), name, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_name(text in any::<String>()) {
            prop_assert_eq!(check(&sanitise(&text)), Ok(()));
        }
    }
}
