//! What the asynchronous flavour alone has: work beside a handler, and calls that share an instance.

use fanfare_tests::{stream::End, wait};
use serde_json::json;

use crate::{
    flavour::Flavour,
    probe::{self, Probe},
};

#[test]
fn work_goes_on_when_its_handler_has_returned() {
    let node = Flavour::Asynchronous.start();
    let steps = json!([
        ["spawn", [["wait-for", "go"], ["publish", "news", "late"]]],
        ["request.respond", { "body": "at once" }]
    ]);
    let response = node.request(&probe::request("begun", &steps));
    assert_eq!(response.text(), "at once");
    // The whole handler has returned, and not only answered.
    node.results("begun").all_ok();
    let mut stream = node.subscribe("news");
    node.run(json!([["set-text", "go", ""]])).all_ok();
    assert_eq!(stream.next_event().data, "late");
}

#[test]
fn work_beside_a_handler_sends_to_its_stream() {
    let node = Flavour::Asynchronous.start();
    let mut stream = node.listen(
        "both",
        json!([
            ["upgrade"],
            ["register", "news"],
            [
                "spawn",
                [["wait-for", "go"], ["publish", "news", "from beside"]]
            ],
            ["send", "from the handler"]
        ]),
    );
    assert_eq!(stream.next_event().data, "from the handler");
    node.results("both").all_ok();
    node.run(json!([["set-text", "go", ""]])).all_ok();
    assert_eq!(stream.next_event().data, "from beside");
}

#[test]
fn calls_of_one_instance_wake_each_other() {
    const WAITING: u64 = 32;
    let node = Flavour::Asynchronous.configured("[apps.probe.instances]\ncount = 1");
    let steps = json!([
        ["upgrade"],
        ["send", "waits"],
        ["wait-bell"],
        ["send", "heard"]
    ]);
    let mut streams: Vec<_> = (0..WAITING)
        .map(|_| {
            let mut stream = node.listen("", steps.clone());
            assert_eq!(stream.next_event().data, "waits");
            stream
        })
        .collect();
    // The last of them may still be on its way to the bell.
    let mut heard = 0;
    wait::until_true("every call has heard the bell", || {
        heard += node.ask(json!(["ring"])).as_u64().expect("a number");
        heard >= WAITING
    });
    assert_eq!(heard, WAITING);
    for stream in &mut streams {
        assert_eq!(stream.next_event().data, "heard");
        assert_eq!(stream.wait_end(), End::Complete);
    }
}
