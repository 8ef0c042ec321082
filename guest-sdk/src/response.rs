//! A complete answer to a request.

use serde::Serialize;

use crate::Result;

/// A complete answer.
///
/// ```
/// use fanfare_guest::Response;
///
/// let page = Response::html("<h1>Hello</h1>").header("cache-control", "no-cache");
/// let sorry = Response::text("no such room").status(404);
/// let made = Response::json(&["a", "b"])?.status(201);
/// let nothing = Response::new(204);
/// let elsewhere = Response::redirect("/login");
/// # Ok::<(), fanfare_guest::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a response has to be given to `Request::respond`"]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Names and values. `connection`, `content-length`, `keep-alive`, `trailer`, `transfer-encoding` and `upgrade` are
    /// the host's to set.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A status alone.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A plain text, with status 200.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of("text/plain; charset=utf-8", text.into().into_bytes())
    }

    /// A page, with status 200.
    pub fn html(html: impl Into<String>) -> Self {
        Self::of("text/html; charset=utf-8", html.into().into_bytes())
    }

    /// A value as JSON, with status 200.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::of("application/json", serde_json::to_vec(value)?))
    }

    /// Sends the client to another place, which it is to `GET` (303).
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::new(303).header("location", location.into())
    }

    /// There is nothing here (404).
    pub fn not_found() -> Self {
        Self::text("not found\n").status(404)
    }

    /// The method is none of those that are allowed here, such as `"GET, POST"` (405).
    pub fn method_not_allowed(allowed: &str) -> Self {
        Self::text(format!("allowed here: {allowed}\n"))
            .status(405)
            .header("allow", allowed)
    }

    /// Sets another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets another body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The first header of this name, in any case, where it is UTF-8.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The body as a text; what is not UTF-8 becomes U+FFFD.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn of(content_type: &str, body: Vec<u8>) -> Self {
        Self::new(200)
            .header("content-type", content_type)
            .body(body)
    }
}
