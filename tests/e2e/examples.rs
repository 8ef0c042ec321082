//! Guests in Rust that people read: beside the quickstart, which has a module of its own.

use fanfare_tests::{node::Node, stream::End};

use crate::guests;

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
    // Whoever joins tells what is true then, so that the room may hear twice that there are two.
    let mut next = ann.next_event();
    while next.data == second.data {
        next = ann.next_event();
    }
    assert_eq!(next.data, first.data, "the room is told that somebody left");
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
