//! A strict parser of Prometheus' text format, version 0.0.4, written from its description and not from the host.

use std::collections::{BTreeMap, BTreeSet};

/// A page of metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads a page. Every line has to be a help, a type or a sample; a metric is told by all three, in this order, in
    /// one place; no sample is there twice. Panics where it is otherwise.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let text = text.strip_suffix('\n').expect("the last line ends");
        let (mut samples, mut known) = (BTreeMap::new(), BTreeSet::new());
        // The metric whose help was read, and the type after it.
        let (mut helped, mut current) = (None, None);
        for line in text.split('\n') {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a help has a text");
                check_name(name, true);
                assert!(!text.is_empty(), "{line:?} helps nobody");
                unescape(text, false);
                assert!(known.insert(name), "{name} is there twice");
                (helped, current) = (Some(name), None);
            } else if let Some(told) = line.strip_prefix("# TYPE ") {
                let (name, kind) = told.split_once(' ').expect("a type has a kind");
                assert_eq!(helped.take(), Some(name), "a type follows its help");
                match kind {
                    "counter" => assert!(name.ends_with("_total"), "{name}"),
                    "gauge" => assert!(!name.ends_with("_total"), "{name}"),
                    other => panic!("{name} is of an unknown type {other:?}"),
                }
                current = Some((name, kind));
            } else {
                let (name, kind) = current.unwrap_or_else(|| panic!("{line:?} has no type"));
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                check_series(series, name);
                let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
                assert!(value.bytes().all(plain), "{line:?}");
                let value: f64 = value.parse().expect("a value is a number");
                assert!(kind == "gauge" || value >= 0.0, "{line:?}");
                let before = samples.insert(series.to_owned(), value);
                assert_eq!(before, None, "{series} is there twice");
            }
        }
        assert_eq!(helped, None, "a help is followed by its type");
        Self { samples }
    }

    /// The value of a sample, named as it stands on the page, such as `name{label="value"}`.
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        *self
            .samples
            .get(series)
            .unwrap_or_else(|| panic!("{series} is not on the page: {:?}", self.series()))
    }

    /// All samples, named as they stand on the page.
    pub fn series(&self) -> Vec<&str> {
        self.samples.keys().map(String::as_str).collect()
    }
}

/// Checks the name and the labels of a sample.
#[track_caller]
fn check_series(series: &str, name: &str) {
    let rest = series
        .strip_prefix(name)
        .unwrap_or_else(|| panic!("{series} stands among the samples of {name}"));
    if rest.is_empty() {
        return;
    }
    let labels = rest
        .strip_prefix('{')
        .and_then(|labels| labels.strip_suffix('}'));
    let mut labels = labels.unwrap_or_else(|| panic!("these are no labels: {series}"));
    let mut known = BTreeSet::new();
    loop {
        let (label, rest) = labels
            .split_once("=\"")
            .unwrap_or_else(|| panic!("this is no label: {labels}"));
        check_name(label, false);
        assert!(known.insert(label), "{series} has {label} twice");
        let end = unescape(rest, true).unwrap_or_else(|| panic!("{series} does not end"));
        match rest[end + 1..].strip_prefix(',') {
            Some(next) => labels = next,
            None => {
                assert_eq!(&rest[end + 1..], "", "{series}");
                return;
            }
        }
    }
}

/// Checks the escapes of a text, and says where its closing quote is, if it has one.
#[track_caller]
fn unescape(text: &str, quoted: bool) -> Option<usize> {
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, '\\' | 'n')) => {}
                Some((_, '"')) if quoted => {}
                other => panic!("an unknown escape {other:?} in {text:?}"),
            },
            '"' if quoted => return Some(place),
            _ => {}
        }
    }
    None
}

#[track_caller]
fn check_name(name: &str, colons: bool) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || colons && byte == b':';
    let begins = |byte: &u8| !byte.is_ascii_digit();
    assert!(
        name.as_bytes().first().is_some_and(begins) && name.bytes().all(allowed),
        "{name:?} is no name"
    );
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_good_page_is_read() {
        let page = Metrics::parse(
            "# HELP a What it is.\n# TYPE a gauge\na -1.5\n# HELP b_total \\\\ \\n\n# TYPE b_total counter\n\
             b_total{x=\"1\",y=\"a \\\"}, \\\\\"} 7\nb_total{x=\"2\",y=\"\"} 0\n",
        );
        assert_eq!(page.value("a"), -1.5);
        assert_eq!(page.value("b_total{x=\"1\",y=\"a \\\"}, \\\\\"}"), 7.0);
        assert_eq!(page.series().len(), 3);
    }

    #[test]
    fn bad_pages_are_not() {
        let begin = "# HELP a A.\n# TYPE a gauge\n";
        let bad = [
            "a 1\n".to_owned(),
            format!("{begin}a 1"),
            format!("{begin}a 1\n\n"),
            format!("{begin}a one\n"),
            format!("{begin}a NaN\n"),
            format!("{begin}a 1\na 2\n"),
            format!("{begin}b 1\n"),
            format!("{begin}a{{}} 1\n"),
            format!("{begin}a{{x=\"1}} 1\n"),
            format!("{begin}a{{x=\"1\",}} 1\n"),
            format!("{begin}a{{x=\"1\",x=\"2\"}} 1\n"),
            format!("{begin}a{{x=\"\\t\"}} 1\n"),
            format!("{begin}a{{1=\"\"}} 1\n"),
            format!("{begin}# a comment\n"),
            format!("{begin}a 1\n{begin}"),
            "# TYPE a gauge\n# HELP a A.\na 1\n".to_owned(),
            "# HELP a A.\n# TYPE a counter\na 1\n".to_owned(),
            "# HELP a_total A.\n# TYPE a_total gauge\na_total 1\n".to_owned(),
            "# HELP a A.\n".to_owned(),
        ];
        for page in bad {
            assert!(catch_unwind(|| Metrics::parse(&page)).is_err(), "{page}");
        }
    }
}
