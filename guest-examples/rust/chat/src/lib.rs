//! A chat. A room is a channel: who is in it hears what is said there, and how many they are.

mod said;

use fanfare_guest::{
    App, Disconnected, Disconnection, Error, Event, Publisher, Redis, Request, Response, Result,
    Upgrade, config, registry,
};

use said::{Said, check_room};

struct Chat;

impl App for Chat {
    fn start() -> Result<()> {
        if registry::has("publisher") {
            return Ok(());
        }
        let publisher = match config::get("redis-url")? {
            Some(url) => Publisher::redis(&Redis::connect(&url)?, "chat")?,
            None => Publisher::in_memory(),
        };
        publisher.start()?;
        registry::set("publisher", &publisher)
    }

    fn handle(request: Request) -> Result<()> {
        let path = request.path_segments();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (request.method().as_str(), path.as_slice()) {
            ("GET" | "HEAD", []) => request.respond(Response::html(include_str!("page.html"))),
            // OPTIONS too: a browser may ask before it opens a stream of another origin, and the host answers it.
            ("GET" | "OPTIONS", ["rooms", room, "events"]) => join(&request, room),
            ("POST", ["rooms", room]) => say(&request, room),
            (_, [] | ["rooms", _, "events"]) => {
                request.respond(Response::method_not_allowed("GET"))
            }
            (_, ["rooms", _]) => request.respond(Response::method_not_allowed("POST")),
            _ => request.respond(Response::not_found()),
        }
    }
}

impl Disconnected for Chat {
    fn disconnected(gone: Disconnection) {
        for room in &gone.channels {
            if let Err(error) = publisher().and_then(|publisher| tell_count(&publisher, room)) {
                eprintln!("the room {room} was not told that somebody left: {error}");
            }
        }
    }
}

fanfare_guest::export!(Chat, disconnected);

fn join(request: &Request, room: &str) -> Result<()> {
    if let Err(refusal) = check_room(room) {
        return request.respond(refusal);
    }
    let origins = config::list("allowed-origins")?;
    let stream = request.upgrade_with(Upgrade::new().allow_origins(origins))?;
    let publisher = publisher()?;
    publisher.register(&stream, room)?;
    // A stream that hears a channel outlives its handler. Closed, the client comes back and tries again.
    tell_count(&publisher, room).inspect_err(|_| stream.close())
}

fn say(request: &Request, room: &str) -> Result<()> {
    match check_room(room).and_then(|()| Said::read(request)) {
        Ok(said) => match publisher()?.publish(room, Event::json(&said)?.event_type("message")) {
            Ok(_) => request.respond(Response::new(204)),
            Err(Error::Unavailable(_)) => request
                .respond(Response::text("nobody can be reached now, try again\n").status(503)),
            Err(error) => Err(error),
        },
        Err(refusal) => request.respond(refusal),
    }
}

fn publisher() -> Result<Publisher> {
    registry::get("publisher")
}

/// Tells everybody in the room how many they are.
fn tell_count(publisher: &Publisher, room: &str) -> Result<()> {
    // Over Redis a room has visitors on other nodes, too, whom this one cannot count.
    if config::get("redis-url")?.is_some() {
        return Ok(());
    }
    // Somebody may come or go while this is told, and be told of by another handler before: whoever tells last has to
    // tell what is true then.
    let mut told = 0;
    loop {
        let count = publisher.subscribers(room)?;
        if count == told {
            return Ok(());
        }
        publisher.publish(room, Event::new(count.to_string()).event_type("count"))?;
        told = count;
    }
}

#[cfg(test)]
mod tests;
