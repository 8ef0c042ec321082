//! Asks a language model, and turns its stream of tokens into events on a channel: who hears the channel reads along.

use std::time::Duration;

use fanfare_guest::{
    App, Error, Event, Publisher, Request, Response, Result, Upgrade, config, http, registry,
};
use serde_json::json;

struct Relay;

/// How often it is looked whether anybody still hears the answer while the model says nothing.
const LOOK: Duration = Duration::from_secs(1);
/// The longest question, in bytes.
const QUESTION_BYTES: usize = 16 * 1024;

impl App for Relay {
    fn start() -> Result<()> {
        // A node that cannot ask says so when it starts, and not to the first who asks.
        config::require("upstream-url")?;
        let publisher = Publisher::in_memory();
        publisher.start()?;
        registry::set("publisher", &publisher)
    }

    fn handle(request: Request) -> Result<()> {
        let path = request.path_segments();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (request.method().as_str(), path.as_slice()) {
            ("GET" | "HEAD", []) => request.respond(Response::html(include_str!("page.html"))),
            // OPTIONS too: a browser may ask before it opens a stream of another origin, and the host answers it.
            ("GET" | "OPTIONS", ["hear", channel]) => hear(&request, channel),
            ("GET" | "POST" | "OPTIONS", ["ask", channel]) => ask(&request, channel),
            (_, [] | ["hear", _]) => request.respond(Response::method_not_allowed("GET")),
            (_, ["ask", _]) => request.respond(Response::method_not_allowed("GET, POST")),
            _ => request.respond(Response::not_found()),
        }
    }
}

fanfare_guest::export!(Relay);

/// How an answer ended.
enum End {
    /// It was said to its end.
    Done,
    /// Nobody hears it any more.
    Unheard,
}

fn hear(request: &Request, channel: &str) -> Result<()> {
    let stream = request.upgrade_with(upgrade()?)?;
    publisher()?.register(&stream, channel)
}

fn ask(request: &Request, channel: &str) -> Result<()> {
    let question = match request.method().as_str() {
        "POST" => request.text()?,
        _ => request.query_value("q").unwrap_or_default(),
    };
    let in_bounds = (1..=QUESTION_BYTES).contains(&question.trim().len());
    if !in_bounds && request.method() != "OPTIONS" {
        let text = format!("a question has 1 to {QUESTION_BYTES} bytes\n");
        return request.respond(Response::text(text).status(400));
    }
    let stream = request.upgrade_with(upgrade()?)?;
    let publisher = publisher()?;
    publisher.register(&stream, channel)?;
    if stream.last_event_id().is_some() {
        // It has asked before, and its connection broke: it hears what it missed, and then the rest.
        return Ok(());
    }
    let end = match answer(&publisher, channel, question.trim()) {
        Ok(End::Done) => Event::new("").event_type("done"),
        // For those who come back: there is no more.
        Ok(End::Unheard) => Event::new("nobody listened").event_type("stopped"),
        Err(error) => {
            // What the model's server says of it is for the log alone.
            eprintln!("the answer on {channel} failed: {error}");
            Event::new("the answer broke off").event_type("failed")
        }
    };
    publisher.publish(channel, end)?;
    Ok(())
}

/// Asks, and publishes what comes. Returning drops the request to the model, which stops it.
fn answer(publisher: &Publisher, channel: &str, question: &str) -> Result<End> {
    let unheard = || Ok::<_, Error>(publisher.subscribers(channel)? == 0);
    let pending = to_the_model(question)?.start()?;
    while !pending.wait(LOOK) {
        if unheard()? {
            return Ok(End::Unheard);
        }
    }
    let mut tokens = pending.response()?.ok()?.events();
    loop {
        if unheard()? {
            return Ok(End::Unheard);
        }
        if !tokens.wait(LOOK) {
            continue;
        }
        match tokens.next().transpose()? {
            Some(event) if event.data == "[DONE]" => return Ok(End::Done),
            Some(event) => publisher.publish(channel, event.data)?,
            None => return Err("the stream ended without [DONE]".into()),
        };
    }
}

/// The question as most servers of models take it.
fn to_the_model(question: &str) -> Result<http::Request> {
    let mut body = json!({
        "stream": true,
        "messages": [{ "role": "user", "content": question }],
    });
    if let Some(model) = config::get("model")? {
        body["model"] = model.into();
    }
    let request = http::Request::post(config::require("upstream-url")?).json(&body)?;
    Ok(match config::get("api-key")? {
        Some(key) => request.header("authorization", format!("Bearer {key}")),
        None => request,
    })
}

fn upgrade() -> Result<Upgrade> {
    Ok(Upgrade::new().allow_origins(config::list("allowed-origins")?))
}

fn publisher() -> Result<Publisher> {
    registry::get("publisher")
}

#[cfg(test)]
mod tests;
