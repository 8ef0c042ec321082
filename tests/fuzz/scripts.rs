//! Every text that a guest can hand to the host, through a guest, the contract and the socket of a client: the host says
//! which argument it refuses, and what it takes arrives as it was given, with nothing besides.
//!
//! A script is a list of steps of the guest `probe`, with two besides that are not its own: `last-event-id`, which the
//! client has brought along, and `registry`, which sets a value, gets it and removes it.

use std::collections::{HashMap, HashSet};

use fanfare_tests::{
    client::Request,
    sse::{Event, Item},
    stream::End,
    wait,
};
use serde_json::{Value, json};

use crate::{
    driver::{Target, gist},
    node::Fuzzed,
};

const SCRIPTS: Target = Target {
    name: "scripts",
    runs: 100,
    words: &[
        "\nINJECTED: 1\n\n",
        "\rid: INJECTED\r\r",
        "\r\n\r\ndata: INJECTED\r\n\r\n",
        "0\r\n\r\nHTTP/1.1 200 OK\r\n",
        "data: ",
        "{\"a\":[1,2]}",
        "fuzz",
        "redis://127.0.0.1:6379",
        "user:hunter2@",
        "https://example.org",
        "*",
    ],
};
/// The channel that the stream of each script hears.
const CHANNEL: &str = "fuzz";
/// What the guest uses itself.
const OWN: [&str; 2] = ["publisher", "results:"];

#[test]
fn what_a_guest_says_arrives_as_it_was_said() {
    let node = Fuzzed::start("");
    SCRIPTS.fuzz_json(|script| {
        let script: Vec<Value> = serde_json::from_slice(script).expect("a script is a list");
        run(&node, script)
    });
    node.assert_whole();
}

/// Runs a script, and says which of its steps were taken.
fn run(node: &Fuzzed, script: Vec<Value>) -> String {
    let mut request = Request::post("/run?as=fuzz", "");
    let mut steps = vec![
        json!(["upgrade", {}]),
        json!(["register", CHANNEL]),
        json!(["send", "begin"]),
    ];
    for step in script {
        match (step[0].as_str(), step[1].as_str().unwrap_or_default()) {
            // Others break the request, which is another target's business.
            (Some("last-event-id"), id) if !id.contains(char::is_control) => {
                request = request.last_event_id(id);
            }
            (Some("last-event-id"), _) => {}
            (Some("upgrade"), _) => steps[0] = step,
            (Some("registry"), name) if OWN.iter().any(|own| name.starts_with(own)) => {}
            (Some("registry"), name) => steps.extend([
                json!(["set-text", name, step[2]]),
                json!(["get-text", name]),
                json!(["unset", name]),
            ]),
            _ => steps.push(step),
        }
    }
    steps.extend([json!(["send", "end"]), json!(["close"])]);
    request.body = Value::from(steps.clone()).to_string().into_bytes();
    let mut socket = node.connect();
    socket.send(&request);
    let mut stream = socket.stream("POST");
    assert_eq!(stream.head().status, 200);
    let mut items = Vec::new();
    if stream.head().header("content-type") == Some("text/event-stream") {
        loop {
            match stream.next_item() {
                Ok(Item::Comment(comment)) => assert_eq!(comment.trim(), "ping"),
                Ok(item) => items.push(item),
                Err(end) => break assert_eq!(end, End::Complete),
            }
        }
    }
    let results = results(node);
    assert_eq!(results.len(), steps.len());
    let mut said = Said::default();
    let outcome = steps
        .iter()
        .zip(&results)
        .map(|(step, result)| said.step(step, result));
    let outcome = outcome.collect::<Vec<_>>().join(",");
    if results[0].get("ok").is_some() {
        let is_begin = |item: &Item| matches!(item, Item::Event(event) if event.data == "begin");
        let begin = items.iter().position(is_begin);
        let begin = begin.unwrap_or_else(|| panic!("nothing begins in {items:?}"));
        // What another connection has left behind may come first, and leaves an id.
        let Item::Event(first) = &items[begin] else {
            unreachable!("this is what was looked for");
        };
        said.last_event_id(&first.last_event_id);
        assert_eq!(items[begin..], said.items);
    } else {
        assert_eq!(items, []);
    }
    outcome
}

/// What the steps of the last script came to.
fn results(node: &Fuzzed) -> Vec<Value> {
    wait::until("the script ends", || {
        let answer = node
            .post("/run", r#"[["get-text", "results:fuzz"]]"#)
            .json();
        let report = answer[0]["ok"]
            .as_str()
            .expect("results are kept")
            .to_owned();
        let mut report: Value = serde_json::from_str(&report).expect("a report is JSON");
        let results = report["results"].take();
        (report["done"] == true).then(|| results.as_array().cloned().unwrap_or_default())
    })
}

/// What a stream has to say.
#[derive(Default)]
struct Said {
    items: Vec<Item>,
    heard: HashSet<String>,
    registry: HashMap<String, String>,
}

impl Said {
    /// Notes what follows from a step, and says what it came to.
    fn step(&mut self, step: &Value, result: &Value) -> String {
        let name = step[0].as_str().expect("a step has a name");
        let first = step[1].as_str().unwrap_or_default();
        if let Some(case) = result["error"].as_str() {
            let text = result["text"].as_str().expect("an error has a text");
            assert_named(step, case, text);
            assert!(
                name != "get-text" || !self.registry.contains_key(first),
                "{first:?} is lost"
            );
            return format!("{name} {}", gist(text));
        }
        let ok = &result["ok"];
        match name {
            "send" => self.event(&step[1], None),
            "publish" => {
                let id = ok["id"].as_str().expect("a receipt has an id");
                let is_heard = self.heard.contains(first);
                assert!(
                    !is_heard || ok["duplicate"] == true || ok["delivered"] != 0,
                    "{result}"
                );
                if is_heard && ok["duplicate"] == false {
                    let fields = &step[2];
                    self.event(fields.get("event").unwrap_or(fields), Some(id));
                }
            }
            "register" => _ = self.heard.insert(first.to_owned()),
            "set-text" => _ = self.registry.insert(first.to_owned(), text(&step[2])),
            "get-text" => assert_eq!(ok.as_str(), self.registry.get(first).map(String::as_str)),
            "unset" => assert_eq!(*ok, self.registry.remove(first).is_some()),
            "open" | "connect-redis" | "remove" => panic!("{step} was taken"),
            _ => {}
        }
        format!("{name} ok")
    }

    /// An event is to come; with this id, if its channel gave it one.
    fn event(&mut self, event: &Value, id: Option<&str>) {
        let (data, own) = match event {
            Value::String(data) => (data.clone(), None),
            fields => (
                text(fields["data"].get("json").unwrap_or(&fields["data"])),
                fields["id"].get("any").unwrap_or(&fields["id"]).as_str(),
            ),
        };
        if let Some(retry) = event["retry"].as_u64() {
            self.items.push(Item::Retry(retry));
        }
        let event_type = event["type"]
            .as_str()
            .filter(|event_type| !event_type.is_empty());
        self.items.push(Item::Event(Event {
            event_type: event_type.unwrap_or("message").to_owned(),
            data: data.replace("\r\n", "\n").replace('\r', "\n"),
            last_event_id: id.or(own).unwrap_or_default().to_owned(),
        }));
    }

    /// Fills in the ids of events that have none: a client keeps the one before.
    fn last_event_id(&mut self, before: &str) {
        let mut last = before.to_owned();
        for item in &mut self.items {
            match item {
                Item::Event(event) if event.last_event_id.is_empty() => {
                    event.last_event_id.clone_from(&last);
                }
                Item::Event(event) => last.clone_from(&event.last_event_id),
                _ => {}
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Holds that an error names what was wrong with the step.
fn assert_named(step: &Value, case: &str, text: &str) {
    let (cases, names): (&[_], &[_]) = match step[0].as_str().unwrap_or_default() {
        "upgrade" => (&["invalid"], &["allowed-origins", "ping-interval"]),
        "send" | "publish" => (
            &["invalid", "limited"],
            &[
                "event id",
                "event type",
                "data",
                "channel name",
                "`channels`",
            ],
        ),
        "register" => (
            &["invalid", "limited"],
            &["channel name", "`channels-per-connection`"],
        ),
        "remove" => (&["invalid", "not-found"], &["channel name", "connection"]),
        "presence" | "subscribers" | "history" => (&["invalid"], &["channel name"]),
        "set-text" => (
            &["invalid", "limited"],
            &["name in the registry", "registry-"],
        ),
        "get-text" => (&["invalid", "not-found"], &["in the registry"]),
        "open" => (&["denied"], &["the broker"]),
        "connect-redis" => (&["invalid", "denied"], &["Redis URL", "capabilities.redis"]),
        _ => (&[], &[]),
    };
    let is_named = names.iter().any(|name| text.contains(name));
    // Of a stream that was refused there is no connection.
    let is_named = is_named || text == "the script has not upgraded";
    let is_case = cases.contains(&case) || text == "the script has not upgraded";
    assert!(is_case && is_named, "{step} is refused as {case}: {text}");
    let is_secret = step[0] == "connect-redis" && text.contains("hunter2");
    assert!(!is_secret, "{text}");
}
