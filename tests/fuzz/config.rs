//! `fanfare.toml`: any text is a configuration, or has mistakes, each with its place.

use std::path::Path;

use fanfare::config::{Config, ConfigError};

use crate::driver::{Target, gist};

const CONFIG: Target = Target {
    name: "config",
    runs: 1500,
    words: &[
        "[apps.a]\n",
        "component = ",
        "[[",
        "]]",
        "{",
        "=",
        "\"\"\"",
        "'''",
        "${SECRET}",
        "${SECRET:-",
        "${",
        "$$",
        "\"10s\"",
        "\"1MiB\"",
        "\"18446744073709551615h\"",
        "9223372036854775807",
        "1e999",
        "nan",
        "1979-05-27T07:32:00Z",
        "route = \"/\"",
        "[brokers.",
        "capabilities.redis = [",
    ],
};

/// What the environment has, which must be in no message.
const SECRET: &str = "hunter2\n\"[apps]";

#[test]
fn a_configuration_is_read_or_its_mistakes_have_places() {
    CONFIG.fuzz(|input| {
        let text = String::from_utf8_lossy(input);
        let env = |name: &str| name.starts_with("SECRET").then(|| SECRET.to_owned());
        match Config::parse(&text, Path::new("/etc/fanfare.toml"), &env) {
            Ok(config) => {
                config.validate().expect("what was read is valid");
                "read".into()
            }
            Err(ConfigError::Invalid { mistakes }) => {
                assert!(!mistakes.is_empty());
                for mistake in &mistakes {
                    let shown = mistake.to_string();
                    // A last line that is empty counts as one.
                    let line = text.split('\n').nth(mistake.line - 1);
                    let line = line.unwrap_or_else(|| panic!("there is no such line: {shown}"));
                    let columns = line.chars().count() + 1;
                    assert!((1..=columns).contains(&mistake.column), "{shown}");
                    assert!(!mistake.message.is_empty());
                    assert!(!shown.contains("hunter2"), "{shown}");
                }
                gist(&mistakes[0].message)
            }
            Err(error @ ConfigError::Read { .. }) => panic!("no file was read: {error}"),
        }
    });
}
