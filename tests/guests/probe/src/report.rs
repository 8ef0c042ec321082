//! What a script came to, on its way to the test. Both flavours have this file.

use fanfare_guest::{Error, Response, Result, flavour::Request, registry};
use serde_json::{Value, json};

use crate::{
    ends,
    script::{Script, steps_of},
    value,
};

/// The steps that a request asks for; none where it asked for something else, and was answered.
pub(crate) fn asked<F>(request: &Request<F>) -> Result<Option<Vec<Value>>> {
    let path = request.path_segments();
    let answer = match path.first().map(String::as_str) {
        Some("disconnected") => Response::json(&ends::known()?)?,
        Some("occupancy") => {
            let channel = path.get(1).map_or("", |channel| channel);
            Response::text(ends::occupancy(channel))
        }
        Some("page") => Response::html("<!doctype html><title>probe</title>"),
        _ => {
            let script = match request.query_value("script") {
                Some(script) => script.into_bytes(),
                None => request.body(),
            };
            match steps_of(&script) {
                Ok(steps) => return Ok(Some(steps)),
                Err(error) => Response::text(error.to_string()).status(400),
            }
        }
    };
    request.respond(answer).map(|()| None)
}

/// The results of a script, step by step.
pub(crate) struct Report {
    /// What they are kept under in the registry, if at all.
    name: Option<String>,
    results: Vec<Value>,
}

impl Report {
    pub(crate) fn of<F>(request: &Request<F>) -> Self {
        Self {
            name: request.query_value("as"),
            results: Vec::new(),
        }
    }

    /// Notes what a step came to. An error that is to be the handler's ends the script.
    pub(crate) fn add<F>(&mut self, script: &Script<'_, F>, result: Result<Value>) -> Result<()> {
        let result = match result {
            Err(error) if script.fails => {
                self.keep(true)?;
                return Err(error);
            }
            result => result,
        };
        self.results.push(match result {
            Ok(value) => json!({ "ok": value }),
            Err(error) => value::error(&error),
        });
        self.keep(false)
    }

    /// The script has ended: its results are the answer, if it gave none.
    pub(crate) fn finish<F>(self, script: &Script<'_, F>, request: &Request<F>) -> Result<()> {
        self.keep(true)?;
        match script.answered {
            true => Ok(()),
            false => request.respond(Response::json(&self.results)?),
        }
    }

    fn keep(&self, done: bool) -> Result<(), Error> {
        match &self.name {
            Some(name) => registry::set(
                &format!("results:{name}"),
                &json!({ "results": self.results, "done": done }).to_string(),
            ),
            None => Ok(()),
        }
    }
}
