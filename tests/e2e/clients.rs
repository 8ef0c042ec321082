//! Clients that share no code with the host: the npm package `eventsource`, and Python's `httpx-sse`.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use fanfare_tests::{node::Node, wait::PATIENCE};
use serde_json::{Value, json};

use crate::guests;

/// A script in `tests/clients` that prints what it hears.
struct Script {
    process: Child,
    lines: Receiver<String>,
}

impl Script {
    /// `eventsource`; it ends after so many events of these types.
    fn node(url: &str, count: usize, types: &[&str]) -> Self {
        let folder = clients().join("node");
        assert!(
            folder.join("node_modules").exists(),
            "`eventsource` is missing; `scripts/setup` installs it"
        );
        let mut command = Command::new("node");
        command
            .arg(folder.join("listen.mjs"))
            .arg(url)
            .arg(count.to_string())
            .args(types);
        Self::run(command)
    }

    /// `httpx-sse`; it ends when the server ends the stream.
    fn python(url: &str, last_event_id: Option<&str>) -> Self {
        let python = clients().join("../../target/test-venv/bin/python");
        assert!(
            python.exists(),
            "`httpx-sse` is missing; `scripts/setup` installs it"
        );
        let mut command = Command::new(python);
        command
            .arg(clients().join("python/listen.py"))
            .arg(url)
            .args(last_event_id);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client runs; `scripts/setup` installs it");
        let stdout = process.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// The next line.
    #[track_caller]
    fn next(&self) -> Value {
        let line = self
            .lines
            .recv_timeout(PATIENCE)
            .expect("the client hears something");
        serde_json::from_str(&line).expect("the client prints JSON")
    }

    /// The next event, and what the client said before it.
    #[track_caller]
    fn next_event(&self) -> (Value, Vec<Value>) {
        let mut before = Vec::new();
        loop {
            let line = self.next();
            if line.get("type").is_some() {
                return (line, before);
            }
            before.push(line);
        }
    }

    #[track_caller]
    fn events(&self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.next_event().0).collect()
    }

    /// Waits until it has ended, well and without another event.
    #[track_caller]
    fn wait_end(mut self) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            assert!(!line.starts_with("{\"type\""), "one more: {line}");
        }
        let status = self.process.wait().expect("a process ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn clients() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))
}

/// What the quickstart says, whatever the ids, which have to be different.
#[track_caller]
fn check_quickstart(events: &[Value]) {
    let said: Vec<_> = events
        .iter()
        .map(|event| json!([event["type"], event["data"]]))
        .collect();
    assert_eq!(
        said,
        (0..10)
            .map(|index| json!(["greeting", index.to_string()]))
            .collect::<Vec<_>>()
    );
    let mut ids: Vec<_> = events
        .iter()
        .filter_map(|event| event["id"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() == 10 && !ids[0].is_empty(), "{ids:?}");
}

/// Types, data as it is published and as it arrives.
fn samples() -> Vec<(&'static str, String, String)> {
    let same = |event_type, data: &str| (event_type, data.to_owned(), data.to_owned());
    vec![
        same("message", "one\ntwo\n\n: no comment\nid: no id\n"),
        (
            "message",
            "CRLF\r\nCR\rLF\nend".into(),
            "CRLF\nCR\nLF\nend".into(),
        ),
        same("message", " a space before, and after "),
        same("message", "ünïcödé ☂ 𝄞 \u{2028} \u{feff} 漢字"),
        same("message", r#"{"json": [1, "two", null]}"#),
        same("sample", ""),
        same("sample", &"a long one, ".repeat(20_000)),
    ]
}

/// Publishes the samples, with ids of their own; returns what a client has to hear.
fn publish_samples(node: &Node) -> Vec<Value> {
    let publish = |(index, (event_type, data, arrives)): (usize, (&str, String, String))| {
        let id = format!("sample-{index}");
        let receipt = node
            .post(&format!("/publish/c?id={id}&type={event_type}"), data)
            .json();
        assert_eq!(
            receipt,
            json!({ "id": id, "delivered": 1, "duplicate": false })
        );
        json!({ "type": event_type, "data": arrives, "id": id })
    };
    samples().into_iter().enumerate().map(publish).collect()
}

#[test]
fn eventsource_hears_the_quickstart() {
    let node = Node::serve(guests::QUICKSTART)
        .var("interval-ms", "1")
        .start();
    let client = Script::node(&node.url("/events?name=greeting"), 10, &["greeting"]);
    check_quickstart(&client.events(10));
    client.wait_end();
}

#[test]
fn httpx_sse_hears_the_quickstart() {
    let node = Node::serve(guests::QUICKSTART)
        .var("interval-ms", "1")
        .start();
    let client = Script::python(&node.url("/events?name=greeting"), None);
    check_quickstart(&client.events(10));
    client.wait_end();
}

#[test]
fn eventsource_hears_data_as_it_was_published() {
    let node = Node::serve(guests::RELAY).start();
    let client = Script::node(
        &node.url("/events?channel=c"),
        1 + samples().len(),
        &["hello", "message", "sample"],
    );
    assert_eq!(client.next_event().0["type"], "hello");
    let published = publish_samples(&node);
    assert_eq!(client.events(published.len()), published);
    client.wait_end();
}

#[test]
fn httpx_sse_hears_data_as_it_was_published() {
    let node = Node::serve(guests::RELAY).start();
    let client = Script::python(&node.url("/events?channel=c"), None);
    assert_eq!(client.next_event().0["type"], "hello");
    let published = publish_samples(&node);
    assert_eq!(client.events(published.len()), published);

    // Who comes back with the id of one hears those after it.
    let back = Script::python(&node.url("/events?channel=c"), Some("sample-3"));
    let (mut heard, hello): (Vec<_>, Vec<_>) = back
        .events(published.len() - 3)
        .into_iter()
        .partition(|event| event["type"] != "hello");
    assert_eq!(
        hello[0]["data"]
            .as_str()
            .map(|data| data.contains(r#""last-event-id":"sample-3""#)),
        Some(true)
    );
    heard.sort_by_key(|event| event["id"].to_string());
    assert_eq!(heard, published[4..]);

    assert_eq!(node.post("/close/c", "").json(), 2);
    client.wait_end();
    back.wait_end();
}

#[test]
fn eventsource_comes_back_and_hears_what_it_missed() {
    let node = Node::serve(guests::RELAY).start();
    let client = Script::node(
        &node.url("/events?channel=c&retry=500"),
        6,
        &["hello", "message"],
    );
    let hello = |event: &Value| -> Value {
        let data = event["data"].as_str().expect("data is a text");
        serde_json::from_str::<Value>(data).expect("hello says JSON")["last-event-id"].take()
    };
    let (first, _) = client.next_event();
    assert_eq!(hello(&first), Value::Null);
    node.post("/publish/c?id=one", "1");
    assert_eq!(client.next_event().0["id"], "one");

    assert_eq!(node.post("/close/c", "").json(), 1);
    node.post("/publish/c?id=two", "2");
    node.post("/publish/c?id=three", "3");
    let (next, between) = client.next_event();
    assert_eq!(
        between.last(),
        Some(&json!({ "open": true })),
        "it opens the stream again"
    );
    let mut heard = vec![next];
    heard.extend(client.events(2));
    let place = heard
        .iter()
        .position(|event| event["type"] == "hello")
        .expect("a hello");
    assert_eq!(hello(&heard.remove(place)), "one");
    node.post("/publish/c?id=four", "4");
    heard.extend(client.events(1));
    let heard: Vec<_> = heard
        .iter()
        .map(|event| json!([event["id"], event["data"]]))
        .collect();
    assert_eq!(
        heard,
        [
            json!(["two", "2"]),
            json!(["three", "3"]),
            json!(["four", "4"])
        ]
    );
    client.wait_end();
}
