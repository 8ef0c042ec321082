//! Prometheus' text format, version 0.0.4: how a page of metrics is written.

use std::fmt::{Display, Write};

/// What a page of metrics says that it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// A metric on its page, with its samples.
#[derive(Debug)]
pub struct Metric<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.metric(name, "gauge", help)
    }

    /// A number that goes up, until the node is started anew. Its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.metric(name, "counter", help)
    }

    fn metric(&mut self, name: &'static str, kind: &str, help: &str) -> Metric<'_> {
        let text = &mut self.text;
        text.push_str("# HELP ");
        text.push_str(name);
        text.push(' ');
        // Quotes mean nothing here.
        escape(help, false, text);
        // Writing to a text does not fail; so it is below.
        let _ = writeln!(text, "\n# TYPE {name} {kind}");
        Metric { text, name }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Metric<'_> {
    /// Adds a sample. No two of a metric may have the same labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.text.push_str(self.name);
        for (index, (name, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(value, true, self.text);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }
}

fn escape(text: &str, quotes: bool, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_its_help_its_type_and_its_samples() {
        let mut page = Exposition::default();
        page.gauge("depth", "How deep.").sample(&[], 1.5);
        let mut seen = page.counter("seen_total", "Seen.");
        seen.sample(&[("by", "me"), ("at", "night")], 7);
        seen.sample(&[("by", "you")], u64::MAX);
        assert_eq!(
            page.into_text(),
            "# HELP depth How deep.\n\
             # TYPE depth gauge\n\
             depth 1.5\n\
             # HELP seen_total Seen.\n\
             # TYPE seen_total counter\n\
             seen_total{by=\"me\",at=\"night\"} 7\n\
             seen_total{by=\"you\"} 18446744073709551615\n"
        );
    }

    #[test]
    fn no_text_ends_its_line_or_its_quotes() {
        let mut page = Exposition::default();
        page.gauge("g", "a \"b\"\n\\c")
            .sample(&[("l", "a \"b\"\n\\c ☂")], 0);
        assert_eq!(
            page.into_text(),
            "# HELP g a \"b\"\\n\\\\c\n# TYPE g gauge\ng{l=\"a \\\"b\\\"\\n\\\\c ☂\"} 0\n"
        );
    }
}
