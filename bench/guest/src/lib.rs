//! The guest that the benchmark serves.
//!
//! | request | what it does |
//! |---|---|
//! | `GET /events?channel=c` | a stream that hears the channel |
//! | `POST /publish?prefix=…` | publishes what [`Publish`] says, and answers when all is published |

use fanfare_bench_protocol::Publish;
use fanfare_guest::{App, Error, Event, Publisher, Request, Response, Result, registry, sleep};

struct Bench;

impl App for Bench {
    fn start() -> Result<()> {
        let publisher = Publisher::in_memory();
        publisher.start()?;
        registry::set("publisher", &publisher)
    }

    fn handle(request: Request) -> Result<()> {
        match (request.method().as_str(), request.path().as_str()) {
            ("GET", "/events") => listen(&request),
            ("POST", "/publish") => publish(&request),
            _ => request.respond(Response::not_found()),
        }
    }
}

fanfare_guest::export!(Bench);

fn listen(request: &Request) -> Result<()> {
    let stream = request.upgrade()?;
    let publisher: Publisher = registry::get("publisher")?;
    publisher.register(&stream, &request.query_value("channel").unwrap_or_default())
}

fn publish(request: &Request) -> Result<()> {
    let query = request.raw_query().unwrap_or_default();
    let publish = Publish::from_query(&query).map_err(Error::Invalid)?;
    let publisher: Publisher = registry::get("publisher")?;
    let published = publish.rounds(sleep, |channel, _, data| {
        publisher.publish(channel, Event::new(data)).map(|_| ())
    })?;
    request.respond(Response::text(published.json()).header("content-type", "application/json"))
}
