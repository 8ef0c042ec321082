//! What the contract asks of arguments.

use serde::de::IgnoredAny;

use crate::{Error, Event, EventId, Payload, Response, Result, Upgrade};

const EVENT_DATA: usize = 1024 * 1024;
const RESPONSE_BODY: usize = 8 * 1024 * 1024;
const HEADERS_OF_THE_HOST: [&str; 5] = [
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
];

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::Invalid(message))
}

/// Names of channels, sync channels and values.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return invalid(format!(
            "{what}, {name:?}, should have 1 to 255 bytes without control characters"
        ));
    }
    Ok(())
}

pub(super) fn check_event(event: &Event) -> Result<()> {
    let breaks_line = |text: &str| text.contains(['\r', '\n', '\0']);
    match &event.id {
        Some(EventId::Plain(id)) => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if id.is_empty() || id.len() > 128 || !id.bytes().all(plain) {
                return invalid(format!(
                    "the plain id {id:?} should have 1 to 128 letters, digits, `.`, `_` and `-`; for others there is \
                     `any_id`"
                ));
            }
        }
        Some(EventId::Any(id)) if id.is_empty() || id.len() > 1024 || breaks_line(id) => {
            return invalid(format!(
                "the id {id:?} should have 1 to 1,024 bytes without CR, LF and NUL"
            ));
        }
        _ => {}
    }
    if let Some(name) = &event.event_type
        && (name.len() > 1024 || breaks_line(name))
    {
        return invalid(format!(
            "the event type {name:?} should have at most 1,024 bytes without CR, LF and NUL"
        ));
    }
    let size = event.data.as_str().len();
    if size > EVENT_DATA {
        let message = format!(
            "data of {size} bytes is over the app's limit `event-data` of {EVENT_DATA} bytes"
        );
        return Err(Error::Limited(message));
    }
    if let Payload::Json(json) = &event.data {
        serde_json::from_str::<IgnoredAny>(json)
            .map_err(|error| Error::Invalid(format!("the data is not JSON: {error}")))?;
    }
    Ok(())
}

pub(super) fn check_upgrade(options: &Upgrade) -> Result<()> {
    for origin in options.allowed_origins.iter().flatten() {
        let exact = origin.split_once("://").is_some_and(|(scheme, authority)| {
            !scheme.is_empty()
                && !authority.is_empty()
                && !authority.contains(|c: char| "/?#@*".contains(c) || c <= ' ')
        });
        if !exact && origin != "*" {
            return invalid(format!(
                "the origin {origin:?} should be one such as `https://example.org`, or `*`"
            ));
        }
    }
    for (name, interval) in [
        ("ping interval", options.ping_interval),
        ("inactivity timeout", options.inactivity_timeout),
    ] {
        if interval.is_some_and(|interval| (1..100).contains(&interval)) {
            return invalid(format!(
                "the {name} should be at least 100 ms, or 0 for never"
            ));
        }
    }
    Ok(())
}

pub(super) fn check_response(response: &Response) -> Result<()> {
    if !(200..=599).contains(&response.status) {
        return invalid(format!(
            "the status {} should be one of 200 to 599",
            response.status
        ));
    }
    for (name, value) in &response.headers {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return invalid(format!("{name:?} is no name of a header"));
        }
        if HEADERS_OF_THE_HOST
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own))
        {
            return invalid(format!("the header `{name}` is the host's to set"));
        }
        if value
            .iter()
            .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
        {
            return invalid(format!(
                "the value of the header `{name}` holds a control character"
            ));
        }
    }
    let size = response.body.len();
    if size > RESPONSE_BODY {
        let message = format!(
            "a body of {size} bytes is over the app's limit `response-body` of {RESPONSE_BODY} bytes"
        );
        return Err(Error::Limited(message));
    }
    Ok(())
}
