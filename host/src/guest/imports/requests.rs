//! `requests`: reading a request, and answering it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use wasmtime::component::Resource;

use crate::guest::{
    bindings::fanfare::sse::requests::{Host, HostRequest, Response},
    error::{HostError, HostResult},
    limits::Limit,
    request::{Answer, RequestHandle},
    state::State,
};

/// What the headers of a response may have together. A map of headers panics past some 24,000 names.
const HEADER_BYTES: usize = 32 * 1024;

/// How a body leaves is the host's business.
const HOST_HEADERS: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    // There are none: a response of a guest is whole.
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Host for State {}

impl HostRequest for State {
    fn id(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&request)?.incoming.id.to_string())
    }

    fn method(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&request)?.incoming.method.to_string())
    }

    fn path(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&request)?.incoming.path.clone())
    }

    fn route(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<String> {
        self.table.get(&request)?;
        Ok(self.shared.route.clone())
    }

    fn query(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&request)?.incoming.query.clone())
    }

    fn headers(
        &mut self,
        request: Resource<RequestHandle>,
    ) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        let headers = &self.table.get(&request)?.incoming.headers;
        Ok(headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect())
    }

    fn header(
        &mut self,
        request: Resource<RequestHandle>,
        name: String,
    ) -> wasmtime::Result<Option<String>> {
        let headers = &self.table.get(&request)?.incoming.headers;
        let value = headers
            .get(name)
            .and_then(|value| std::str::from_utf8(value).ok());
        Ok(value.map(str::to_owned))
    }

    fn body(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&request)?.incoming.body.to_vec())
    }

    fn client_address(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&request)?.incoming.client.to_string())
    }

    fn respond(&mut self, request: Resource<RequestHandle>, response: Response) -> HostResult<()> {
        let request = self.table.get(&request)?;
        request.check_unanswered()?;
        let response = check(response, self.shared.limits.response_body as usize)?;
        // A client that has left meanwhile is nobody's error.
        request.answer(Answer::Response(response));
        Ok(())
    }

    fn drop(&mut self, request: Resource<RequestHandle>) -> wasmtime::Result<()> {
        self.table.delete(request)?;
        Ok(())
    }
}

fn check(response: Response, limit: usize) -> Result<http::Response<Bytes>, HostError> {
    let bytes = response.body.len();
    if bytes > limit {
        return Err(HostError::Limited(
            Limit::ResponseBody,
            format!(
                "a body of {bytes} bytes is over the app's limit `response-body` of {limit} bytes"
            ),
        ));
    }
    let status = StatusCode::from_u16(response.status)
        .ok()
        .filter(|status| (200..=599).contains(&status.as_u16()))
        .ok_or_else(|| {
            HostError::invalid(format!(
                "a status is 200 to 599, and {} is not",
                response.status
            ))
        })?;
    let mut out = http::Response::new(Bytes::from(response.body));
    *out.status_mut() = status;
    let mut header_bytes = 0;
    for (name, value) in response.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| HostError::invalid(format!("{name:?} is no name of a header")))?;
        if HOST_HEADERS.contains(&parsed) {
            return Err(HostError::invalid(format!(
                "the header `{parsed}` is set by the host"
            )));
        }
        let value = HeaderValue::from_bytes(&value).map_err(|_| {
            HostError::invalid(format!(
                "the value of the header `{parsed}` has a character that no header may have"
            ))
        })?;
        header_bytes += parsed.as_str().len() + value.len();
        if header_bytes > HEADER_BYTES {
            return Err(HostError::limited(format!(
                "the headers of a response have at most {HEADER_BYTES} bytes together"
            )));
        }
        out.headers_mut().append(parsed, value);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, name: &str, value: &str) -> Response {
        Response {
            status,
            headers: vec![(name.into(), value.into())],
            body: b"body".to_vec(),
        }
    }

    #[test]
    fn responses_are_checked() {
        let good = check(response(201, "X-Test", "ä"), 4).unwrap();
        assert_eq!(good.status(), 201);
        assert_eq!(good.headers()["x-test"].as_bytes(), "ä".as_bytes());
        for bad in [
            response(101, "a", "b"),
            response(199, "a", "b"),
            response(600, "a", "b"),
            response(1000, "a", "b"),
            response(200, "a b", "c"),
            response(200, "", "c"),
            response(200, "a", "b\r\nc: d"),
            response(200, "Content-Length", "4"),
            response(200, "transfer-encoding", "chunked"),
            response(304, "Trailer", "a"),
        ] {
            assert!(check(bad.clone(), 4).is_err(), "{bad:?}");
        }
        assert!(check(response(200, "a", "b"), 3).is_err());
        let mut many = response(200, "a", "b");
        many.headers = (0..30_000).map(|n| (format!("h{n}"), Vec::new())).collect();
        assert!(check(many, 4).is_err());
    }
}
