//! A guest that does what a test tells it, step by step, and reports what the host answered.
//!
//! A script is a JSON list of steps, and a step a list: the name of an operation, then its arguments. It is the body
//! of a request or its query parameter `script`. Each step has a result: `{"ok": value}`, or
//! `{"error": case, "text": sentence}`, after which the script goes on.
//!
//! A script that answers its request in no way itself is answered with the list of its results. What a script that
//! upgrades has done so far stands in the registry, under `results:` and the value of the query parameter `as`, with
//! the field `done` after its last step. The module [`steps`] has the operations.
//!
//! Besides, `disconnected` counts in the registry: `GET /disconnected` answers what it was told of all connections.
//!
//! On its start the guest runs the script in the variable `start`, or else starts an in-memory publisher and puts it
//! into the registry under `publisher`. A step that fails there fails the start.

mod steps;
mod value;

use fanfare_guest::{
    App, Disconnected, Disconnection, Error, Publisher, Request, Response, Result, config, registry,
};
use serde_json::{Value, json};

use steps::Script;

struct Probe;

/// Before the id of a connection that has ended.
const DISCONNECTED: &str = "disconnected:";

impl App for Probe {
    fn start() -> Result<()> {
        let Some(script) = config::get("start")? else {
            let publisher = Publisher::in_memory();
            publisher.start()?;
            return registry::set("publisher", &publisher);
        };
        let mut script_run = Script::new(None);
        for step in steps_of(script.as_bytes())? {
            script_run.step(&step)?;
        }
        Ok(())
    }

    fn handle(request: Request) -> Result<()> {
        match request.path_segments().first().map(String::as_str) {
            Some("disconnected") => return request.respond(Response::json(&disconnections()?)?),
            Some("page") => {
                return request.respond(Response::html("<!doctype html><title>probe</title>"));
            }
            _ => {}
        }
        let script = match request.query_value("script") {
            Some(script) => script.into_bytes(),
            None => request.body(),
        };
        let steps = match steps_of(&script) {
            Ok(steps) => steps,
            Err(error) => return request.respond(Response::text(error.to_string()).status(400)),
        };
        let name = request.query_value("as");
        let report = |results: &[Value], done: bool| match &name {
            Some(name) => registry::set(
                &format!("results:{name}"),
                &json!({ "results": results, "done": done }).to_string(),
            ),
            None => Ok(()),
        };
        let mut script = Script::new(Some(&request));
        let mut results = Vec::new();
        for step in steps {
            let result = script.step(&step);
            if let (Err(error), true) = (&result, script.fails) {
                report(&results, true)?;
                return Err(error.clone());
            }
            results.push(match result {
                Ok(value) => json!({ "ok": value }),
                Err(error) => value::error(&error),
            });
            report(&results, false)?;
        }
        report(&results, true)?;
        match script.answered {
            true => Ok(()),
            false => request.respond(Response::json(&results)?),
        }
    }
}

impl Disconnected for Probe {
    fn disconnected(gone: Disconnection) {
        let key = format!("{DISCONNECTED}{}", gone.connection_id);
        let times = registry::get::<String>(&key)
            .ok()
            .and_then(|known| serde_json::from_str::<Value>(&known).ok());
        let times = times.and_then(|known| known["times"].as_u64()).unwrap_or(0) + 1;
        let known = json!({ "channels": gone.channels, "reason": format!("{:?}", gone.reason), "times": times });
        if let Err(error) = registry::set(&key, &known.to_string()) {
            eprintln!("the end of a connection was not noted: {error}");
        }
        eprintln!(
            "disconnected {} {:?} {:?}",
            gone.connection_id, gone.reason, gone.channels
        );
    }
}

fanfare_guest::export!(Probe, disconnected);

fn steps_of(script: &[u8]) -> Result<Vec<Value>> {
    serde_json::from_slice(script).map_err(|error| Error::Invalid(format!("the script: {error}")))
}

/// What `disconnected` was told, by the id of the connection.
fn disconnections() -> Result<Value> {
    let mut known = serde_json::Map::new();
    for key in registry::keys() {
        if let Some(id) = key.strip_prefix(DISCONNECTED) {
            known.insert(
                id.to_owned(),
                serde_json::from_str(&registry::get::<String>(&key)?)?,
            );
        }
    }
    Ok(known.into())
}
