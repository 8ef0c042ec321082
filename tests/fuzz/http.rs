//! Requests, to the apps and to the admin listener: whatever is sent, the node serves on, and who brings no token learns
//! and changes nothing.

use std::net::{Shutdown, SocketAddr};

use fanfare_tests::client::{Request, Socket};
use serde_json::Value;

use crate::{driver::Target, node::Fuzzed};

const REQUESTS: Target = Target {
    name: "requests",
    runs: 400,
    words: WORDS,
};
const ADMIN: Target = Target {
    name: "admin",
    runs: 400,
    words: WORDS,
};
const WORDS: &[&str] = &[
    "\r\n\r\n",
    "GET ",
    "POST ",
    "PUT ",
    "HEAD ",
    "OPTIONS ",
    "CONNECT ",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "/../",
    "%2e%2e%2f",
    "%00",
    "host: ",
    "host: example.org\r\n",
    "content-length: 0\r\n",
    "content-length: 18446744073709551616\r\n",
    "transfer-encoding: chunked\r\n",
    "expect: 100-continue\r\n",
    "upgrade: h2c\r\n",
    "last-event-id: ",
    "origin: null\r\n",
    "0\r\n\r\n",
    "ffffffffffffffff\r\n",
    "/apps/probe/",
    "rollback",
    "component",
    "versions",
    "{\"to\":\"",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// Follows every request, so that most are whole. It is none itself.
const REST: &[u8; 512] = &[0; 512];
/// The token of the admin listener. Inputs that hold it are let in.
const TOKEN: &str = "fuzz-0123456789abcdef";

#[test]
fn requests_to_apps_are_answered_or_refused() {
    let node = Fuzzed::start("[listen]\nhead-timeout = \"3s\"\nbody-timeout = \"1s\"");
    REQUESTS.fuzz(|input| status(&exchange(node.address, input)));
    node.assert_whole();
}

#[test]
fn the_admin_listener_lets_nobody_in_without_the_token() {
    let node = Fuzzed::start(&format!(
        "[listen]\nhead-timeout = \"3s\"\n[admin]\naddress = \"127.0.0.1:0\"\ntoken = {TOKEN:?}\nupload-timeout = \"1s\""
    ));
    let address = node.admin();
    let before = state(address);
    ADMIN.fuzz(|input| {
        let answer = exchange(address, input);
        let has = |part: &[u8], text: &[u8]| text.windows(part.len()).any(|window| window == part);
        if !has(TOKEN.as_bytes(), input) {
            for secret in [
                "fanfare_",
                "\"apps\"",
                "\"versions\"",
                "\"previous\"",
                "probe",
            ] {
                let told = has(secret.as_bytes(), &answer);
                assert!(!told, "{}", String::from_utf8_lossy(&answer));
            }
        }
        let status = status(&answer);
        assert!(!status.starts_with('5'), "{status}");
        status
    });
    assert_eq!(state(address), before, "nothing was deployed");
    node.assert_whole();
}

/// The apps as the admin listener tells them: name, phase and version of each.
fn state(admin: SocketAddr) -> Vec<[Value; 3]> {
    let request = Request::get("/apps").header("authorization", &format!("Bearer {TOKEN}"));
    let mut apps = Socket::connect(admin).request(&request).json();
    let apps = apps["apps"].as_array_mut().map(std::mem::take);
    let apps = apps.expect("there are apps").into_iter();
    apps.map(|mut app| ["name", "phase", "version"].map(|key| app[key].take()))
        .collect()
}

/// Sends bytes, and returns what came until the node closed the socket, which it has to.
fn exchange(address: SocketAddr, input: &[u8]) -> Vec<u8> {
    let mut socket = Socket::connect(address);
    // It may be refused before all of it is sent.
    let _ = socket.try_write([input, b"\r\n\r\n", REST].concat());
    // Nobody has to wait for more.
    let _ = socket.tcp().shutdown(Shutdown::Write);
    socket.wait_closed()
}

/// The status of the first answer, if there is one of HTTP/1.
fn status(answer: &[u8]) -> String {
    let Some(rest) = answer.strip_prefix(b"HTTP/1.") else {
        return "none".into();
    };
    let digits = rest.get(2..5).map(String::from_utf8_lossy);
    let status = digits
        .as_deref()
        .and_then(|digits| digits.parse::<u16>().ok());
    let status = status.unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(answer)));
    status.to_string()
}
