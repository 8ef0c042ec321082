//! A guest of the asynchronous world, of wit-bindgen alone, that sends requests by `wasi:http` 0.3.
//!
//! The query of a request is an authority, of plain HTTP. The request becomes a stream: each chunk of the response's
//! body is an event, then comes an event `end`, or `error` with the code of `wasi:http`.

#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({
    world: "fanfare:async-caller/async-caller",
    path: ["../../../wit", "wit"],
    generate_all,
});

use exports::fanfare::sse::{handler_async, lifecycle_async};
use fanfare::sse::{
    connections::{self, Connection, UpgradeOptions},
    errors::Error,
    events::{Event, Payload},
    requests::Request,
};
use wasi::http::{
    client,
    types::{ErrorCode, Fields, Request as Outgoing, Response, Scheme},
};
use wit_bindgen::StreamResult;

/// The most that is read at once.
const READ_BYTES: usize = 64 * 1024;

struct AsyncCaller;

export!(AsyncCaller);

impl lifecycle_async::Guest for AsyncCaller {
    async fn start() -> Result<(), Error> {
        Ok(())
    }
}

impl handler_async::Guest for AsyncCaller {
    async fn handle(request: Request) -> Result<(), Error> {
        let options = UpgradeOptions {
            allowed_origins: None,
            ping_interval: None,
            inactivity_timeout: None,
        };
        let stream = connections::upgrade(&request, &options)?;
        let (kind, said) = match pass_on(&request.query().unwrap_or_default(), &stream).await {
            Ok(()) => ("end", String::new()),
            Err(code) => ("error", format!("{code:?}")),
        };
        say(&stream, Some(kind), said);
        stream.close();
        Ok(())
    }
}

async fn pass_on(authority: &str, stream: &Connection) -> Result<(), ErrorCode> {
    let response = client::send(outgoing(authority)?).await?;
    say(
        stream,
        Some("status"),
        response.get_status_code().to_string(),
    );
    let (_read, result) = wit_future::new(|| Ok(()));
    let (mut body, trailers) = Response::consume_body(response, result);
    loop {
        let (result, bytes) = body.read(Vec::with_capacity(READ_BYTES)).await;
        if !bytes.is_empty() {
            say(stream, None, String::from_utf8_lossy(&bytes).into_owned());
        }
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
    }
    trailers.await.map(|_| ())
}

fn outgoing(authority: &str) -> Result<Outgoing, ErrorCode> {
    let (_trailers, none) = wit_future::new(|| Ok(None));
    let (request, _sent) = Outgoing::new(Fields::new(), None, none, None);
    let malformed = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(malformed)?;
    request.set_authority(Some(authority)).map_err(malformed)?;
    request.set_path_with_query(Some("/")).map_err(malformed)?;
    Ok(request)
}

/// A client that has left hears nothing, and that is all.
fn say(stream: &Connection, event_type: Option<&str>, text: String) {
    let _ = stream.send(&Event {
        id: None,
        event_type: event_type.map(str::to_owned),
        data: Payload::Text(text),
        retry: None,
    });
}
