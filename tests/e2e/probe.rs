//! Scripts for the guest `probe`, and what came of them.

use std::fmt::Write as _;

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    sse::Event,
    stream::Stream,
    wait,
};
use serde_json::{Value, json};

use crate::{flavour::Flavour, guests};

/// A node that serves the probe, in development, without a configuration.
pub(crate) fn start() -> Node {
    Flavour::Blocking.start()
}

/// A node that serves the probe, in production, with this besides in its `fanfare.toml`: tables, such as
/// `[apps.probe.limits]`.
pub(crate) fn configured(tables: &str) -> Node {
    Flavour::Blocking.configured(tables)
}

/// As [`configured`], not started yet.
pub(crate) fn setup(tables: &str) -> Setup {
    Flavour::Blocking.setup(tables)
}

/// The same for the probe of either flavour.
impl Flavour {
    /// The component of the probe.
    pub(crate) fn probe(self) -> &'static str {
        self.pick(guests::PROBE, guests::PROBE_ASYNC)
    }

    pub(crate) fn start(self) -> Node {
        Node::serve(self.probe()).start()
    }

    pub(crate) fn configured(self, tables: &str) -> Node {
        self.setup(tables).start()
    }

    pub(crate) fn setup(self, tables: &str) -> Setup {
        Node::config(&format!(
            "[apps.probe]\ncomponent = {:?}\n{tables}",
            self.probe()
        ))
    }
}

/// Another version of the probe: its start comes to `start` (`good`, `fail`, `trap` or `spin`), and it says that it is the
/// version of this letter. What a component that is built has is `a`.
pub(crate) fn version(letter: char, start: &str) -> Vec<u8> {
    let mut component = std::fs::read(guests::PROBE).expect("the guest was built");
    let letter = format!("version-of-the-probe:{letter}");
    put(&mut component, "version-of-the-probe:a", &letter);
    let start = format!("start-of-the-probe:{start}");
    put(&mut component, "start-of-the-probe:good", &start);
    component
}

/// Puts a text in place of another, which is there once.
fn put(component: &mut [u8], text: &str, other: &str) {
    assert_eq!(text.len(), other.len());
    let is_there = |place: &usize| component[*place..].starts_with(text.as_bytes());
    let places: Vec<_> = (0..component.len()).filter(is_there).collect();
    let [place] = places[..] else {
        panic!("{text:?} is at {places:?}");
    };
    component[place..place + text.len()].copy_from_slice(other.as_bytes());
}

/// The target of a request for this script; its results are to be kept under a name.
pub(crate) fn target(name: &str, steps: &Value) -> String {
    format!(
        "/script?as={}&script={}",
        encode(name),
        encode(&steps.to_string())
    )
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        let _ = write!(encoded, "%{byte:02x}");
        encoded
    })
}

/// A GET for this script.
pub(crate) fn request(name: &str, steps: &Value) -> Request {
    Request::get(&target(name, steps))
}

/// What a script came to.
#[derive(Debug)]
pub(crate) struct Results(Vec<Value>);

impl Results {
    fn of(value: Value) -> Self {
        match value {
            Value::Array(results) => Self(results),
            other => panic!("these are no results: {other}"),
        }
    }

    /// What the step at this place answered.
    #[track_caller]
    pub(crate) fn ok(&self, step: usize) -> &Value {
        self.0[step]
            .get("ok")
            .unwrap_or_else(|| panic!("step {step} failed: {}", self.0[step]))
    }

    /// Whether the step at this place succeeded.
    pub(crate) fn is_ok(&self, step: usize) -> bool {
        self.0[step].get("ok").is_some()
    }

    /// The case and the sentence of the error of the step at this place.
    #[track_caller]
    pub(crate) fn error(&self, step: usize) -> (&str, &str) {
        let result = &self.0[step];
        match (result["error"].as_str(), result["text"].as_str()) {
            (Some(case), Some(text)) => (case, text),
            _ => panic!("step {step} was to fail, and answered {result}"),
        }
    }

    /// What all steps answered.
    #[track_caller]
    pub(crate) fn all_ok(&self) -> Vec<&Value> {
        (0..self.0.len()).map(|step| self.ok(step)).collect()
    }
}

/// A node, seen as one that serves the probe.
pub(crate) trait Probe {
    /// Runs a script.
    fn run(&self, steps: Value) -> Results;

    /// Runs one step and returns what it answers.
    fn ask(&self, step: Value) -> Value;

    /// Runs one step, which is to fail, and returns case and sentence.
    fn refused(&self, step: Value) -> (String, String);

    /// Opens a stream with a script, which has to upgrade. Its results are kept under the name.
    fn listen(&self, name: &str, steps: Value) -> Stream;

    /// Opens a stream that hears a channel.
    fn subscribe(&self, channel: &str) -> Stream;

    /// Holds that no line of the log has this part, of whatever has happened so far.
    fn assert_unlogged(&self, part: &str);

    /// The results of the script that keeps them under this name, waited for.
    fn results(&self, name: &str) -> Results;

    /// The id of the connection that the script of this name opened.
    fn connection(&self, name: &str) -> String;

    /// Publishes data on a channel and returns the id that the event got.
    fn publish(&self, channel: &str, data: &str) -> String;

    /// Waits until `disconnected` was called for a connection, and returns what it was told, and how often.
    fn disconnection(&self, id: &str) -> Value;
}

impl Probe for Node {
    #[track_caller]
    fn run(&self, steps: Value) -> Results {
        let response = self.post("/run", steps.to_string());
        assert_eq!(response.status(), 200, "{}", response.text());
        Results::of(response.json())
    }

    #[track_caller]
    fn ask(&self, step: Value) -> Value {
        self.run(json!([step])).ok(0).clone()
    }

    #[track_caller]
    fn refused(&self, step: Value) -> (String, String) {
        let results = self.run(json!([step]));
        let (case, text) = results.error(0);
        (case.to_owned(), text.to_owned())
    }

    #[track_caller]
    fn listen(&self, name: &str, steps: Value) -> Stream {
        self.events(&target(name, &steps))
    }

    #[track_caller]
    fn subscribe(&self, channel: &str) -> Stream {
        // The word comes after the registration, so nothing that is published from now on is missed.
        let mut stream = self.listen(
            "",
            json!([["upgrade"], ["register", channel], ["send", "registered"]]),
        );
        assert_eq!(stream.next_event().data, "registered");
        stream
    }

    #[track_caller]
    fn assert_unlogged(&self, part: &str) {
        // What is logged from now on comes after whatever there was to log.
        self.run(json!([["print-error", "a later line"]]));
        self.wait_for_log("a later line");
        assert!(!self.log().iter().any(|line| line.contains(part)));
    }

    #[track_caller]
    fn results(&self, name: &str) -> Results {
        let key = format!("results:{name}");
        wait::until("the script ends", || {
            let report = self.run(json!([["get-text", &key]]));
            let report = report.0[0]
                .get("ok")
                .and_then(Value::as_str)
                .map(str::to_owned)?;
            let mut report: Value = serde_json::from_str(&report).expect("a report is JSON");
            (report["done"] == true).then(|| Results::of(report["results"].take()))
        })
    }

    #[track_caller]
    fn connection(&self, name: &str) -> String {
        let key = format!("results:{name}");
        wait::until("the script upgrades", || {
            let report = self.run(json!([["get-text", &key]]));
            let report: Value =
                serde_json::from_str(report.0[0].get("ok")?.as_str()?).expect("a report is JSON");
            report["results"][0]["ok"]["id"].as_str().map(str::to_owned)
        })
    }

    #[track_caller]
    fn publish(&self, channel: &str, data: &str) -> String {
        let receipt = self.ask(json!(["publish", channel, { "data": data }]));
        receipt["id"]
            .as_str()
            .expect("a receipt has an id")
            .to_owned()
    }

    #[track_caller]
    fn disconnection(&self, id: &str) -> Value {
        wait::until("`disconnected` is called", || {
            let known = self.get("/disconnected").json();
            known.get(id).cloned()
        })
    }
}

/// An event with a type, data, and the id that the client knows then.
pub(crate) fn event(event_type: &str, data: &str, last_event_id: &str) -> Event {
    Event {
        event_type: event_type.into(),
        data: data.into(),
        last_event_id: last_event_id.into(),
    }
}
