//! The guest that the benchmark serves, in the asynchronous flavour: as that of `bench/guest`, but for rounds of events.

use std::time::Instant;

use fanfare_bench_protocol::{HELLO, Park, Publish};
use fanfare_guest::asynchronous::{
    App, Connection, Error, Event, Publisher, Request, Response, Result, registry, sleep,
};

struct Bench;

impl App for Bench {
    async fn start() -> Result<()> {
        let publisher = Publisher::in_memory();
        publisher.start().await?;
        registry::set("publisher", &publisher)
    }

    async fn handle(request: Request) -> Result<()> {
        match (request.method().as_str(), request.path().as_str()) {
            ("GET", "/events") => {
                let channel = request.query_value("channel").unwrap_or_default();
                listen(&request, &channel).await.map(|_| ())
            }
            ("GET", "/hello") => request.respond(Response::text(HELLO)),
            ("GET", "/park") => park(&request).await,
            ("POST", "/repeat") => repeat(&request).await,
            _ => request.respond(Response::not_found()),
        }
    }
}

fanfare_guest::asynchronous::export!(Bench);

async fn listen(request: &Request, channel: &str) -> Result<Connection> {
    let stream = request.upgrade()?;
    let publisher: Publisher = registry::get("publisher")?;
    publisher.register(&stream, channel).await?;
    Ok(stream)
}

async fn park(request: &Request) -> Result<()> {
    let park = Park::from_query(&query(request)).map_err(Error::Invalid)?;
    let stream = listen(request, &park.channel).await?;
    let data = park.data();
    sleep(park.wait).await;
    stream.send(Event::new(data))
}

async fn repeat(request: &Request) -> Result<()> {
    let publish = Publish::from_query(&query(request)).map_err(Error::Invalid)?;
    let publisher: Publisher = registry::get("publisher")?;
    let (channel, data) = (publish.channel(0), publish.data());
    let start = Instant::now();
    for _ in 0..publish.events {
        publisher
            .publish(&channel, Event::new(data.clone()))
            .await?;
    }
    let published = publish.published(start).json();
    request.respond(Response::text(published).header("content-type", "application/json"))
}

fn query(request: &Request) -> String {
    request.raw_query().unwrap_or_default()
}
