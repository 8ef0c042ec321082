//! Texts that do not become as long as a guest likes, whatever names it gives.

use std::fmt;

/// The longest name that is written, in bytes.
const NAME: usize = 1024;

/// A text up to a length, past which writing to it fails.
pub(super) struct Text {
    text: String,
    left: usize,
}

impl fmt::Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fits = &more[..more.floor_char_boundary(self.left)];
        self.text.push_str(fits);
        self.left -= fits.len();
        match fits.len() == more.len() {
            true => Ok(()),
            false => {
                self.left = 0;
                Err(fmt::Error)
            }
        }
    }
}

/// What is written, as far as it fits into so many bytes.
pub(super) fn bounded(bytes: usize, write: impl FnOnce(&mut Text) -> fmt::Result) -> String {
    let mut text = Text {
        text: String::new(),
        left: bytes,
    };
    // It is as long as it may be.
    let _ = write(&mut text);
    text.text
}

/// The start of a name that is too long.
pub(super) fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME)]
}

/// A function's name as people write it: Rust, C++, and C where it is so already.
pub(super) fn demangled(name: &str) -> String {
    use fmt::Write as _;
    let name = short(name);
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return bounded(NAME, |text| write!(text, "{rust:#}"));
    }
    if let Ok(cpp) = cpp_demangle::Symbol::new(name) {
        let options = cpp_demangle::DemangleOptions::new();
        return bounded(NAME, |text| cpp.structured_demangle(text, &options));
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn names_are_written_as_people_write_them() {
        for (mangled, name) in [
            ("_ZN3foo3bar17h05af221e174051e9E", "foo::bar"),
            ("_ZN5space3fooEibc", "space::foo(int, bool, char)"),
            ("main", "main"),
            ("_Z", "_Z"),
            ("", ""),
        ] {
            assert_eq!(demangled(mangled), name);
        }
    }

    #[test]
    fn no_text_is_longer_than_it_may_be() {
        assert_eq!(demangled(&"x".repeat(2 * NAME)).len(), NAME);
        // Each argument is a pair of the one before it.
        let mut doubling = String::from("_Z1fSt4pairIiiE");
        for number in 0..30 {
            let number = ["", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"][number % 11];
            doubling += &format!("St4pairIS{number}_S{number}_E");
        }
        assert!(demangled(&doubling).len() <= NAME);
        let text = bounded(5, |text| {
            text.write_str("ab")?;
            text.write_str("c\u{e4}\u{e4}")?;
            text.write_str("never")
        });
        assert_eq!(text, "abc\u{e4}");
    }
}
