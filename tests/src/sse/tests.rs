//! Vectors after those of the web platform tests (`eventsource/format-*`), and the standard's own examples.

use super::*;

fn items(stream: impl AsRef<[u8]>) -> Vec<Item> {
    Parser::new().feed(stream.as_ref())
}

/// Types, data and ids of the events, written `type|data|id`.
fn events(stream: impl AsRef<[u8]>) -> Vec<String> {
    let events = items(stream).into_iter().filter_map(|item| match item {
        Item::Event(event) => Some(format!(
            "{}|{}|{}",
            event.event_type, event.data, event.last_event_id
        )),
        _ => None,
    });
    events.collect()
}

#[test]
fn examples_of_the_standard() {
    let stock = "data: YHOO\ndata: +2\ndata: 10\n\n";
    assert_eq!(events(stock), ["message|YHOO\n+2\n10|"]);
    let four_blocks = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
    assert_eq!(
        events(four_blocks),
        [
            "message|first event|1",
            "message|second event|",
            "message| third event|"
        ]
    );
    assert_eq!(
        events("data\n\ndata\ndata\n\ndata:"),
        ["message||", "message|\n|"]
    );
    assert_eq!(
        events("data:test\n\ndata: test\n\n"),
        ["message|test|", "message|test|"]
    );
}

#[test]
fn every_line_ending_ends_a_line() {
    assert_eq!(
        events("data: a\rdata: b\ndata: c\r\n\n"),
        ["message|a\nb\nc|"]
    );
    assert_eq!(events("data: a\r\r"), ["message|a|"]);
    assert_eq!(
        events("data: a\r\n\r\ndata: b\r\n\r\n"),
        ["message|a|", "message|b|"]
    );
    assert_eq!(
        events("data: a\n\rdata: b\n\n"),
        ["message|a|", "message|b|"]
    );
}

#[test]
fn a_byte_order_mark_is_one_only_at_the_very_begin() {
    assert_eq!(events("\u{feff}data: a\n\n"), ["message|a|"]);
    assert_eq!(
        events("\u{feff}\u{feff}data: a\n\ndata: b\n\n"),
        ["message|b|"]
    );
    assert_eq!(events("data: a\n\n\u{feff}data: b\n\n"), ["message|a|"]);
}

#[test]
fn what_is_no_field_is_ignored() {
    assert_eq!(
        events("data : no\nDATA: no\n data: no\nunknown: no\ndata: yes\n\n"),
        ["message|yes|"]
    );
    assert_eq!(events("event: x\n\ndata: y\n\n"), ["message|y|"]);
}

#[test]
fn comments_are_no_events() {
    assert_eq!(
        items(": ping\n\n:\n"),
        [Item::Comment(" ping".into()), Item::Comment(String::new())]
    );
}

#[test]
fn the_reconnection_time_has_nothing_but_digits() {
    assert_eq!(
        items("retry: 1500\nretry:7\n"),
        [Item::Retry(1500), Item::Retry(7)]
    );
    assert_eq!(
        items("retry: 1000x\nretry: -1\nretry: 1.5\nretry:\nretry:  5\nretry: ٣\n"),
        []
    );
}

#[test]
fn ids_last_and_those_with_nul_are_ignored() {
    assert_eq!(
        events("id: 1\ndata: a\n\ndata: b\n\n"),
        ["message|a|1", "message|b|1"]
    );
    assert_eq!(
        events("id: 1\ndata: a\n\nid: x\0y\ndata: b\n\n"),
        ["message|a|1", "message|b|1"]
    );
    assert_eq!(
        events("id: 1\ndata: a\n\nid\ndata: b\n\n"),
        ["message|a|1", "message|b|"]
    );
    // An id without data counts when its empty line has come, and not before.
    let mut parser = Parser::new();
    parser.feed(b"id: 1\n");
    assert_eq!(parser.last_event_id(), "");
    parser.feed(b"\n");
    assert_eq!(parser.last_event_id(), "1");
}

#[test]
fn the_type_does_not_last() {
    assert_eq!(
        events("event: a\ndata: 1\n\ndata: 2\n\n"),
        ["a|1|", "message|2|"]
    );
}

#[test]
fn an_event_without_its_empty_line_is_not_dispatched() {
    assert_eq!(events("data: a\n"), Vec::<String>::new());
    assert_eq!(events("data: a\n\ndata: b"), ["message|a|"]);
}

#[test]
fn what_is_not_utf_8_is_replaced() {
    assert_eq!(events(b"data: a\xffb\n\n"), ["message|a\u{fffd}b|"]);
}

#[test]
fn pieces_make_no_difference() {
    let stream =
        "\u{feff}: c\r\nid: ä\revent: e\r\ndata: ö\r\n\r\nretry: 10\rdata: ☂\n\n".as_bytes();
    let whole = items(stream);
    assert_eq!(whole.len(), 4);
    for first in 0..stream.len() {
        for second in first..stream.len() {
            let mut parser = Parser::new();
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            let heard: Vec<_> = pieces.iter().flat_map(|piece| parser.feed(piece)).collect();
            assert_eq!(heard, whole, "cut at {first} and {second}");
        }
    }
}

mod of_the_host {
    use fanfare::event::{Data, Event, IdForm};
    use proptest::prelude::*;

    use super::{Item, Parser};

    const LIMIT: usize = 1 << 20;

    proptest! {
        /// What the host writes is what a client hears, whatever the pieces it comes in.
        #[test]
        fn an_event_arrives_as_it_was_published(
            id in proptest::option::of("[^\r\n\0]{1,40}"),
            event_type in proptest::option::of("[^\r\n\0]{0,40}"),
            data in "(?s)[\r\n:a-c☂\u{feff} ]{0,40}|(?s).{0,200}",
            retry in proptest::option::of(any::<u32>()),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let mut event = Event::new(Data::Text(data.clone()), LIMIT).unwrap().with_retry(retry);
            if let Some(id) = &id {
                event = event.with_id(id.clone(), IdForm::Any).unwrap();
            }
            if let Some(event_type) = &event_type {
                event = event.with_type(event_type.clone()).unwrap();
            }
            let wire = event.encode();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(wire.len());

            let mut parser = Parser::new();
            let mut heard = Vec::new();
            let mut from = 0;
            for to in cuts {
                heard.extend(parser.feed(&wire[from..to]));
                from = to;
            }

            let mut expected: Vec<_> = retry.map(|retry| Item::Retry(retry.into())).into_iter().collect();
            expected.push(Item::Event(super::Event {
                event_type: event_type.filter(|name| !name.is_empty()).unwrap_or("message".to_owned()),
                data: data.replace("\r\n", "\n").replace('\r', "\n"),
                last_event_id: id.unwrap_or_default(),
            }));
            prop_assert_eq!(heard, expected);
        }
    }
}
