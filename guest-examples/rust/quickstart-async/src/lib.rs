//! Ten events, two seconds apart, for everybody who opens the stream: the quickstart in the asynchronous flavour.

use std::time::Duration;

use fanfare_guest::asynchronous::{
    App, Connection, Error, Event, Publisher, Redis, Request, Response, Result, Upgrade, config,
    registry,
};

/// The page of the quickstart: clients notice no difference.
const PAGE: &str = include_str!("../../quickstart/src/page.html");

struct Quickstart;

impl App for Quickstart {
    async fn start() -> Result<()> {
        if registry::has("publisher") {
            return Ok(());
        }
        let publisher = match config::get("redis-url")? {
            Some(url) => Publisher::redis(&Redis::connect(&url).await?, "quickstart")?,
            None => Publisher::in_memory(),
        };
        publisher.start().await?;
        registry::set("publisher", &publisher)
    }

    async fn handle(request: Request) -> Result<()> {
        match (request.method().as_str(), request.path().as_str()) {
            ("GET" | "HEAD", "/") => request.respond(Response::html(PAGE)),
            // OPTIONS too: a browser may ask before it opens a stream of another origin, and the host answers it.
            ("GET" | "OPTIONS", "/events") => events(&request).await,
            ("GET", _) => request.respond(Response::not_found()),
            _ => request.respond(Response::method_not_allowed("GET")),
        }
    }
}

async fn events(request: &Request) -> Result<()> {
    let channel = request
        .query_value("channel")
        .unwrap_or("quickstart".into());
    let name = request.query_value("name").unwrap_or_default();
    let interval = Duration::from_millis(config::parse("interval-ms")?.unwrap_or(2000));
    let origins = config::list("allowed-origins")?;

    let stream = request.upgrade_with(Upgrade::new().allow_origins(origins))?;
    let publisher: Publisher = registry::get("publisher")?;
    publisher.register(&stream, &channel).await?;
    // A stream that hears a channel outlives its handler: after a mistake nobody else would close it.
    count_to_ten(&publisher, &stream, &channel, &name, interval)
        .await
        .inspect_err(|_| stream.close())
}

async fn count_to_ten(
    publisher: &Publisher,
    stream: &Connection,
    channel: &str,
    name: &str,
    interval: Duration,
) -> Result<()> {
    let event = Event::new("").event_type(name);
    for index in 0..10 {
        publisher
            .publish(channel, event.clone().data(index.to_string()))
            .await?;
        // A pause that ends at once where the client leaves.
        if stream.closed(Some(interval)).await.is_some() {
            return Ok(());
        }
    }
    match publisher.remove(&stream.id(), channel).await {
        // The client may leave at any moment, this one included.
        Err(Error::NotFound(_)) => Ok(()),
        result => result,
    }
}

fanfare_guest::asynchronous::export!(Quickstart);

#[cfg(test)]
use fanfare_guest::asynchronous::testing;
// The tests of the quickstart hold here too.
#[cfg(test)]
#[path = "../../quickstart/src/tests.rs"]
mod tests;
