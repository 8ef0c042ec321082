//! A script that runs, and its steps that wait for nothing. Both flavours have this file.

use std::time::Duration;

use fanfare_guest::{
    Error, Result, config,
    flavour::{Connection, Publisher, Redis, Request},
    registry,
};
use serde_json::{Value, json};

use crate::value::{bytes, event, fail, number, response, text, upgrade};

/// How often a step looks at what it waits for, and how often at most: a test gives up before.
pub(crate) const LOOK: (Duration, u32) = (Duration::from_millis(2), 45_000);

/// The steps in the text of a script.
pub(crate) fn steps_of(script: &[u8]) -> Result<Vec<Value>> {
    serde_json::from_slice(script).map_err(|error| Error::Invalid(format!("the script: {error}")))
}

/// A script that runs.
pub(crate) struct Script<'a, F> {
    request: Option<&'a Request<F>>,
    /// Whether the request was answered or upgraded.
    pub(crate) answered: bool,
    /// Whether the last step's error is to be the handler's.
    pub(crate) fails: bool,
    /// What steps about publishers are about: `in-memory`, `open` or `get-publisher` choose it,
    /// else it is the one in the registry.
    publisher: Option<Publisher<F>>,
    /// What `upgrade` made.
    connection: Option<Connection<F>>,
}

impl<'a, F> Script<'a, F> {
    pub(crate) fn new(request: Option<&'a Request<F>>) -> Self {
        let publisher = registry::get("publisher").ok();
        Self {
            request,
            answered: false,
            fails: false,
            publisher,
            connection: None,
        }
    }

    /// Does a step. What is missing in it counts as null.
    pub(crate) fn step(&mut self, step: &Value) -> Result<Value> {
        let name = step[0].as_str().unwrap_or_default();
        let (first, second) = (&step[1], &step[2]);
        match name.split_once('.') {
            Some(("request", name)) => self.request_step(name, first),
            _ => self.plain_step(name, first, second),
        }
    }

    fn plain_step(&mut self, name: &str, first: &Value, second: &Value) -> Result<Value> {
        match name {
            // === connections ===
            "upgrade" => {
                let upgraded = self.request()?.upgrade_with(upgrade(first)?);
                // An error of the options leaves the request to be answered.
                self.answered |= !matches!(upgraded, Err(Error::Invalid(_)));
                let connection = upgraded?;
                let known =
                    json!({ "id": connection.id(), "last-event-id": connection.last_event_id() });
                self.connection = Some(connection);
                Ok(known)
            }
            "id" => Ok(self.connection()?.id().into()),
            "channels" => Ok(self.connection()?.channels().into()),
            "send" => none(self.connection()?.send(event(first)?)),
            "is-open" => Ok(self.connection()?.is_open().into()),
            "close" => {
                self.connection()?.close();
                Ok(Value::Null)
            }

            // === publishers ===
            "in-memory" => self.publish_through(Ok(Publisher::in_memory())),
            "open" => self.publish_through(Publisher::open(&text(first)?)),

            // === registry ===
            "has" => Ok(registry::has(&text(first)?).into()),
            "kind" => Ok(registry::kind(&text(first)?)
                .map(|kind| format!("{kind:?}"))
                .into()),
            "get-text" => Ok(registry::get::<String>(&text(first)?)?.into()),
            "get-bytes" => Ok(bytes(&registry::get::<Vec<u8>>(&text(first)?)?)),
            "get-publisher" => self.publish_through(registry::get(&text(first)?)),
            "get-redis" => Ok(registry::get::<Redis<F>>(&text(first)?)?.address().into()),
            "set-text" => none(registry::set(&text(first)?, &text(second)?)),
            "set-bytes" => none(registry::set(&text(first)?, text(second)?.as_bytes())),
            "set-publisher" => none(registry::set(&text(first)?, self.publisher()?)),
            "unset" => Ok(registry::remove(&text(first)?).into()),
            "keys" => Ok(registry::keys().into()),
            // Succeeds from the n-th time on.
            "nth-time" => {
                let name = text(first)?;
                let times = registry::get::<String>(&name)
                    .ok()
                    .and_then(|times| times.parse().ok())
                    .unwrap_or(0)
                    + 1;
                registry::set(&name, &times.to_string())?;
                match times >= number(second)? {
                    true => Ok(times.into()),
                    false => Err(Error::Unavailable(format!("time {times} is too early"))),
                }
            }

            // === the rest ===
            "version" => Ok(crate::version::letter().into()),
            "config" => Ok(config::get(&text(first)?)?.into()),
            "config-all" => Ok(config::all()?
                .into_iter()
                .map(|(name, value)| json!([name, value]))
                .collect()),
            "print" => {
                println!("{}", text(first)?);
                Ok(Value::Null)
            }
            "print-error" => {
                eprintln!("{}", text(first)?);
                Ok(Value::Null)
            }
            "panic" => panic!("{}", text(first)?),
            "fail" => {
                self.fails = true;
                Err(fail(&text(first)?, text(second)?))
            }
            "environment" => Ok(std::env::vars()
                .map(|(name, value)| json!([name, value]))
                .collect()),
            "read-file" => none(
                std::fs::read(text(first)?)
                    .map(drop)
                    .map_err(|error| error.to_string().into()),
            ),
            "connect-tcp" => none(
                std::net::TcpStream::connect(text(first)?)
                    .map(drop)
                    .map_err(|error| error.to_string().into()),
            ),
            _ => Err(Error::Invalid(format!(
                "the script: there is no step {name:?}"
            ))),
        }
    }

    fn request_step(&mut self, name: &str, first: &Value) -> Result<Value> {
        let request = self.request()?;
        match name {
            "id" => Ok(request.id().into()),
            "method" => Ok(request.method().into()),
            "path" => Ok(request.path().into()),
            "route" => Ok(request.route().into()),
            "query" => Ok(request.raw_query().into()),
            "headers" => Ok(request
                .headers()
                .iter()
                .map(|(name, value)| json!([name, bytes(value)]))
                .collect()),
            "header" => Ok(request.header(&text(first)?).into()),
            "body" => Ok(bytes(&request.body())),
            "client-address" => Ok(request.client_address().into()),
            "respond" => {
                let responded = request.respond(response(first)?);
                self.answered |= responded.is_ok();
                none(responded)
            }
            _ => Err(Error::Invalid(format!(
                "the script: there is no step request.{name}"
            ))),
        }
    }

    fn request(&self) -> Result<&'a Request<F>> {
        self.request
            .ok_or_else(|| "the script has no request".into())
    }

    /// What `upgrade` made.
    pub(crate) fn connection(&self) -> Result<&Connection<F>> {
        self.connection
            .as_ref()
            .ok_or_else(|| "the script has not upgraded".into())
    }

    /// The publisher that was chosen.
    pub(crate) fn publisher(&self) -> Result<&Publisher<F>> {
        self.publisher
            .as_ref()
            .ok_or_else(|| "the script has chosen no publisher".into())
    }

    fn publish_through(&mut self, publisher: Result<Publisher<F>>) -> Result<Value> {
        self.publisher = Some(publisher?);
        Ok(Value::Null)
    }
}

pub(crate) fn none(result: Result<()>) -> Result<Value> {
    result.map(|()| Value::Null)
}
