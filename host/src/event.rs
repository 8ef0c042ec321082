//! An event: its checks, and its form on the wire.
//!
//! The rules are those of the HTML Living Standard, section 9.2 "Server-sent events". An [`Event`] can only be
//! made by passing the checks, so whatever holds one can write it to a stream without looking at it again.

use std::fmt::Write as _;

use bytes::Bytes;
use thiserror::Error;

/// The longest id that [`IdForm::Plain`] allows, in bytes.
pub const PLAIN_ID_BYTES: usize = 128;
/// The longest id at all, in bytes.
pub const ID_BYTES: usize = 1024;
/// The longest event type, in bytes.
pub const TYPE_BYTES: usize = 1024;

/// Why an event was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EventError {
    /// The event breaks a rule of the format.
    #[error("{0}")]
    Invalid(String),
    /// The data is larger than allowed.
    #[error("data of {bytes} bytes is over the app's limit `event-data` of {limit} bytes")]
    TooLarge {
        /// The size of the data.
        bytes: usize,
        /// The limit that it is over.
        limit: usize,
    },
}

/// Which ids pass the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdForm {
    /// 1 to [`PLAIN_ID_BYTES`] of `[A-Za-z0-9._-]`. A browser sends such an id back across origins without a
    /// preflight: it is CORS-safelisted whatever the rules for `Last-Event-ID` become.
    Plain,
    /// 1 to [`ID_BYTES`] without CR, LF and NUL.
    Any,
}

/// What an event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Any text.
    Text(String),
    /// A JSON document, checked, in the form it was written in.
    Json(String),
}

impl Data {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Json(text) => text,
        }
    }
}

/// An event that has passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What the client sends back as `Last-Event-ID`. Without one the client's id stays what it was.
    id: Option<String>,
    /// What the client listens for; empty and absent both arrive as `message`.
    event_type: Option<String>,
    /// What the event says.
    data: Data,
    /// Milliseconds that the client waits before it reconnects, from this event on.
    retry: Option<u32>,
}

impl Event {
    /// An event of nothing but data of at most `limit` bytes.
    pub fn new(data: Data, limit: usize) -> Result<Self, EventError> {
        let bytes = data.as_str().len();
        if bytes > limit {
            return Err(EventError::TooLarge { bytes, limit });
        }
        if let Data::Json(text) = &data {
            serde_json::from_str::<serde::de::IgnoredAny>(text)
                .map_err(|error| EventError::Invalid(format!("the data is not JSON: {error}")))?;
        }
        Ok(Self {
            id: None,
            event_type: None,
            data,
            retry: None,
        })
    }

    /// Gives the event an id.
    pub fn with_id(mut self, id: String, form: IdForm) -> Result<Self, EventError> {
        check_id(&id, form)?;
        self.id = Some(id);
        Ok(self)
    }

    /// Gives the event a type.
    pub fn with_type(mut self, event_type: String) -> Result<Self, EventError> {
        check_text("event type", &event_type, TYPE_BYTES)?;
        // To a client the empty type is none (HTML, section 9.2.6), so it needs no line.
        self.event_type = Some(event_type).filter(|event_type| !event_type.is_empty());
        Ok(self)
    }

    /// Tells the client how long to wait before it reconnects, in milliseconds.
    pub fn with_retry(mut self, retry: Option<u32>) -> Self {
        self.retry = retry;
        self
    }

    /// The id, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The type, if it was given one.
    pub fn event_type(&self) -> Option<&str> {
        self.event_type.as_deref()
    }

    /// The data.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The bytes of the data.
    pub fn data_bytes(&self) -> usize {
        self.data.as_str().len()
    }

    /// Milliseconds before the client reconnects.
    pub fn retry(&self) -> Option<u32> {
        self.retry
    }

    /// The form on the wire, with its empty line at the end.
    pub fn encode(&self) -> Bytes {
        let body = self.encode_after_id();
        match &self.id {
            Some(id) => frame(id, &body),
            None => Bytes::from(body),
        }
    }

    /// The form on the wire but for the id, which [`frame`] puts in front. Encoding is the long part of
    /// publishing, and an id is sometimes known only under a lock.
    pub fn encode_after_id(&self) -> String {
        let data = self.data.as_str();
        let mut out = String::with_capacity(data.len() + 64);
        if let Some(event_type) = &self.event_type {
            let _ = writeln!(out, "event: {event_type}");
        }
        if let Some(retry) = self.retry {
            let _ = writeln!(out, "retry: {retry}");
        }
        for line in lines(data) {
            out.push_str("data: ");
            out.push_str(line);
            out.push('\n');
        }
        out.push('\n');
        out
    }

    /// Reads back what [`Event::encode`] wrote; line endings inside the data have become LF by then.
    ///
    /// This is no reader for other people's streams: a frame that `encode` could not have written is refused.
    pub fn decode(wire: &[u8], json: bool, limit: usize) -> Result<Self, EventError> {
        let bad = |what: &str| EventError::Invalid(format!("not an encoded event: {what}"));
        let text = std::str::from_utf8(wire).map_err(|_| bad("it is not UTF-8"))?;
        let text = text
            .strip_suffix("\n\n")
            .ok_or_else(|| bad("it does not end with an empty line"))?;
        let (mut id, mut event_type, mut retry, mut data) = (None, None, None, None::<String>);
        for line in text.split('\n') {
            let (field, value) = line
                .split_once(": ")
                .ok_or_else(|| bad("a line has no field"))?;
            match field {
                "id" => id = Some(value.to_owned()),
                "event" => event_type = Some(value.to_owned()),
                "retry" => retry = Some(value.parse().map_err(|_| bad("`retry` is not a number"))?),
                "data" => match &mut data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                },
                _ => return Err(bad("it has an unknown field")),
            }
        }
        let data = data.ok_or_else(|| bad("it has no data"))?;
        if data.contains('\r') {
            return Err(bad("a line holds a CR"));
        }
        let mut event = Self::new(
            if json {
                Data::Json(data)
            } else {
                Data::Text(data)
            },
            limit,
        )?;
        if let Some(id) = id {
            event = event.with_id(id, IdForm::Any)?;
        }
        if let Some(event_type) = event_type {
            event = event.with_type(event_type)?;
        }
        Ok(event.with_retry(retry))
    }
}

/// Puts the id in front of what [`Event::encode_after_id`] wrote. `id` must have passed [`check_id`].
pub fn frame(id: &str, rest: &str) -> Bytes {
    let mut out = String::with_capacity(id.len() + rest.len() + 5);
    let _ = writeln!(out, "id: {id}");
    out.push_str(rest);
    Bytes::from(out)
}

/// A block that only tells the client how long to wait before it reconnects, in milliseconds.
pub fn retry_block(milliseconds: u32) -> String {
    format!("retry: {milliseconds}\n\n")
}

/// A block of nothing but an id: no client sees an event, and its place is there from now on (HTML, section 9.2.6).
pub fn id_block(id: &str) -> String {
    format!("id: {id}\n\n")
}

/// A comment: it keeps proxies from closing a quiet stream, and no client ever sees it as an event.
pub const PING: &str = ": ping\n\n";

/// Refuses an id that is not of the form.
pub fn check_id(id: &str, form: IdForm) -> Result<(), EventError> {
    if id.is_empty() {
        return Err(EventError::Invalid(
            "an event id must not be empty; leave it out to have one given".into(),
        ));
    }
    match form {
        IdForm::Plain => {
            let odd = id
                .chars()
                .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')));
            if let Some(odd) = odd {
                return Err(EventError::Invalid(format!(
                    "an event id of the form `plain` has only A-Z, a-z, 0-9, `.`, `_` and `-`, and this one has {odd:?}; \
                     the form `any` allows more"
                )));
            }
            if id.len() > PLAIN_ID_BYTES {
                return Err(EventError::Invalid(format!(
                    "an event id of the form `plain` has at most {PLAIN_ID_BYTES} bytes, and this one has {}; \
                     the form `any` allows {ID_BYTES}",
                    id.len()
                )));
            }
            Ok(())
        }
        IdForm::Any => check_text("event id", id, ID_BYTES),
    }
}

fn check_text(what: &str, text: &str, limit: usize) -> Result<(), EventError> {
    if let Some(odd) = text.chars().find(|c| matches!(c, '\r' | '\n' | '\0')) {
        return Err(EventError::Invalid(format!(
            "an {what} must not contain CR, LF or NUL, and this one has {odd:?}"
        )));
    }
    if text.len() > limit {
        return Err(EventError::Invalid(format!(
            "an {what} has at most {limit} bytes, and this one has {}",
            text.len()
        )));
    }
    Ok(())
}

/// The lines of a text as a client sees them: CR, LF and CRLF each end one (`str::lines` knows no lone CR).
fn lines(mut text: &str) -> impl Iterator<Item = &str> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        match text.find(['\r', '\n']) {
            Some(end) => {
                let line = &text[..end];
                let ending = if text[end..].starts_with("\r\n") {
                    2
                } else {
                    1
                };
                text = &text[end + ending..];
                Some(line)
            }
            None => {
                done = true;
                Some(text)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn text(data: &str) -> Event {
        Event::new(Data::Text(data.into()), LIMIT).unwrap()
    }

    fn wire(event: &Event) -> String {
        String::from_utf8(event.encode().to_vec()).unwrap()
    }

    #[test]
    fn writes_every_field_once_and_an_empty_line() {
        let event = text("hello")
            .with_id("7".into(), IdForm::Plain)
            .unwrap()
            .with_type("greeting".into())
            .unwrap()
            .with_retry(Some(1500));
        assert_eq!(
            wire(&event),
            "id: 7\nevent: greeting\nretry: 1500\ndata: hello\n\n"
        );
    }

    #[test]
    fn splits_data_at_every_line_ending() {
        assert_eq!(
            wire(&text("a\rb\nc\r\nd\n")),
            "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
        );
        assert_eq!(
            wire(&text("\r\r\n\n")),
            "data: \ndata: \ndata: \ndata: \n\n"
        );
    }

    #[test]
    fn empty_data_is_still_an_event() {
        assert_eq!(wire(&text("")), "data: \n\n");
    }

    #[test]
    fn the_page_about_the_contract_shows_these_bytes() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/contract.md"));
        let (_, table) = page.split_once("| event | bytes |\n|---|---|\n").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let list = Event::new(Data::Json(r#"["a","b"]"#.into()), LIMIT)
            .unwrap()
            .with_id("list-1".into(), IdForm::Plain)
            .unwrap()
            .with_type("list".into())
            .unwrap()
            .with_retry(Some(1500));
        let blanks = text("  blanks  ").with_id("a b/1".into(), IdForm::Any);
        let untyped = text("x").with_type(String::new());
        let bytes = [
            wire(&text("hello")),
            wire(&text("one\ntwo\r\nthree\rfour\n")),
            wire(&text("")),
            wire(&list),
            wire(&blanks.unwrap()),
            wire(&untyped.unwrap()),
            PING.to_owned(),
            retry_block(1457),
        ];
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), bytes.len(), "{table}");
        for (row, bytes) in rows.iter().zip(bytes) {
            let cell = format!(" | `{}`", bytes.replace('\n', "\\n"));
            assert!(row.contains(&cell), "{row:?} has no {cell:?}");
        }
    }

    #[test]
    fn refuses_ids_that_would_break_the_stream_or_cost_a_preflight() {
        for (id, form) in [
            ("", IdForm::Plain),
            ("", IdForm::Any),
            ("a b", IdForm::Plain),
            ("a\nb", IdForm::Plain),
            ("a\nb", IdForm::Any),
            ("a\rb", IdForm::Any),
            ("a\0b", IdForm::Any),
            (&"x".repeat(129), IdForm::Plain),
            (&"x".repeat(10_240), IdForm::Any),
        ] {
            assert!(check_id(id, form).is_err(), "{id:?} {form:?}");
        }
        assert_eq!(check_id(&"x".repeat(128), IdForm::Plain), Ok(()));
        assert_eq!(check_id("größe 1/2", IdForm::Any), Ok(()));
    }

    #[test]
    fn refuses_types_that_would_break_the_stream() {
        for odd in ["a\nb", "a\rb", "a\0b", &"x".repeat(1025)] {
            assert!(text("").with_type(odd.into()).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn names_the_place_of_a_json_mistake_and_the_limit_of_data() {
        let error = Event::new(Data::Json("{\"a\": tru}".into()), LIMIT).unwrap_err();
        assert!(error.to_string().contains("line 1 column"), "{error}");
        let error = Event::new(Data::Text("12345".into()), 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "data of 5 bytes is over the app's limit `event-data` of 4 bytes"
        );
    }

    #[test]
    fn deep_json_is_an_error_and_not_a_stack_overflow() {
        assert!(Event::new(Data::Json("[".repeat(500_000)), LIMIT).is_err());
    }

    #[test]
    fn decode_refuses_what_encode_never_writes() {
        for wire in [
            "",
            "\n\n",
            "data: x\n",
            "data:x\n\n",
            "evil: x\ndata: y\n\n",
            "id: 1\n\n",
            "data: a\rid: 2\n\n",
            "retry: soon\ndata: x\n\n",
        ] {
            assert!(
                Event::decode(wire.as_bytes(), false, LIMIT).is_err(),
                "{wire:?}"
            );
        }
        assert!(Event::decode(b"data: \xff\n\n", false, LIMIT).is_err());
        assert!(Event::decode(b"data: {\n\n", true, LIMIT).is_err());
    }

    proptest! {
        #[test]
        fn decode_reads_what_encode_wrote(
            id in proptest::option::of("[^\r\n\0]{1,40}"),
            event_type in proptest::option::of("[^\r\n\0]{1,40}"),
            data in "(?s).{0,200}",
            retry in proptest::option::of(any::<u32>()),
        ) {
            let mut event = text(&data).with_retry(retry);
            if let Some(id) = id {
                event = event.with_id(id, IdForm::Any).unwrap();
            }
            if let Some(event_type) = event_type {
                event = event.with_type(event_type).unwrap();
            }
            let heard = Event::decode(&event.encode(), false, LIMIT).unwrap();
            event.data = Data::Text(data.replace("\r\n", "\n").replace('\r', "\n"));
            prop_assert_eq!(heard, event);
        }

        #[test]
        fn decode_survives_anything(wire in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::decode(&wire, true, LIMIT);
        }
    }
}
