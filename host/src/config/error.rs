//! Why a configuration was refused, and where in the file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a configuration could not be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "{}: cannot be read: {error}; name another file, or serve a component directly, which needs no file",
        .file.display()
    )]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The file was read and has mistakes.
    #[error("{}", joined(.mistakes))]
    Invalid {
        /// The mistakes, at least one, in the order of the file.
        mistakes: Vec<Mistake>,
    },
}

fn joined(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    lines.join("\n")
}

/// A mistake in a file. It never holds a secret, nor a value from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key that it is about; empty where the file is not TOML at all.
    pub path: KeyPath,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.path.is_root() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Something wrong with a configuration, wherever it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key that it is about.
    pub path: KeyPath,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether what the file says there may be shown.
    pub(super) quote: bool,
    /// A second key that it is about.
    pub(super) other: Option<KeyPath>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The way to a value: `apps.chat.capabilities.redis[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPath(pub(super) Vec<Segment>);

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// Whether this is the way to the whole file.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.step(Segment::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Segment::Index(index))
    }

    fn step(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    if place > 0 {
                        f.write_str(".")?;
                    }
                    if is_bare(key) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_bare(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_toml_writes_it() {
        let path = KeyPath::default().key("apps").key("my app").key("redis");
        assert_eq!(path.index(2).to_string(), r#"apps."my app".redis[2]"#);
        assert_eq!(KeyPath::default().to_string(), "");
    }

    #[test]
    fn a_mistake_can_be_clicked_in_a_terminal() {
        let mistake = Mistake {
            file: PathBuf::from("fanfare.toml"),
            line: 12,
            column: 9,
            path: KeyPath::default().key("apps").key("chat").key("route"),
            message: "no".to_owned(),
        };
        assert_eq!(
            mistake.to_string(),
            "fanfare.toml:12:9: apps.chat.route: no"
        );
    }
}
