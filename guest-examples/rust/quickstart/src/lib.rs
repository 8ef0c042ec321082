//! Ten events, two seconds apart, for everybody who opens the stream.

use std::time::Duration;

use fanfare_guest::{
    App, Connection, Error, Event, Publisher, Redis, Request, Response, Result, Upgrade, config,
    registry,
};

struct Quickstart;

impl App for Quickstart {
    fn start() -> Result<()> {
        if registry::has("publisher") {
            return Ok(());
        }
        let publisher = match config::get("redis-url")? {
            Some(url) => Publisher::redis(&Redis::connect(&url)?, "quickstart")?,
            None => Publisher::in_memory(),
        };
        publisher.start()?;
        registry::set("publisher", &publisher)
    }

    fn handle(request: Request) -> Result<()> {
        match (request.method().as_str(), request.path().as_str()) {
            ("GET" | "HEAD", "/") => request.respond(Response::html(include_str!("page.html"))),
            // OPTIONS too: a browser may ask before it opens a stream of another origin, and the host answers it.
            ("GET" | "OPTIONS", "/events") => events(&request),
            ("GET", _) => request.respond(Response::not_found()),
            _ => request.respond(Response::method_not_allowed("GET")),
        }
    }
}

fn events(request: &Request) -> Result<()> {
    let channel = request
        .query_value("channel")
        .unwrap_or("quickstart".into());
    let name = request.query_value("name").unwrap_or_default();
    let interval = Duration::from_millis(config::parse("interval-ms")?.unwrap_or(2000));
    let origins = config::list("allowed-origins")?;

    let stream = request.upgrade_with(Upgrade::new().allow_origins(origins))?;
    let publisher: Publisher = registry::get("publisher")?;
    publisher.register(&stream, &channel)?;
    // A stream that hears a channel outlives its handler: after a mistake nobody else would close it.
    count_to_ten(&publisher, &stream, &channel, &name, interval).inspect_err(|_| stream.close())
}

fn count_to_ten(
    publisher: &Publisher,
    stream: &Connection,
    channel: &str,
    name: &str,
    interval: Duration,
) -> Result<()> {
    let event = Event::new("").event_type(name);
    for index in 0..10 {
        publisher.publish(channel, event.clone().data(index.to_string()))?;
        // A pause that ends at once where the client leaves.
        if stream.closed(Some(interval)).is_some() {
            return Ok(());
        }
    }
    match publisher.remove(&stream.id(), channel) {
        // The client may leave at any moment, this one included.
        Err(Error::NotFound(_)) => Ok(()),
        result => result,
    }
}

fanfare_guest::export!(Quickstart);

#[cfg(test)]
use fanfare_guest::testing;
#[cfg(test)]
mod tests;
