//! A guest that does what requests tell it: the tests' hand inside an app.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /events?channel=c` | a stream that hears the channel; first comes an event `hello`, to it alone, with what the guest knows of the client; `&ping=ms`, `&retry=ms` |
//! | `POST /publish/c` | publishes the body; `?id=`, `?any-id=`, `?type=`, `?retry=` |
//! | `POST /publish/c?count=n` | publishes n events, the body and a number as their data |
//! | `POST /close/c` | removes everybody from the channel |
//! | `GET /presence/c` | how many hear the channel on this node |
//! | `POST /redis?url=u` | the body is a JSON array, a command and its arguments: `get`, `set`, … or `execute` |
//!
//! Its variables: `redis-url` or `broker` for its publisher, which is in memory without both.

mod redis;

use std::time::Duration;

use fanfare_guest::{
    App, Error, Event, Message, Publisher, Redis, Request, Response, Result, Upgrade, config,
    registry,
};
use serde_json::{Value, json};

struct Relay;

impl App for Relay {
    fn start() -> Result<()> {
        let publisher = match (config::get("redis-url")?, config::get("broker")?) {
            (Some(url), _) => Publisher::redis(&Redis::connect(&url)?, "relay")?,
            (None, Some(label)) => Publisher::open(&label)?,
            (None, None) => Publisher::in_memory(),
        };
        publisher.start()?;
        registry::set("publisher", &publisher)
    }

    fn handle(request: Request) -> Result<()> {
        let path = request.path_segments();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let answer = match path.as_slice() {
            ["events"] => return events(&request),
            ["publish", channel] => publish(&request, channel),
            ["close", channel] => close(channel),
            ["presence", channel] => {
                publisher().and_then(|publisher| Ok(publisher.subscribers(channel)?.into()))
            }
            ["redis"] => redis::answer(&request),
            _ => return request.respond(Response::not_found()),
        };
        let answer = answer
            .unwrap_or_else(|error| json!({ "error": case(&error), "message": error.message() }));
        request.respond(Response::json(&answer)?)
    }
}

fanfare_guest::export!(Relay);

fn publisher() -> Result<Publisher> {
    registry::get("publisher")
}

fn events(request: &Request) -> Result<()> {
    let mut upgrade = Upgrade::new();
    if let Some(ping) = milliseconds(request, "ping")? {
        upgrade = upgrade.ping_every(ping);
    }
    let stream = request.upgrade_with(upgrade)?;
    let hello = json!({
        "last-event-id": stream.last_event_id(),
        "cookie": request.header("cookie"),
        "origin": request.header("origin"),
    });
    let mut hello = Event::json(&hello)?.event_type("hello");
    hello.retry = milliseconds(request, "retry")?;
    publisher()?.register(&stream, &request.query_value("channel").unwrap_or_default())?;
    stream.send(hello)
}

fn publish(request: &Request, channel: &str) -> Result<Value> {
    let publisher = publisher()?;
    let body = String::from_utf8_lossy(&request.body()).into_owned();
    if let Some(count) = request.query_value("count") {
        let count: u32 = count.parse().map_err(|_| Error::Invalid("count".into()))?;
        let publish = |index| Ok(publisher.publish(channel, format!("{body}{index}"))?.id);
        return Ok(json!((0..count).map(publish).collect::<Result<Vec<_>>>()?));
    }
    let mut event = Event::new(body);
    if let Some(id) = request.query_value("id") {
        event = event.id(id);
    }
    if let Some(id) = request.query_value("any-id") {
        event = event.any_id(id);
    }
    event.event_type = request.query_value("type");
    event.retry = milliseconds(request, "retry")?;
    let receipt = publisher.publish(channel, Message::from(event))?;
    Ok(json!({ "id": receipt.id, "delivered": receipt.delivered, "duplicate": receipt.duplicate }))
}

fn close(channel: &str) -> Result<Value> {
    let publisher = publisher()?;
    let ids = publisher.presence(channel)?;
    for id in &ids {
        publisher.remove(id, channel)?;
    }
    Ok(ids.len().into())
}

fn milliseconds(request: &Request, name: &str) -> Result<Option<Duration>> {
    let parse = |text: String| {
        text.parse()
            .map_err(|_| Error::Invalid(format!("{name} is no number")))
    };
    Ok(request
        .query_value(name)
        .map(parse)
        .transpose()?
        .map(Duration::from_millis))
}

/// The name of an error's case.
fn case(error: &Error) -> &'static str {
    match error {
        Error::Denied(_) => "denied",
        Error::Invalid(_) => "invalid",
        Error::NotFound(_) => "not-found",
        Error::WrongType(_) => "wrong-type",
        Error::Closed(_) => "closed",
        Error::NotStarted(_) => "not-started",
        Error::Limited(_) => "limited",
        Error::Unavailable(_) => "unavailable",
        Error::Other(_) => "other",
    }
}
