//! Responses of guests: status and headers are refused by name, or arrive as they were given, with nothing besides.

use fanfare_tests::client::Request;
use serde_json::{Value, json};

use crate::{
    driver::{Target, gist},
    node::Fuzzed,
};

/// Responses: `{"status": …, "headers": [[name, value], …]}`.
const RESPONSES: Target = Target {
    name: "responses",
    runs: 200,
    words: &[
        "\r\nINJECTED: 1",
        "\nINJECTED: 1\n",
        "\r\n\r\nINJECTED",
        "content-length",
        "transfer-encoding",
        "chunked",
        "connection",
        "date",
        "set-cookie",
        "x-a",
    ],
};
/// What the host adds.
const HOST: [&str; 4] = ["content-length", "date", "connection", "x-request-id"];
const BODY: &str = "fuzzed";

#[test]
fn a_response_arrives_as_it_was_given() {
    let node = Fuzzed::start("");
    RESPONSES.fuzz_json(|response| {
        let mut response: Value = serde_json::from_slice(response).expect("a response is JSON");
        response["body"] = BODY.into();
        let script = json!([["request.respond", response]]).to_string();
        let answer = node.request(&Request::post("/run", script));
        if answer.status() == 200 && answer.text() != BODY {
            let refused = &answer.json()[0];
            let text = refused["text"].as_str().unwrap_or_default();
            let is_named = text.contains("status") || text.contains("header");
            let is_refused = refused["error"] == "invalid" || refused["error"] == "limited";
            assert!(is_named && is_refused, "{response} is refused as {refused}");
            return gist(text);
        }
        let status = response["status"].as_u64().map(|status| status as u16);
        assert_eq!(Some(answer.status()), status);
        let body: &[u8] = match answer.status() {
            204 | 304 => b"",
            _ => BODY.as_bytes(),
        };
        assert_eq!(answer.body, body);
        let mut left = answer.head.headers.clone();
        for header in response["headers"].as_array().into_iter().flatten() {
            let given = (
                header[0].as_str().unwrap_or_default().to_ascii_lowercase(),
                header[1].as_str().unwrap_or_default().trim().to_owned(),
            );
            let place = left.iter().position(|header| *header == given);
            let place = place.unwrap_or_else(|| panic!("{given:?} is not in {:?}", answer.head));
            left.remove(place);
        }
        for (name, value) in left {
            assert!(
                HOST.contains(&name.as_str()),
                "{name}: {value} was not given"
            );
        }
        "taken".into()
    });
    node.assert_whole();
}
