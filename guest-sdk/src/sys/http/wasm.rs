//! Requests to others, by `wasi:http` 0.2.

use std::time::Duration;

use super::{Answer, Chunk};
use crate::{
    Error, Result,
    http::{Request, Url},
};

/// What wit-bindgen makes of the parts of WASI that are used here.
#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated code, and calls across the component boundary"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "wit-http",
        world: "http-client",
        generate_all,
    });
}

use bindings::wasi::{
    clocks::monotonic_clock,
    http::{outgoing_handler, types as wit},
    io::{poll, streams},
};

/// The most that is read at once.
const READ_BYTES: u64 = 64 * 1024;
/// The most that one write takes.
const WRITE_BYTES: usize = 4096;

/// Sends a request.
pub fn start(request: &Request, url: &Url) -> Result<Pending> {
    let outgoing = encode(request, url)?;
    let options = options(request)?;
    let body = outgoing.body();
    let body = body.map_err(|()| Error::Invalid("a header `content-length` is wrong".into()))?;
    let answer =
        outgoing_handler::handle(outgoing, Some(options)).map_err(|code| failed(&code, url))?;
    write(body, &request.body);
    Ok(Pending {
        answer,
        url: url.clone(),
    })
}

/// The time since a moment that is not told.
pub fn now() -> Duration {
    Duration::from_nanos(monotonic_clock::now())
}

/// A request whose response has not begun yet. Dropping it ends the request.
pub struct Pending {
    answer: wit::FutureIncomingResponse,
    url: Url,
}

impl Pending {
    /// Waits until the response has begun, at most so long; whether it has.
    pub fn wait(&self, within: Duration) -> bool {
        is_ready_within(&self.answer.subscribe(), Some(&timer(within)))
    }

    /// Waits for the head of the response.
    pub fn answer(self) -> Result<Answer> {
        self.answer.subscribe().block();
        let response = match self.answer.get() {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(code))) => return Err(failed(&code, &self.url)),
            Some(Err(())) | None => return Err(Error::Other("the host gave no response".into())),
        };
        let incoming = response.consume();
        let incoming = incoming.map_err(|()| Error::Other("the response has no body".into()))?;
        let stream = incoming.stream();
        Ok(Answer {
            status: response.status(),
            headers: response.headers().entries(),
            body: Body {
                stream: stream.map_err(|()| Error::Other("the body cannot be read".into()))?,
                _incoming: incoming,
                url: self.url,
            },
        })
    }
}

/// Is ready after so long.
fn timer(within: Duration) -> poll::Pollable {
    monotonic_clock::subscribe_duration(nanoseconds(within))
}

/// Waits until something is ready, for ever or until the timer is; whether it is.
fn is_ready_within(something: &poll::Pollable, timer: Option<&poll::Pollable>) -> bool {
    let ready = match timer {
        None => poll::poll(&[something]),
        Some(timer) => poll::poll(&[something, timer]),
    };
    ready.contains(&0)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn options(request: &Request) -> Result<wit::RequestOptions> {
    let options = wit::RequestOptions::new();
    let set = options.set_connect_timeout(request.connect_timeout.map(nanoseconds));
    let first_byte = request.first_byte_timeout.map(nanoseconds);
    let between_bytes = request.between_bytes_timeout.map(nanoseconds);
    set.and_then(|()| options.set_first_byte_timeout(first_byte))
        .and_then(|()| options.set_between_bytes_timeout(between_bytes))
        .map_err(|()| Error::Other("the host takes no times for requests".into()))?;
    Ok(options)
}

fn encode(request: &Request, url: &Url) -> Result<wit::OutgoingRequest> {
    let mut headers = request.headers.clone();
    let framed = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let expected = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
    if !framed && (expected || !request.body.is_empty()) {
        let length = request.body.len().to_string();
        headers.push(("content-length".to_owned(), length.into_bytes()));
    }
    let fields = wit::Fields::from_list(&headers).map_err(|error| {
        Error::Invalid(match error {
            wit::HeaderError::Forbidden => {
                "a header is the host's to set: `host`, `connection`, `te`, \
                `transfer-encoding`, `upgrade` and their like"
                    .to_owned()
            }
            _ => "a header has a name or a value that HTTP does not allow".to_owned(),
        })
    })?;
    let outgoing = wit::OutgoingRequest::new(fields);
    let method = match request.method.as_str() {
        "GET" => wit::Method::Get,
        "POST" => wit::Method::Post,
        other => wit::Method::Other(other.to_owned()),
    };
    let scheme = match url.is_tls {
        true => wit::Scheme::Https,
        false => wit::Scheme::Http,
    };
    let set = outgoing.set_method(&method);
    set.and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(&url.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&url.target)))
        .map_err(|()| {
            Error::Invalid(format!("method or URL of a request to {url} is malformed"))
        })?;
    Ok(outgoing)
}

/// Writes the body. Who does not take all of it says why in the response.
fn write(body: wit::OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        for chunk in bytes.chunks(WRITE_BYTES) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = wit::OutgoingBody::finish(body, None);
}

/// The body of a response. Dropping it ends the request.
pub struct Body {
    // Before the resource that it belongs to, so that it is dropped first.
    stream: streams::InputStream,
    _incoming: wit::IncomingBody,
    url: Url,
}

impl Body {
    /// Waits for bytes, for ever or at most so long.
    pub fn next(&mut self, within: Option<Duration>) -> Result<Chunk> {
        let timer = within.map(timer);
        loop {
            match self.stream.read(READ_BYTES) {
                Ok(bytes) if !bytes.is_empty() => return Ok(Chunk::Data(bytes)),
                Ok(_) => {}
                Err(streams::StreamError::Closed) => return Ok(Chunk::End),
                Err(streams::StreamError::LastOperationFailed(error)) => {
                    return Err(match wit::http_error_code(&error) {
                        Some(code) => failed(&code, &self.url),
                        None => Error::Unavailable(format!(
                            "the response of {} broke off: {}",
                            self.url,
                            error.to_debug_string()
                        )),
                    });
                }
            }
            if !is_ready_within(&self.stream.subscribe(), timer.as_ref()) {
                return Ok(Chunk::Nothing);
            }
        }
    }
}

/// What a code means to a guest.
fn failed(code: &wit::ErrorCode, url: &Url) -> Error {
    use wit::ErrorCode as Code;
    let unavailable = |what: &str| Error::Unavailable(format!("{url} {what}"));
    match code {
        Code::HttpRequestDenied => Error::Denied(format!(
            "the app was not granted {url}; the operator grants it with `capabilities.http = [\"{url}\"]` in the app's \
             configuration, or with `--allow-http {url}` on the command line"
        )),
        Code::ConnectionLimitReached => Error::Limited(
            "the app has as many requests in flight as its limit `http.requests` allows".into(),
        ),
        Code::HttpResponseBodySize(size) => Error::Limited(format!(
            "the response of {url} is larger than the app's limit `http.response-bytes` of {} bytes",
            size.unwrap_or_default()
        )),
        Code::HttpRequestUriInvalid => Error::Invalid(format!("{url} is no host and port")),
        Code::HttpRequestMethodInvalid => {
            Error::Invalid("a request has a method that guests may not send".into())
        }
        Code::DnsError(_) | Code::DnsTimeout => unavailable("has no address"),
        Code::ConnectionRefused => unavailable("refuses connections"),
        Code::ConnectionTimeout => unavailable("took no connection in time"),
        Code::TlsCertificateError => unavailable("has a certificate that is not trusted"),
        Code::TlsProtocolError => unavailable("did not agree on TLS"),
        Code::HttpResponseTimeout => unavailable("did not answer in time"),
        Code::ConnectionReadTimeout => unavailable("paused for too long in its response"),
        Code::HttpResponseIncomplete | Code::ConnectionTerminated => {
            unavailable("closed the connection before its response was complete")
        }
        other => unavailable(&format!("did not answer: {other:?}")),
    }
}
