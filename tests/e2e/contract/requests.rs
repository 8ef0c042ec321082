//! `requests`: what a handler reads of a request, and how it answers.

use fanfare_tests::{client::Request, node::Node};
use serde_json::json;

use super::assert_refused;
use crate::{
    flavour::{Flavour, in_both_flavours},
    guests,
    probe::{self, Probe},
};

in_both_flavours!(
    a_request_is_read_as_it_came,
    a_query_may_be_missing_or_empty,
    headers_that_are_not_utf_8_are_bytes,
    an_answer_arrives_as_it_was_given,
    a_wrong_answer_is_refused_and_another_may_be_given,
    a_handler_goes_on_after_its_answer,
    an_error_after_the_answer_is_only_logged,
    closed_after_the_answer_is_no_mistake,
);

fn a_request_is_read_as_it_came(flavour: Flavour) {
    let node = flavour.start();
    let steps = json!([
        ["request.method"],
        ["request.path"],
        ["request.route"],
        ["request.query"],
        ["request.client-address"],
        ["request.header", "X-Twice"],
        ["request.header", "x-odd"],
        ["request.header", "x-none"],
        ["request.header", "a b"],
        ["request.id"],
        ["request.headers"],
        ["request.body"],
    ]);
    let request = Request::new("PATCH", "/a%20b//c/%2e%2E/?x=%41")
        .header("X-Twice", "first")
        .header("x-twice", "second ä")
        .body(steps.to_string());
    let answer = node.request(&request);
    let results = answer.json();
    let ok = |step: usize| results[step]["ok"].clone();
    assert_eq!(ok(0), "PATCH");
    assert_eq!(ok(1), "/a%20b//c/%2e%2E/");
    assert_eq!(ok(2), "");
    assert_eq!(ok(3), "x=%41");
    assert_eq!(ok(4), "127.0.0.1");
    assert_eq!(ok(5), "first");
    assert_eq!(
        (ok(6), ok(7), ok(8)),
        (json!(null), json!(null), json!(null))
    );
    assert_eq!(ok(9), answer.header("x-request-id").unwrap());
    let headers = ok(10);
    let headers: Vec<_> = headers
        .as_array()
        .unwrap()
        .iter()
        .filter(|pair| pair[0] == "x-twice")
        .collect();
    assert_eq!(
        headers,
        [
            &json!(["x-twice", "first"]),
            &json!(["x-twice", "second \\xc3\\xa4"])
        ]
    );
    assert_eq!(
        ok(11),
        steps.to_string().as_bytes().escape_ascii().to_string()
    );
}

fn a_query_may_be_missing_or_empty(flavour: Flavour) {
    let node = flavour.start();
    let query = |target: &str| node.post(target, "[[\"request.query\"]]").json()[0]["ok"].clone();
    assert_eq!(query("/x"), json!(null));
    assert_eq!(query("/x?"), "");
    assert_eq!(query("/x?a?b=c"), "a?b=c");
}

fn headers_that_are_not_utf_8_are_bytes(flavour: Flavour) {
    let node = flavour.start();
    let steps = "[[\"request.header\",\"x-odd\"],[\"request.headers\"]]";
    let mut socket = node.connect();
    socket.write(format!(
        "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nx-odd: a",
        steps.len()
    ));
    socket.write(b"\xff\r\n\r\n");
    socket.write(steps);
    let results = socket.response("POST").json();
    assert_eq!(results[0]["ok"], json!(null));
    assert!(
        results[1]["ok"]
            .as_array()
            .unwrap()
            .contains(&json!(["x-odd", "a\\xff"]))
    );
}

fn an_answer_arrives_as_it_was_given(flavour: Flavour) {
    let node = flavour.start();
    let answer = json!({ "status": 418, "headers": [["X-A", "1"], ["x-a", "2"], ["content-type", "text/x"]], "body": "tea" });
    let response = node.request(&probe::request("", &json!([["request.respond", answer]])));
    assert_eq!((response.status(), response.text()), (418, "tea"));
    assert_eq!(response.head.all("x-a").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(response.header("content-type"), Some("text/x"));
    assert_eq!(response.header("content-length"), Some("3"));
}

fn a_wrong_answer_is_refused_and_another_may_be_given(flavour: Flavour) {
    let node = flavour.configured("[apps.probe.limits]\nresponse-body = \"1KiB\"");
    let header = |name: &str, value: &str| json!({ "headers": [[name, value]] });
    for (answer, case, parts) in [
        (json!({ "status": 99 }), "invalid", ["200 to 599", "99"]),
        (json!({ "status": 101 }), "invalid", ["200 to 599", "101"]),
        (json!({ "status": 600 }), "invalid", ["200 to 599", "600"]),
        (
            json!({ "status": 65535 }),
            "invalid",
            ["200 to 599", "65535"],
        ),
        (header("a b", "x"), "invalid", ["\"a b\"", "name"]),
        (header("", "x"), "invalid", ["\"\"", "name"]),
        (header("x", "a\r\nb: c"), "invalid", ["`x`", "character"]),
        (header("x", "a\nb"), "invalid", ["`x`", "character"]),
        (
            header("connection", "close"),
            "invalid",
            ["`connection`", "host"],
        ),
        (
            header("Content-Length", "1"),
            "invalid",
            ["`content-length`", "host"],
        ),
        (
            header("keep-alive", "1"),
            "invalid",
            ["`keep-alive`", "host"],
        ),
        (
            header("transfer-encoding", "chunked"),
            "invalid",
            ["`transfer-encoding`", "host"],
        ),
        (header("upgrade", "x"), "invalid", ["`upgrade`", "host"]),
        (
            json!({ "body": { "repeat": ["x", 1025] } }),
            "limited",
            ["`response-body`", "1024"],
        ),
    ] {
        // That the refusal arrives shows that another answer could be given.
        assert_refused(&node, json!(["request.respond", answer]), case, &parts);
    }
    let largest = node.request(&probe::request(
        "",
        &json!([["request.respond", { "body": { "repeat": ["x", 1024] } }]]),
    ));
    assert_eq!(largest.body.len(), 1024);
}

fn a_handler_goes_on_after_its_answer(flavour: Flavour) {
    let node = flavour.start();
    let steps = json!([["request.respond", { "body": "at once" }], ["wait-for", "go"], ["publish", "news", "later"]]);
    let response = node.request(&probe::request("later", &steps));
    assert_eq!(response.text(), "at once");
    let mut stream = node.subscribe("news");
    node.run(json!([["set-text", "go", ""]]));
    assert_eq!(stream.next_event().data, "later");
    node.results("later").all_ok();
}

#[test]
fn a_handler_that_neither_answers_nor_upgrades_has_failed() {
    let node = Node::serve(guests::HOSTILE).start();
    let silent = node.get("/silence");
    assert_eq!(silent.status(), 500);
    assert!(
        silent.text().contains("without answering"),
        "{}",
        silent.text()
    );
    node.wait_for_log("without answering the request or upgrading it");
    let error = node.get("/error");
    assert_eq!(error.status(), 500);
    assert!(
        error.text().contains("other: an error of the handler"),
        "{}",
        error.text()
    );
}

fn an_error_after_the_answer_is_only_logged(flavour: Flavour) {
    let node = flavour.start();
    let steps = json!([["request.respond", { "body": "fine" }], ["fail", "unavailable", "the moon is not full"]]);
    assert_eq!(node.request(&probe::request("", &steps)).text(), "fine");
    assert!(node.wait_for_log("the moon is not full").contains("ERROR"));
}

fn closed_after_the_answer_is_no_mistake(flavour: Flavour) {
    let node = flavour.start();
    let steps = json!([
        ["upgrade"],
        ["close"],
        ["fail", "closed", "the client has left"]
    ]);
    let mut stream = node.listen("", steps);
    assert!(stream.wait_end() == fanfare_tests::stream::End::Complete);
    node.assert_unlogged("the client has left");
}
