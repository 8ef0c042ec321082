//! Events: what is taken is one event on the wire, read back by a parser of the standard exactly as it was given, and
//! what comes from another node is no more than that.

use fanfare::event::{self, Data, Event, IdForm};
use fanfare_tests::sse::{self, Item, Parser};
use serde_json::Value;

use crate::driver::{Target, gist};

/// Events: an id, a type and data, with [`BETWEEN`] between them. As a whole it is taken for what another node sends, too.
const EVENTS: Target = Target {
    name: "events",
    runs: 2000,
    words: &[
        "id: ",
        "event: ",
        "data: ",
        "retry: ",
        "data",
        ":",
        "retry: 1\n",
        "\n\ndata: x",
        "\u{1f}",
        "{\"a\":1}",
        "[[",
        "\\u0000",
        "1e999",
    ],
};
const BETWEEN: char = '\u{1f}';
const LIMIT: usize = 8 << 10;

#[test]
fn an_event_arrives_as_it_was_given() {
    EVENTS.fuzz(|input| {
        let text = String::from_utf8_lossy(input);
        let mut parts = text.splitn(3, BETWEEN);
        let mut next = || parts.next().unwrap_or_default().to_owned();
        let (id, event_type, data) = (next(), next(), next());
        let mut outcome = String::new();
        for form in [IdForm::Plain, IdForm::Any] {
            for payload in [Data::Text(data.clone()), Data::Json(data.clone())] {
                outcome += &written(&id, form, &event_type, payload);
            }
        }
        outcome + &received(input)
    });
}

/// Writes an event of those parts that are taken, and reads it back.
fn written(id: &str, form: IdForm, event_type: &str, data: Data) -> String {
    let is_json = matches!(data, Data::Json(_));
    let (Data::Text(text) | Data::Json(text)) = data.clone();
    let mut event = match Event::new(data, LIMIT) {
        Ok(event) => event.with_retry(Some(7)),
        Err(error) => {
            assert!(error.to_string().contains("data"), "{error}");
            return gist(&error.to_string());
        }
    };
    let with_id = event.clone().with_id(id.to_owned(), form);
    let with_id = with_id.map_err(|error| error.to_string());
    let with_type = event.clone().with_type(event_type.to_owned());
    let with_type = with_type.map_err(|error| error.to_string());
    let mut outcome = String::new();
    let (mut expected_id, mut expected_type) = ("", "message");
    match with_id {
        Ok(with_id) => (event, expected_id) = (with_id, id),
        Err(error) => {
            assert!(error.contains("event id"), "{error}");
            outcome += &gist(&error);
        }
    }
    match with_type {
        Ok(_) => {
            event = event
                .with_type(event_type.to_owned())
                .expect("it was taken before");
            if !event_type.is_empty() {
                expected_type = event_type;
            }
        }
        Err(error) => {
            assert!(error.contains("event type"), "{error}");
            outcome += &gist(&error);
        }
    }
    let wire = event.encode();
    let expected = sse::Event {
        event_type: expected_type.to_owned(),
        data: text.replace("\r\n", "\n").replace('\r', "\n"),
        last_event_id: expected_id.to_owned(),
    };
    let items = [Item::Retry(7), Item::Event(expected.clone())];
    assert_eq!(Parser::new().feed(&wire), items);
    let mut parser = Parser::new();
    let pieces: Vec<_> = wire.iter().flat_map(|byte| parser.feed(&[*byte])).collect();
    assert_eq!(pieces, items);
    if is_json && let Ok(given) = serde_json::from_str::<Value>(&text) {
        assert_eq!(
            serde_json::from_str::<Value>(&expected.data).ok(),
            Some(given)
        );
    }
    let heard = Event::decode(&wire, is_json, wire.len()).expect("another node reads it");
    assert_eq!(heard.encode(), wire);
    outcome
}

/// Takes bytes for what another node has sent, and writes what they are.
fn received(bytes: &[u8]) -> String {
    match Event::decode(bytes, false, LIMIT) {
        Ok(event) => {
            let items = Parser::new().feed(&event.encode());
            let events = items.iter().filter(|item| matches!(item, Item::Event(_)));
            assert_eq!(events.count(), 1, "{items:?}");
            assert!(
                items.iter().all(|item| !matches!(item, Item::Comment(_))),
                "{items:?}"
            );
            if let Some(id) = event.id() {
                event::check_id(id, IdForm::Any).expect("no other id is taken");
            }
            "received".into()
        }
        Err(error) => gist(&error.to_string()),
    }
}
