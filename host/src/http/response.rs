//! An answer as HTTP.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    admin,
    failure::failure,
    stuck::{Streams, Waiting},
    takeover::Exit,
};
use crate::{
    event,
    guest::{origin::Cors, request::Answer},
    hub::{
        delivery::{body, outlet::Framing},
        reconnect_after,
    },
};

/// The body of a response.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Tells nginx, and proxies that follow it, to pass every event on at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What carries an event stream to its client.
#[derive(Debug)]
pub enum Carrier {
    /// The socket itself, after the head.
    Socket {
        /// Its way out of the library.
        exit: Exit,
        /// How the body is delimited.
        framing: Framing,
    },
    /// The library.
    Library {
        /// Cancelled to drop the socket at once.
        abort: CancellationToken,
        /// The streams that share the socket, if there may be others.
        streams: Option<Streams>,
    },
}

/// An answer to the request with these headers. A client that has to come back is told to do so within
/// `reconnect`, each at a time of its own.
pub fn response(
    answer: Answer,
    request: &HeaderMap,
    reconnect: Duration,
    carrier: Carrier,
) -> Response<Body> {
    match answer {
        Answer::Response(response) => {
            let mut response = response.map(full);
            // Whoever took a guest for the admin listener would send it the node's token.
            response.headers_mut().remove(admin::MARK);
            response
        }
        Answer::Stream { cors, delivery } => match carrier {
            Carrier::Socket { exit, framing } => {
                let body = exit.body(delivery, framing).boxed_unsync();
                let mut response = event_stream(body, &cors);
                // Nothing reads another request from it.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
                response
            }
            Carrier::Library { abort, streams } => {
                let events = Events::new(delivery.into_body(abort), streams);
                event_stream(events.boxed_unsync(), &cors)
            }
        },
        Answer::Busy(reason) => busy(&reason, request, reconnect),
        Answer::Failed(text) => failure(&text, request),
    }
}

/// The answer to a HEAD: the library leaves the body out over HTTP/1.1 alone.
pub fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact() {
        let length = HeaderValue::from(length);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
    }
    // No stream takes the socket.
    response.headers_mut().remove(header::CONNECTION);
    response.map(|_| full(Bytes::new()))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

/// A few words with a status.
pub fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A value as JSON with a status.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string(value).unwrap_or_else(|error| format!("\"{error}\""));
    let mut response = plain(status, &text);
    let content_type = HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

fn event_stream(body: Body, cors: &Cors) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    cors.write(headers);
    response
}

/// Anything but 200 would stop an `EventSource` for ever (HTML, section 9.2.3), so one that is to come back gets
/// an event stream that says when, and ends.
fn busy(reason: &str, request: &HeaderMap, reconnect: Duration) -> Response<Body> {
    let wait = reconnect_after(reconnect);
    if wants_events(request) {
        // There is nothing to read in it, so it may be read by every page; one that may not read it would take
        // that for an error and never come back.
        let body = full(Bytes::from(event::retry_block(wait)));
        return event_stream(body, &Cors::for_anyone(request));
    }
    if asks_for_a_stream(request) {
        let mut response = Cors::for_anyone(request).preflight(request).map(full);
        let headers = response.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("0"),
        );
        return response;
    }
    let mut response = plain(
        StatusCode::SERVICE_UNAVAILABLE,
        &format!("Come back later: {reason}."),
    );
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(wait / 1000 + 1));
    response
}

/// Whether this is a preflight of what `EventSource` and its like send, and of no more: then the request that follows
/// may come, and be told when to come back.
fn asks_for_a_stream(request: &HeaderMap) -> bool {
    let get = |method: &HeaderValue| method == "GET";
    let simple = |headers: &HeaderValue| {
        headers.to_str().is_ok_and(|headers| {
            let mut names = headers.split(',').map(str::trim);
            names.all(|name| matches!(name, "last-event-id" | "cache-control"))
        })
    };
    request
        .get(header::ACCESS_CONTROL_REQUEST_METHOD)
        .is_some_and(get)
        && request
            .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
            .is_none_or(simple)
}

fn wants_events(request: &HeaderMap) -> bool {
    accepts(request, "text/event-stream")
}

/// Whether the client names a media type among those that it accepts.
pub(super) fn accepts(request: &HeaderMap, media: &str) -> bool {
    let accepted = request
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let range = range.split(';').next().unwrap_or_default();
        range.trim().eq_ignore_ascii_case(media)
    })
}

/// The body of an event stream that the library carries.
struct Events {
    body: body::Body,
    /// The streams that share the socket, if there may be others.
    streams: Option<Streams>,
    /// What was handed over last has not left yet.
    waiting: Option<Waiting>,
}

impl Events {
    fn new(body: body::Body, streams: Option<Streams>) -> Self {
        Self {
            body,
            streams,
            waiting: None,
        }
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.waiting = None;
        let next = Pin::new(&mut self.body).poll_next(context);
        if let Poll::Ready(Some(_)) = next {
            self.waiting = self.streams.as_ref().map(Streams::wait);
        }
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stream_is_asked_for_by_its_media_type() {
        let wants = |accept: &'static str| {
            wants_events(&HeaderMap::from_iter([(
                header::ACCEPT,
                HeaderValue::from_static(accept),
            )]))
        };
        assert!(wants("text/event-stream"));
        assert!(wants("text/html;q=0.9, Text/Event-Stream;q=0.8"));
        assert!(!wants("*/*"));
        assert!(!wants_events(&HeaderMap::new()));
    }

    #[test]
    fn no_guest_passes_for_the_admin_listener() {
        let mut answer = Response::new(Bytes::new());
        for name in [admin::MARK, ACCEL_BUFFERING, admin::MARK] {
            let headers = answer.headers_mut();
            headers.append(name, HeaderValue::from_static("1"));
        }
        let carrier = Carrier::Library {
            abort: CancellationToken::new(),
            streams: None,
        };
        let answer = Answer::Response(answer);
        let answered = response(answer, &HeaderMap::new(), Duration::ZERO, carrier);
        assert!(!answered.headers().contains_key(admin::MARK));
        assert!(answered.headers().contains_key(ACCEL_BUFFERING));
    }

    #[test]
    fn who_asks_for_events_is_never_told_anything_but_200() {
        let accept = HeaderMap::from_iter([(header::ACCEPT, EVENT_STREAM)]);
        let busy = busy("full", &accept, Duration::from_secs(5));
        assert_eq!(busy.status(), 200);
        assert_eq!(busy.headers()[header::CONTENT_TYPE], "text/event-stream");
    }
}
