//! What the contract asks of arguments, in the order in which the host looks at them.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::de::IgnoredAny;

use crate::{Error, Event, EventId, Payload, Response, Result, Upgrade};

const EVENT_DATA: usize = 1024 * 1024;
const RESPONSE_BODY: usize = 8 * 1024 * 1024;
const HEADERS_OF_THE_HOST: [&str; 6] = [
    "connection",
    "content-length",
    "keep-alive",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::Invalid(message))
}

/// A limit of the app is reached.
pub fn limited(name: &str, limit: usize) -> Error {
    Error::Limited(format!("the app's limit `{name}` of {limit} is reached"))
}

/// Names of channels, sync channels and values.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return invalid(format!(
            "{what} has 1 to 255 bytes without control characters, and {name:?} has not"
        ));
    }
    Ok(())
}

/// Whether an id is of the plain form.
pub fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(plain)
}

pub(super) fn check_event(event: &Event) -> Result<()> {
    let size = event.data.as_str().len();
    if size > EVENT_DATA {
        return Err(Error::Limited(format!(
            "data of {size} bytes is over the app's limit `event-data` of {EVENT_DATA} bytes"
        )));
    }
    if let Payload::Json(json) = &event.data {
        serde_json::from_str::<IgnoredAny>(json)
            .map_err(|error| Error::Invalid(format!("the data is not JSON: {error}")))?;
    }
    let breaks_line = |text: &str| text.contains(['\r', '\n', '\0']);
    match &event.id {
        Some(EventId::Plain(id)) if !is_plain(id) => {
            return invalid(format!(
                "an id of the form `plain` has 1 to 128 letters, digits, `.`, `_` and `-`, and {id:?} has not; \
                 `any_id` allows more"
            ));
        }
        Some(EventId::Any(id)) if id.is_empty() || id.len() > 1024 || breaks_line(id) => {
            return invalid(format!(
                "an id has 1 to 1,024 bytes without CR, LF and NUL, and {id:?} has not"
            ));
        }
        _ => {}
    }
    if let Some(name) = &event.event_type
        && (name.len() > 1024 || breaks_line(name))
    {
        return invalid(format!(
            "an event type has at most 1,024 bytes without CR, LF and NUL, and {name:?} has not"
        ));
    }
    Ok(())
}

/// Returns the allowed origins in the form in which browsers send them.
pub(super) fn check_upgrade(options: &Upgrade) -> Result<Vec<String>> {
    for (name, interval) in [
        ("ping-interval", options.ping_interval),
        ("inactivity-timeout", options.inactivity_timeout),
    ] {
        if interval.is_some_and(|interval| (1..100).contains(&interval)) {
            return invalid(format!(
                "{name} should be at least 100 milliseconds, or 0 for never"
            ));
        }
    }
    let origins = options.allowed_origins.iter().flatten();
    origins
        .map(|origin| {
            canonical_origin(origin).ok_or_else(|| {
                Error::Invalid(format!(
                    "allowed-origins: {origin:?} should be an origin such as `https://example.org`, or `*`"
                ))
            })
        })
        .collect()
}

fn canonical_origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let text = text.to_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let scheme_is_one = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = split_port(rest);
    let port = match port {
        Some(port) => Some(number(port, 1..=65535)?),
        None => None,
    };
    if !scheme_is_one || !is_host(host) {
        return None;
    }
    Some(match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// Splits `host:port`; the colons of an IPv6 address stand in brackets.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// A name or an address.
pub(super) fn is_host(text: &str) -> bool {
    if let Some(inside) = text.strip_prefix('[') {
        return inside
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || !c.is_ascii() || matches!(c, '-' | '_'))
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_address = last.starts_with(|c: char| c.is_ascii_digit());
    text.len() <= 253
        && text.split('.').all(label)
        && (!is_address || text.parse::<Ipv4Addr>().is_ok())
}

/// A number in plain digits.
pub(super) fn number(text: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && range.contains(number))
}

pub(super) fn check_response(response: &Response) -> Result<()> {
    let size = response.body.len();
    if size > RESPONSE_BODY {
        return Err(Error::Limited(format!(
            "a body of {size} bytes is over the app's limit `response-body` of {RESPONSE_BODY} bytes"
        )));
    }
    if !(200..=599).contains(&response.status) {
        return invalid(format!(
            "a status is 200 to 599, and {} is not",
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
            return invalid(format!("the header `{name}` is set by the host"));
        }
        if value
            .iter()
            .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
        {
            return invalid(format!(
                "the value of the header `{name}` has a character that no header may have"
            ));
        }
    }
    Ok(())
}
