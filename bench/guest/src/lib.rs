//! The guest that the benchmark serves.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /events?channel=c` | a stream that hears the channel |
//! | `GET /many?prefix=…&channels=…` | a stream that hears so many channels, named as those of [`Publish`] |
//! | `POST /publish?prefix=…` | publishes what [`Publish`] says, and answers when all is published |
//! | `GET /hello` | answers [`HELLO`] |
//! | `GET /park?channel=c&ms=…` | a stream of a handler that waits as [`Park`] says |
//! | `POST /repeat?prefix=…` | publishes on the first channel as often as [`Publish`] says, and nothing else between |

use std::time::Instant;

use fanfare_bench_protocol::{HELLO, Park, Publish, Published};
use fanfare_guest::{
    App, Connection, Error, Event, Publisher, Request, Response, Result, registry, sleep,
};

struct Bench;

impl App for Bench {
    fn start() -> Result<()> {
        let publisher = Publisher::open("main")?;
        publisher.start()?;
        registry::set("publisher", &publisher)
    }

    fn handle(request: Request) -> Result<()> {
        match (request.method().as_str(), request.path().as_str()) {
            ("GET", "/events") => {
                let channel = request.query_value("channel").unwrap_or_default();
                listen(&request, &channel).map(|_| ())
            }
            ("GET", "/many") => listen_to_many(&request),
            ("POST", "/publish") => publish(&request),
            ("GET", "/hello") => request.respond(Response::text(HELLO)),
            ("GET", "/park") => park(&request),
            ("POST", "/repeat") => repeat(&request),
            _ => request.respond(Response::not_found()),
        }
    }
}

fanfare_guest::export!(Bench);

fn listen(request: &Request, channel: &str) -> Result<Connection> {
    let stream = request.upgrade()?;
    let publisher: Publisher = registry::get("publisher")?;
    publisher.register(&stream, channel)?;
    Ok(stream)
}

fn listen_to_many(request: &Request) -> Result<()> {
    let (prefix, channels) = Publish::channels_of_query(&query(request)).map_err(Error::Invalid)?;
    let stream = request.upgrade()?;
    let publisher: Publisher = registry::get("publisher")?;
    for number in 0..channels {
        publisher.register(&stream, &Publish::channel_of(&prefix, number))?;
    }
    Ok(())
}

fn park(request: &Request) -> Result<()> {
    let park = Park::from_query(&query(request)).map_err(Error::Invalid)?;
    let stream = listen(request, &park.channel)?;
    let data = park.data();
    sleep(park.wait);
    stream.send(Event::new(data))
}

fn query(request: &Request) -> String {
    request.raw_query().unwrap_or_default()
}

fn asked(request: &Request) -> Result<Publish> {
    Publish::from_query(&query(request)).map_err(Error::Invalid)
}

fn repeat(request: &Request) -> Result<()> {
    let publish = asked(request)?;
    let publisher: Publisher = registry::get("publisher")?;
    let (channel, data) = (publish.channel(0), publish.data());
    let start = Instant::now();
    for _ in 0..publish.events {
        publisher.publish(&channel, Event::new(data.clone()))?;
    }
    published(request, publish.published(start))
}

fn publish(request: &Request) -> Result<()> {
    let publish = asked(request)?;
    let publisher: Publisher = registry::get("publisher")?;
    let published = publish.rounds(sleep, |channel, _, data| {
        publisher.publish(channel, Event::new(data)).map(|_| ())
    })?;
    self::published(request, published)
}

fn published(request: &Request, published: Published) -> Result<()> {
    request.respond(Response::text(published.json()).header("content-type", "application/json"))
}
