//! What a record of the topic says.
//!
//! The key is the channel, the value is the data, and headers that begin with `fanfare-` say the rest, each of which may
//! be left out. So what another program produces is an event as well. Records with a [`Mark`] have neither key nor value.
//! In the order topic, beside a topic with several partitions, there are nothing but marks and [cuts](super::cut).

use std::{
    panic::{self, AssertUnwindSafe},
    str::{self, FromStr},
};

use rdkafka::message::{Header, Headers as _, Message, OwnedHeaders};
use thiserror::Error;

use super::cut::Cut;
use crate::{
    event::{Data, Event, EventError, IdForm},
    hub::channel::{ChannelName, NameError},
};

/// The id of an event that came with one, as UTF-8.
const ID: &str = "fanfare-id";
/// The type of an event, as UTF-8.
const TYPE: &str = "fanfare-type";
/// How long a client is to wait before it reconnects, in milliseconds, as decimal digits.
const RETRY: &str = "fanfare-retry";
/// What the data is; only `json` says something.
const DATA: &str = "fanfare-data";
const JSON: &[u8] = b"json";
/// The node that produced the record, and its number there: two hexadecimal numbers with a `-` between them.
const FROM: &str = "fanfare-from";
/// These three make a mark.
const EPOCH: &str = "fanfare-epoch";
const BASE: &str = "fanfare-base";
const AFTER: &str = "fanfare-after";
/// What the author of a cut had seen of the order topic, as an offset; that makes a cut.
const SEEN: &str = "fanfare-seen";
/// The offset of the cut that began the order that a cut or a mark of the order topic belongs to.
const BEGAN: &str = "fanfare-began";

/// The longest name of an epoch, in bytes.
const EPOCH_BYTES: usize = 32;
/// The greatest base: so that no position overflows, whatever is added to it.
const LARGEST_BASE: u64 = 1 << 62;

/// A record.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// Who produced it, if it was a node.
    pub(super) origin: Option<Origin>,
    /// The offset of the cut that began the order that it belongs to.
    pub(super) began: Option<u64>,
    pub(super) content: Result<Content, RecordError>,
}

/// A record of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    /// A random number of the node.
    pub(super) node: u64,
    /// The record's own number there.
    pub(super) number: u64,
}

#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// An event; if it has an id, it came with it.
    Event(ChannelName, Event),
    Mark(Mark),
    Cut(Cut),
}

/// Says what the log is called in the ids of events, and how positions follow from offsets: see
/// [`index`](super::index).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: String,
    pub(super) base: u64,
    /// Whoever produced it had read all records before this offset.
    pub(super) after: u64,
}

/// Why a record is no event.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum RecordError {
    #[error("it has no key, which is to name a channel")]
    NoKey,
    #[error("it has no value, which is to be the data")]
    NoValue,
    #[error("its {0} is not UTF-8")]
    NotText(&'static str),
    #[error("its key is not the name of a channel: {0}")]
    Channel(#[from] NameError),
    #[error("its header {0} is not a number")]
    NotNumber(&'static str),
    #[error("it says something about the log that cannot be")]
    Mark,
    #[error("it says something about the order of records that cannot be")]
    Cut,
    #[error("{0}")]
    Event(#[from] EventError),
}

/// The headers that are known.
#[derive(Debug, Default)]
struct Headers<'a> {
    id: Option<&'a [u8]>,
    event_type: Option<&'a [u8]>,
    retry: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    epoch: Option<&'a [u8]>,
    base: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    seen: Option<&'a [u8]>,
    began: Option<&'a [u8]>,
}

// === impl Record ===

impl Record {
    /// Whether it was an event all the same, which this node cannot read: a node produced it, or nothing but the app's
    /// limit is in its way.
    pub(super) fn is_unreadable(&self) -> bool {
        match &self.content {
            Ok(_) => false,
            Err(RecordError::Event(EventError::TooLarge { .. })) => true,
            Err(_) => self.origin.is_some(),
        }
    }

    /// Reads a record, whose data may have so many bytes.
    pub(super) fn read(message: &impl Message, limit: usize) -> Self {
        let mut headers = Headers::default();
        if let Some(all) = message.headers() {
            for index in 0..all.count() {
                // The library panics at a name that is not UTF-8, and anybody may have produced it.
                let header = panic::catch_unwind(AssertUnwindSafe(|| all.try_get(index)));
                if let Ok(Some(Header { key, value })) = header {
                    headers.take(key, value);
                }
            }
        }
        Self::parse(message.key(), message.payload(), &headers, limit)
    }

    fn parse(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers<'_>,
        limit: usize,
    ) -> Self {
        let origin = headers.from.and_then(Origin::parse);
        let began = headers.began.and_then(number);
        let content = match (headers.epoch, headers.seen) {
            (Some(epoch), _) if key.is_none() => {
                let mark = Mark::parse(epoch, headers);
                mark.map(Content::Mark).ok_or(RecordError::Mark)
            }
            (None, Some(seen)) if key.is_none() => {
                let cut = number(seen).and_then(|seen| Cut::parse(seen, began, value?));
                cut.map(Content::Cut).ok_or(RecordError::Cut)
            }
            // What a node produces has a value, and an empty one may look like none.
            _ => event(key, value.or(origin.map(|_| &[][..])), headers, limit),
        };
        Self {
            origin,
            began,
            content,
        }
    }
}

fn event(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &Headers<'_>,
    limit: usize,
) -> Result<Content, RecordError> {
    let channel = ChannelName::new(text("key", key.ok_or(RecordError::NoKey)?)?)?;
    let data = value.ok_or(RecordError::NoValue)?;
    if data.len() > limit {
        // Before it is copied.
        let bytes = data.len();
        return Err(EventError::TooLarge { bytes, limit }.into());
    }
    let data = text("value", data)?.to_owned();
    let data = match headers.data {
        Some(JSON) => Data::Json(data),
        _ => Data::Text(data),
    };
    let mut event = Event::new(data, limit)?;
    if let Some(id) = headers.id {
        event = event.with_id(text("id", id)?.to_owned(), IdForm::Any)?;
    }
    if let Some(event_type) = headers.event_type {
        event = event.with_type(text("type", event_type)?.to_owned())?;
    }
    if let Some(retry) = headers.retry {
        let retry = number(retry).ok_or(RecordError::NotNumber(RETRY))?;
        event = event.with_retry(Some(retry));
    }
    Ok(Content::Event(channel, event))
}

fn text<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a str, RecordError> {
    str::from_utf8(bytes).map_err(|_| RecordError::NotText(what))
}

fn number<N: FromStr>(digits: &[u8]) -> Option<N> {
    str::from_utf8(digits).ok()?.parse().ok()
}

impl<'a> Headers<'a> {
    /// Where a header is there twice, the last one counts.
    fn take(&mut self, name: &str, value: Option<&'a [u8]>) {
        let field = match name {
            ID => &mut self.id,
            TYPE => &mut self.event_type,
            RETRY => &mut self.retry,
            DATA => &mut self.data,
            FROM => &mut self.from,
            EPOCH => &mut self.epoch,
            BASE => &mut self.base,
            AFTER => &mut self.after,
            SEEN => &mut self.seen,
            BEGAN => &mut self.began,
            _ => return,
        };
        *field = value;
    }
}

impl Origin {
    fn parse(value: &[u8]) -> Option<Self> {
        let (node, number) = str::from_utf8(value).ok()?.split_once('-')?;
        Some(Self {
            node: u64::from_str_radix(node, 16).ok()?,
            number: u64::from_str_radix(number, 16).ok()?,
        })
    }
}

impl Mark {
    fn parse(epoch: &[u8], headers: &Headers<'_>) -> Option<Self> {
        let epoch = str::from_utf8(epoch).ok()?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let base = number(headers.base?)?;
        let good = (1..=EPOCH_BYTES).contains(&epoch.len())
            && epoch.bytes().all(plain)
            && base <= LARGEST_BASE;
        good.then_some(Self {
            epoch: epoch.to_owned(),
            base,
            after: number(headers.after?)?,
        })
    }
}

// === writing ===

/// The value of a record with this event.
pub(super) fn value(event: &Event) -> &str {
    match event.data() {
        Data::Text(text) | Data::Json(text) => text,
    }
}

/// The headers of a record with this event.
pub(super) fn event_headers(origin: Origin, event: &Event) -> OwnedHeaders {
    let mut headers = origin_header(origin);
    if let Some(id) = event.id() {
        headers = with(headers, ID, id);
    }
    if let Some(event_type) = event.event_type() {
        headers = with(headers, TYPE, event_type);
    }
    if let Some(retry) = event.retry() {
        headers = with(headers, RETRY, &retry.to_string());
    }
    if let Data::Json(_) = event.data() {
        headers = headers.insert(Header {
            key: DATA,
            value: Some(JSON),
        });
    }
    headers
}

/// The headers of a record with this mark; in the order topic, of the order that began with this cut.
pub(super) fn mark_headers(origin: Origin, mark: &Mark, began: Option<u64>) -> OwnedHeaders {
    let headers = with(origin_header(origin), EPOCH, &mark.epoch);
    let headers = with(headers, BASE, &mark.base.to_string());
    let headers = with(headers, AFTER, &mark.after.to_string());
    with_began(headers, began)
}

/// The headers of a record with this cut.
pub(super) fn cut_headers(origin: Origin, cut: &Cut) -> OwnedHeaders {
    let headers = with(origin_header(origin), SEEN, &cut.seen.to_string());
    with_began(headers, cut.began)
}

fn with_began(headers: OwnedHeaders, began: Option<u64>) -> OwnedHeaders {
    match began {
        Some(offset) => with(headers, BEGAN, &offset.to_string()),
        None => headers,
    }
}

fn origin_header(origin: Origin) -> OwnedHeaders {
    let Origin { node, number } = origin;
    with(OwnedHeaders::new(), FROM, &format!("{node:x}-{number:x}"))
}

fn with(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header {
        key,
        value: Some(value),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rdkafka::{Timestamp, message::OwnedMessage};

    use super::*;

    const LIMIT: usize = 100;

    const ORIGIN: Origin = Origin {
        node: 0xfeed,
        number: 17,
    };

    fn read(key: Option<&[u8]>, value: Option<&[u8]>, headers: OwnedHeaders) -> Record {
        let message = OwnedMessage::new(
            value.map(<[u8]>::to_vec),
            key.map(<[u8]>::to_vec),
            "topic".into(),
            Timestamp::NotAvailable,
            0,
            7,
            Some(headers),
        );
        Record::read(&message, LIMIT)
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn plain(text: &str) -> Event {
        Event::new(Data::Text(text.into()), LIMIT).unwrap()
    }

    #[test]
    fn what_a_node_produces_is_read_back() {
        let full = Event::new(Data::Json("{\"a\": 1}".into()), LIMIT).unwrap();
        let full = full.with_id("größe 1".into(), IdForm::Any).unwrap();
        let full = full.with_type("tick".into()).unwrap();
        for event in [plain("a\r\nb"), plain(""), full.with_retry(Some(1500))] {
            let headers = event_headers(ORIGIN, &event);
            let record = read(Some(b"news"), Some(value(&event).as_bytes()), headers);
            let content = Ok(Content::Event(channel("news"), event));
            let origin = Some(ORIGIN);
            let began = None;
            assert_eq!(
                record,
                Record {
                    origin,
                    began,
                    content
                }
            );
        }
        let mark = Mark {
            epoch: "r0123".into(),
            base: 5,
            after: 6,
        };
        for began in [None, Some(7)] {
            let record = read(None, None, mark_headers(ORIGIN, &mark, began));
            assert_eq!(record.began, began);
            assert_eq!(record.content, Ok(Content::Mark(mark.clone())));
            let cut = Cut::parse(9, began, b"1 2+3@4").unwrap();
            let headers = cut_headers(ORIGIN, &cut);
            let record = read(None, Some(cut.value().as_bytes()), headers);
            assert_eq!(record.origin, Some(ORIGIN));
            assert_eq!(record.content, Ok(Content::Cut(cut)));
        }
    }

    #[test]
    fn what_others_produce_is_an_event_too() {
        let record = read(Some(b"news"), Some(b"{}"), OwnedHeaders::new());
        assert_eq!(record.origin, None);
        let event = Content::Event(channel("news"), plain("{}"));
        assert_eq!(record.content, Ok(event));
    }

    #[test]
    fn what_is_no_event_says_why() {
        let none = OwnedHeaders::new;
        let large = "x".repeat(LIMIT + 1);
        for (key, value, headers, why) in [
            (None, Some(&b"x"[..]), none(), "no key"),
            (Some(&b"news"[..]), None, none(), "no value"),
            (Some(b"\xff"), Some(b"x"), none(), "key is not UTF-8"),
            (Some(b"a\nb"), Some(b"x"), none(), "name of a channel"),
            (Some(b"news"), Some(b"\xff"), none(), "value is not UTF-8"),
            (Some(b"news"), Some(large.as_bytes()), none(), "event-data"),
            (
                Some(b"news"),
                Some(b"{"),
                with(none(), DATA, "json"),
                "not JSON",
            ),
            (
                Some(b"news"),
                Some(b"x"),
                with(none(), ID, "a\nb"),
                "event id",
            ),
            (
                Some(b"news"),
                Some(b"x"),
                with(none(), RETRY, "soon"),
                "not a number",
            ),
            (None, None, with(none(), EPOCH, "r1"), "about the log"),
            (None, None, with(none(), SEEN, "1"), "order of records"),
            (
                None,
                Some(b"1"),
                with(none(), SEEN, "x"),
                "order of records",
            ),
            (
                None,
                None,
                with(with(with(none(), EPOCH, "A-b"), BASE, "0"), AFTER, "0"),
                "about the log",
            ),
            (
                None,
                None,
                with(
                    with(with(none(), EPOCH, "a"), BASE, "9999999999999999999"),
                    AFTER,
                    "0",
                ),
                "about the log",
            ),
        ] {
            let error = read(key, value, headers).content.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_record_is_survived(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            headers in proptest::collection::vec(("fanfare-(id|type|retry|data|from|epoch|base|after|seen|began)", "[0-9a-f-]{0,9}"), 0..5),
        ) {
            let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| with(headers, name, value));
            let _ = read(key.as_deref(), value.as_deref(), headers);
        }
    }
}
