//! The file as it is written: a tree of values that know where they stand.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, KeyPath, Mistake, Problem, Segment};
use super::expand::expand;

/// The most of a value that an error quotes, in characters.
const QUOTED: usize = 80;

/// A parsed file.
pub(super) struct Source<'t> {
    file: &'t Path,
    text: &'t str,
    pub(super) root: Node,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
    /// A mistake was told of it. It is passed over from then on, so that others are found.
    pub(super) told: bool,
}

impl Node {
    /// Whether a mistake was told of something in this table or array, so that it is not whole.
    pub(super) fn is_partly_told(&self) -> bool {
        match &self.value {
            Value::Table(entries) => entries.iter().any(|entry| entry.node.told),
            Value::Array(nodes) => nodes.iter().any(|node| node.told),
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    /// `None`: beyond 64 bits.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    Date,
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

impl<'t> Source<'t> {
    pub(super) fn parse(text: &'t str, file: &'t Path) -> Result<Self, ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut source = Self {
            file,
            text,
            root: Node {
                span: 0..0,
                value: Value::Table(Vec::new()),
                told: false,
            },
        };
        match DeTable::parse(text) {
            Ok(table) => {
                source.root.value = Value::Table(entries(table.into_inner()));
                Ok(source)
            }
            Err(error) => {
                // Never the error's own display: it shows the line, which may hold a password.
                let message = format!("not valid TOML: {}", error.message().replace('\n', "; "));
                let start = error.span().map_or(0, |span| span.start);
                Err(ConfigError::Invalid {
                    mistakes: vec![source.mistake(start, KeyPath::default(), message)],
                })
            }
        }
    }

    /// Puts the environment into every text.
    pub(super) fn expand(
        &mut self,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), ConfigError> {
        let mut failures = Vec::new();
        expand_node(&mut self.root, env, &KeyPath::default(), &mut failures);
        if failures.is_empty() {
            return Ok(());
        }
        failures.sort_by_key(|(start, ..)| *start);
        let mistakes = failures
            .into_iter()
            .map(|(start, path, message)| self.mistake(start, path, message))
            .collect();
        Err(ConfigError::Invalid { mistakes })
    }

    pub(super) fn mistake(&self, offset: usize, path: KeyPath, message: String) -> Mistake {
        let (line, column) = position(self.text.as_bytes(), offset);
        Mistake {
            file: self.file.to_owned(),
            line,
            column,
            path,
            message,
        }
    }

    /// Says where in the file the problems are.
    pub(super) fn locate(&self, problems: Vec<Problem>) -> ConfigError {
        let mut found: Vec<(usize, Mistake)> = problems
            .into_iter()
            .map(|problem| {
                let (start, written) = self.find(&problem.path);
                let mut message = problem.message;
                if problem.quote
                    && let Some(written) = written
                {
                    message.push_str(&format!(" (it is {written})"));
                }
                if let Some(other) = problem.other {
                    let (line, column) = position(self.text.as_bytes(), self.find(&other).0);
                    message.push_str(&format!(
                        "; see {other} at {}:{line}:{column}",
                        self.file.display()
                    ));
                }
                (start, self.mistake(start, problem.path, message))
            })
            .collect();
        found.sort_by_key(|(start, _)| *start);
        ConfigError::Invalid {
            mistakes: found.into_iter().map(|(_, mistake)| mistake).collect(),
        }
    }

    /// Where the value at `path` starts, or what stands nearest above it; and the value as written, if it is
    /// short and no table.
    fn find(&self, path: &KeyPath) -> (usize, Option<&'t str>) {
        let mut node = &self.root;
        for segment in &path.0 {
            let next = match (&node.value, segment) {
                (Value::Table(entries), Segment::Key(key)) => entries
                    .iter()
                    .find(|entry| entry.key == *key)
                    .map(|entry| &entry.node),
                (Value::Array(nodes), Segment::Index(index)) => nodes.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return (node.span.start, None),
            }
        }
        let scalar = !matches!(node.value, Value::Table(_) | Value::Array(_));
        let written = scalar.then(|| self.written(&node.span)).flatten();
        (node.span.start, written)
    }

    /// The value at `path`.
    pub(super) fn node_mut(&mut self, path: &KeyPath) -> Option<&mut Node> {
        let mut node = &mut self.root;
        for segment in &path.0 {
            node = match (&mut node.value, segment) {
                (Value::Table(entries), Segment::Key(key)) => {
                    let entry = entries.iter_mut().find(|entry| entry.key == *key)?;
                    &mut entry.node
                }
                (Value::Array(nodes), Segment::Index(index)) => nodes.get_mut(*index)?,
                _ => return None,
            };
        }
        Some(node)
    }

    /// A short value as the file has it: `${NAME}` where the value came from the environment. Nothing with an
    /// `@`: it may be a URL with a password, in the wrong place.
    pub(super) fn written(&self, span: &Range<usize>) -> Option<&'t str> {
        let text = self.text.get(span.clone())?;
        (!text.contains(['\n', '@']) && text.chars().count() <= QUOTED).then_some(text)
    }
}

/// The line and the column, in characters, of a byte.
pub(super) fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (line, column)
}

fn expand_node(
    node: &mut Node,
    env: &dyn Fn(&str) -> Option<String>,
    path: &KeyPath,
    failures: &mut Vec<(usize, KeyPath, String)>,
) {
    match &mut node.value {
        Value::Text(text) => match expand(text, env) {
            Ok(expanded) => *text = expanded,
            Err(error) => failures.push((node.span.start, path.clone(), error.to_string())),
        },
        Value::Array(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                expand_node(node, env, &path.index(index), failures);
            }
        }
        Value::Table(entries) => {
            for entry in entries {
                expand_node(&mut entry.node, env, &path.key(&entry.key), failures);
            }
        }
        Value::Integer(_) | Value::Float | Value::Boolean(_) | Value::Date => {}
    }
}

fn entries(table: DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_span: key.span(),
            key: key.into_inner().into_owned(),
            node: node(value),
        })
        .collect();
    // The parser sorts by name; mistakes are better told in the order of the file.
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

fn node(value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => {
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(array) => Value::Array(array.into_iter().map(node).collect()),
        DeValue::Table(table) => Value::Table(entries(table)),
    };
    Node {
        span,
        value,
        told: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a = 1\r\nü = \"é\" x\n".as_bytes();
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 7), (2, 1));
        assert_eq!(position(text, 12), (2, 5));
        assert_eq!(position(text, 10_000), (3, 1));
    }

    #[test]
    fn what_is_not_toml_is_located_and_not_shown() {
        let text = "[brokers.main]\nurl = \"redis://:hunter2@host\n";
        let error = Source::parse(text, Path::new("f.toml")).err().unwrap();
        let shown = error.to_string();
        assert!(shown.starts_with("f.toml:2:"), "{shown}");
        assert!(shown.contains("not valid TOML"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_byte_order_mark_is_no_column() {
        let error = Source::parse("\u{feff}= 1", Path::new("f.toml"))
            .err()
            .unwrap();
        assert!(error.to_string().starts_with("f.toml:1:1: "), "{error}");
    }

    #[test]
    fn all_unset_variables_are_named_at_once() {
        let text = "b = \"${ONE}\"\n[a]\nx = [\"${HOME}\", \"${TWO}\"]\n";
        let mut source = Source::parse(text, Path::new("f.toml")).unwrap();
        let error = source
            .expand(&|name| (name == "HOME").then(|| "/home/me".to_owned()))
            .unwrap_err()
            .to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 2, "{error}");
        assert!(lines[0].starts_with("f.toml:1:5: b: the environment variable `ONE`"));
        assert!(lines[1].starts_with("f.toml:3:17: a.x[1]: the environment variable `TWO`"));
    }
}
