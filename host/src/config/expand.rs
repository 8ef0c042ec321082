//! `${NAME}` in a text: the value of an environment variable.

use thiserror::Error;

/// Why a text could not be expanded. Only names appear, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ExpandError {
    #[error(
        "the environment variable `{0}` is not set; set it, or give a default: `${{{0}:-default}}`"
    )]
    Unset(String),
    #[error(
        "`${{` is never closed; write `${{NAME}}`, or `$${{` to mean the characters themselves"
    )]
    Open,
    #[error(
        "`${{…}}` takes the name of an environment variable (letters, digits and `_`, no digit first), then \
         nothing or `:-` and a default; write `$${{` to mean the characters themselves"
    )]
    Name,
}

/// The text with each `${NAME}` replaced. What the environment holds is not looked into again.
pub(super) fn expand(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            expanded.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let (inside, after) = after.split_once('}').ok_or(ExpandError::Open)?;
            expanded.push_str(&look_up(inside, env)?);
            rest = after;
        } else {
            expanded.push('$');
            rest = &rest[1..];
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn look_up(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(ExpandError::Name);
    }
    match (env(name), default) {
        // As in a shell, `:-` also stands in for a variable that is set to nothing.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("redis.example".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}\"\n[node]".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn names_are_replaced() {
        for (text, expanded) in [
            ("", ""),
            ("plain $ and $$ and $x", "plain $ and $$ and $x"),
            ("redis://${HOST}:6379", "redis://redis.example:6379"),
            ("${HOST}${HOST}", "redis.exampleredis.example"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("a$", "a$"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NONE:-a b:-c}", "a b:-c"),
            ("${NONE:-}", ""),
            ("${HOST:-x}", "redis.example"),
            ("ü${EMPTY}ü", "üü"),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(expand("${TRICK}", &env).as_deref(), Ok("${HOST}\"\n[node]"));
    }

    #[test]
    fn mistakes_name_what_is_missing() {
        let unset = expand("x${NONE}", &env).unwrap_err();
        assert_eq!(
            unset.to_string(),
            "the environment variable `NONE` is not set; set it, or give a default: `${NONE:-default}`"
        );
        assert_eq!(expand("${HOST", &env), Err(ExpandError::Open));
        for text in ["${}", "${1A}", "${A-B}", "${ HOST }", "${:-x}", "${ü}"] {
            assert_eq!(expand(text, &env), Err(ExpandError::Name), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[${}:a-zA-Zü-]{0,40}") {
            let _ = expand(&text, &env);
        }
    }
}
