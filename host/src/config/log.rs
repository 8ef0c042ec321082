//! `[log]`: what the node says about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::checks::Checks;
use super::error::KeyPath;

/// The node's log, on its standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`; or a `tracing` filter, such as
    /// `info,fanfare::hub=debug`. The libraries `notify` and `async_nats` only warn unless it names them.
    pub level: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".to_owned(),
        }
    }
}

impl Log {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        if !is_filter(&self.level) {
            checks.refuse(
                at.key("level"),
                "must be `error`, `warn`, `info`, `debug`, `trace` or a filter such as \"info,fanfare::hub=debug\"",
            );
        }
    }
}

fn is_filter(text: &str) -> bool {
    // An empty filter is valid and logs errors alone, which nobody means by writing nothing. The parser panics
    // on some texts that are not ASCII.
    // A word alone may also be the name of a module, which a level that is misspelt would be taken for.
    let word_is_level =
        |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
    text.is_ascii()
        && !text.trim().is_empty()
        && text.split(',').map(str::trim).all(word_is_level)
        && EnvFilter::builder().parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filters() {
        for text in [
            "info",
            "WARN",
            "off",
            "info,fanfare::hub=debug",
            "fanfare[call{app=chat}]=trace",
        ] {
            assert!(is_filter(text), "{text}");
        }
        for text in [
            "",
            " ",
            "inof",
            "info,loud",
            "fanfare=loud",
            " a\u{a1}=",
            "[",
            "a=b=c",
        ] {
            assert!(!is_filter(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), ascii in "[ -~]{0,30}", near in "([a-z:]{0,3}[\\[\\]{}=, \"/*0]{0,2}){0,8}") {
            for text in [text, ascii, near] {
                let _ = is_filter(&text);
            }
        }
    }
}
