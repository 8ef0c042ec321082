//! The guests that people read first, and one that does without the SDK.

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    stream::End,
};

use crate::{
    flavour::{Flavour, in_both_flavours},
    guests,
};

in_both_flavours!(
    quickstart_publishes_ten_events_and_ends,
    quickstart_names_events_as_the_client_asks,
    quickstart_serves_two_connections_at_once,
    quickstart_has_a_page_and_refuses_the_rest,
);

fn quickstart(flavour: Flavour) -> Setup {
    Node::serve(flavour.pick(guests::QUICKSTART, guests::QUICKSTART_ASYNC))
}

fn quickstart_publishes_ten_events_and_ends(flavour: Flavour) {
    let node = quickstart(flavour).var("interval-ms", "1").start();
    let mut stream = node.events("/events?name=tick");
    let (events, end) = stream.rest();
    assert_eq!(end, End::Complete);
    assert_eq!(events.len(), 10);

    let first_id = events[0].last_event_id.clone();
    let (epoch, first) = first_id.rsplit_once('-').expect("an id is `epoch-number`");
    let first: usize = first.parse().expect("an id is `epoch-number`");
    let expected: String = (0..10)
        .map(|index| {
            format!(
                "id: {epoch}-{}\nevent: tick\ndata: {index}\n\n",
                first + index
            )
        })
        .collect();
    assert_eq!(stream.text(), expected);
    node.stop();
}

fn quickstart_names_events_as_the_client_asks(flavour: Flavour) {
    let node = quickstart(flavour).var("interval-ms", "1").start();
    for (query, expected) in [
        ("", "message"),
        ("?name=", "message"),
        ("?name=gr%C3%BC%C3%9Fe%20x", "grüße x"),
    ] {
        let (events, _) = node.events(&format!("/events{query}")).rest();
        assert!(
            events.iter().all(|event| event.event_type == expected),
            "{query}: {events:?}"
        );
        assert_eq!(events.len(), 10);
    }
}

fn quickstart_serves_two_connections_at_once(flavour: Flavour) {
    let node = quickstart(flavour).var("interval-ms", "50").start();
    let mut streams =
        ["a", "b"].map(|channel| node.events(&format!("/events?name={channel}&channel={channel}")));
    // Both run: neither waits for the end of the other.
    for stream in &mut streams {
        assert_eq!(stream.next_event().data, "0");
    }
    for (stream, name) in streams.iter_mut().zip(["a", "b"]) {
        let (events, end) = stream.rest();
        assert_eq!(end, End::Complete);
        let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(data, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert!(events.iter().all(|event| event.event_type == name));
    }
}

fn quickstart_has_a_page_and_refuses_the_rest(flavour: Flavour) {
    let node = quickstart(flavour).start();
    let page = node.get("/");
    assert_eq!(
        (page.status(), page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(page.text().contains("EventSource"));
    assert_eq!(node.get("/nowhere").status(), 404);
    assert_eq!(node.post("/events", "").status(), 405);
    assert_eq!(node.request(&Request::new("HEAD", "/events")).status(), 405);
}

#[test]
fn chat_carries_what_is_said_to_the_room() {
    let node = Node::serve(guests::CHAT).start();
    let mut ann = node.events("/rooms/tea/events");
    let first = ann.next_event();
    assert_eq!(node.get("/").status(), 200);
    let mut bob = node.events("/rooms/tea/events");
    bob.next_event();
    // Ann hears that there are two now.
    let second = ann.next_event();
    assert_eq!(first.event_type, second.event_type);
    assert_ne!(first.data, second.data);
    bob.close();
    assert_eq!(
        ann.next_event().data,
        first.data,
        "the room is told that somebody left"
    );
}

#[test]
fn a_guest_of_wit_bindgen_alone_is_served() {
    let node = Node::serve(guests::RAW).start();
    let mut stream = node.events("/");
    let event = stream.next_event();
    assert_eq!(
        (event.event_type.as_str(), event.data.as_str()),
        ("raw", "hello")
    );
    assert_eq!(stream.wait_end(), End::Complete);
    assert_eq!(
        stream.text(),
        format!("id: {}\nevent: raw\ndata: hello\n\n", event.last_event_id)
    );
}
