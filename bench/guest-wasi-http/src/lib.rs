//! What `wasmtime serve` is measured with: `GET /hello` as the benchmark's guest answers it, by `wasi:http` 0.2.

#![cfg(target_family = "wasm")]

use fanfare_bench_protocol::HELLO;
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{
        Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
    },
};

struct Hello;

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let is_hello = matches!(request.method(), Method::Get)
            && request.path_with_query().as_deref() == Some("/hello");
        let (status, text) = match is_hello {
            true => (200, HELLO),
            false => (404, "not found\n"),
        };
        let length = text.len().to_string();
        let headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", length.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        // None of this can fail: the headers are ones that a guest may set, and nothing was taken before.
        let headers = Fields::from_list(&headers).expect("headers that may be set");
        let response = OutgoingResponse::new(headers);
        response.set_status_code(status).expect("a status");
        let body = response.body().expect("the body was not taken");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the stream was not taken");
        // A client that has left needs no answer.
        let _ = stream.blocking_write_and_flush(text.as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

wasip2::http::proxy::export!(Hello);
