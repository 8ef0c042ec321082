//! A guest that sends the requests it is told to, and says what came of them.
//!
//! The query says what is sent: `url`, `method` (GET without it), `header=name:value` as often as needed, and
//! `connect`, `first`, `between` for times in milliseconds. The body of the request is passed on.
//!
//! | request | what it does |
//! |---|---|
//! | `/send` | reads the response to its end; the answer is its status, headers and body, or the error |
//! | `/stream` | a stream: each chunk is an event, then comes an event `end` or `error` |
//! | `/panic` | a stream: panics once the head of the response is there and an event `head` was sent |
//! | `/hold` | a stream: an event `head` once that is there, and nothing is read as long as its client stays |

use std::time::Duration;

use fanfare_guest::{App, Connection, Error, Event, Request, Response, Result, http, sleep};
use serde_json::{Value, json};

struct Caller;

impl App for Caller {
    fn handle(request: Request) -> Result<()> {
        match request.path().as_str() {
            "/send" => {
                let answer = whole(&request).unwrap_or_else(|error| shown(&error));
                request.respond(Response::json(&answer)?)
            }
            "/stream" => {
                let stream = request.upgrade()?;
                let end = match pass_on(&request, &stream) {
                    Ok(()) => Event::new("").event_type("end"),
                    Err(error) => Event::json(&shown(&error))?.event_type("error"),
                };
                let sent = stream.send(end);
                stream.close();
                sent
            }
            "/panic" => {
                let (_response, _stream) = head(&request)?;
                panic!("in the middle of a response");
            }
            "/hold" => {
                let (_response, stream) = head(&request)?;
                while stream.is_open() {
                    sleep(Duration::from_millis(100));
                }
                Ok(())
            }
            _ => request.respond(Response::not_found()),
        }
    }
}

fanfare_guest::export!(Caller);

fn outgoing(request: &Request) -> Result<http::Request> {
    let method = request.query_value("method").unwrap_or("GET".to_owned());
    let url = request.query_value("url").unwrap_or_default();
    let mut outgoing = http::Request::new(&method, url).body(request.body());
    for (name, value) in request.query().iter() {
        let milliseconds = || value.parse().map(Duration::from_millis).unwrap_or_default();
        outgoing = match name {
            "header" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                outgoing.header(name, value)
            }
            "connect" => outgoing.connect_within(milliseconds()),
            "first" => outgoing.answer_within(milliseconds()),
            "between" => outgoing.pause_at_most(milliseconds()),
            _ => outgoing,
        };
    }
    Ok(outgoing)
}

fn whole(request: &Request) -> Result<Value> {
    let response = outgoing(request)?.send()?;
    let (status, headers) = (response.status, response.headers.clone());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = headers
        .iter()
        .map(|(name, value)| json!([name, text(value)]));
    let headers: Vec<_> = headers.collect();
    Ok(json!({ "status": status, "headers": headers, "body": text(&response.bytes(1 << 24)?) }))
}

fn pass_on(request: &Request, stream: &Connection) -> Result<()> {
    let mut response = outgoing(request)?.send()?;
    while let Some(chunk) = response.chunk()? {
        stream.send(String::from_utf8_lossy(&chunk).into_owned())?;
    }
    Ok(())
}

fn head(request: &Request) -> Result<(http::Response, Connection)> {
    let stream = request.upgrade()?;
    let response = outgoing(request)?.send()?;
    stream.send(Event::new("").event_type("head"))?;
    Ok((response, stream))
}

fn shown(error: &Error) -> Value {
    let case = match error {
        Error::Denied(_) => "denied",
        Error::Invalid(_) => "invalid",
        Error::Limited(_) => "limited",
        Error::Unavailable(_) => "unavailable",
        _ => "other",
    };
    json!({ "error": case, "message": error.message() })
}
