//! Whatever stands in a file is no panic, and no secret of it is shown.

use proptest::prelude::*;

use super::*;

#[test]
fn depth_is_bounded() {
    for text in [
        "a.".repeat(100_000) + "a = 1",
        format!("[{}a]", "a.".repeat(100_000)),
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{ a = ".repeat(100_000),
    ] {
        assert!(parse(&text).is_err());
    }
}

/// A secret for every name.
fn all_env(_: &str) -> Option<String> {
    Some("redis://:hunter2@h".to_owned())
}

fn never_panics(text: &str) {
    if let Err(error) = Config::parse(text, Path::new("f.toml"), &all_env) {
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!error.to_string().is_empty());
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>(), toml in "([a-z.\\[\\]]{0,8}[ =\"{},$\n]{0,4}){0,20}") {
        never_panics(&text);
        never_panics(&toml);
    }

    #[test]
    fn no_mutation_of_the_example_panics(
        cuts in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..20usize, any::<prop::sample::Index>(), 0..12usize),
            1..4,
        )
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        let original = text.clone();
        for (at, length, from, count) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            let from = from.index(original.len());
            let until = (from + count).min(original.len());
            text.splice(at..end, original[from..until].iter().copied());
            prop_assume!(!text.is_empty());
        }
        never_panics(&text.iter().collect::<String>());
    }

    #[test]
    fn no_value_anywhere_panics(
        line in any::<prop::sample::Index>(),
        value in prop_oneof![
            Just("-1".to_owned()), Just("9223372036854775807".to_owned()), Just("nan".to_owned()),
            Just("[]".to_owned()), Just("{}".to_owned()), Just("true".to_owned()), Just("1979-05-27".to_owned()),
            "\"[^\"\\\\\\p{Cc}]{0,30}\"",
        ],
    ) {
        let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        let keys: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(" = ")).collect();
        let line = &mut lines[*line.get(&keys)];
        let key = line.split(" = ").next().unwrap_or_default().to_owned();
        *line = format!("{key} = {value}");
        never_panics(&lines.join("\n"));
    }
}
