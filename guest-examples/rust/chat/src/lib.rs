//! A chat. A room is a channel: who is in it hears what is said there, and how many they are.

mod said;

use fanfare_guest::{
    App, Disconnected, Disconnection, Event, Publisher, Redis, Request, Response, Result, Upgrade,
    config, registry,
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
            ("GET", []) => request.respond(Response::html(include_str!("page.html"))),
            ("GET", ["rooms", room, "events"]) => join(&request, room),
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
    let enter = || {
        let publisher = publisher()?;
        publisher.register(&stream, room)?;
        tell_count(&publisher, room)
    };
    // An open stream outlives its handler: closed, the client comes back and tries again.
    enter().inspect_err(|_| stream.close())
}

fn say(request: &Request, room: &str) -> Result<()> {
    match check_room(room).and_then(|()| Said::read(request)) {
        Ok(said) => {
            publisher()?.publish(room, Event::json(&said)?.event_type("message"))?;
            request.respond(Response::new(204))
        }
        Err(refusal) => request.respond(refusal),
    }
}

fn publisher() -> Result<Publisher> {
    registry::get("publisher")
}

/// Tells everybody in the room how many they are.
fn tell_count(publisher: &Publisher, room: &str) -> Result<()> {
    let count = publisher.subscribers(room)?;
    if count > 0 {
        publisher.publish(room, Event::new(count.to_string()).event_type("count"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
