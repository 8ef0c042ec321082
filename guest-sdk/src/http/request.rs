//! A request to another server.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{Response, Url};
use crate::{Result, sys};

/// A request that was sent, and whose response has not begun yet. Dropping it ends the request.
#[must_use = "dropping it ends the request"]
pub struct Pending {
    pending: sys::http::Pending,
    url: Url,
}

impl Pending {
    /// Waits until the response has begun or failed, at most so long. True then: [`response`](Self::response) does not
    /// wait.
    pub fn wait(&self, most: Duration) -> bool {
        self.pending.wait(most)
    }

    /// Waits for the head of the response.
    ///
    /// Errors: [`Limited`](crate::Error::Limited) past the app's limits `http.requests` and `http.response-bytes`;
    /// [`Unavailable`](crate::Error::Unavailable) where there is no response, or not in time.
    pub fn response(self) -> Result<Response> {
        Ok(Response::new(self.pending.answer()?, self.url))
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({})", self.url)
    }
}

/// A request that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    /// The method, in capital letters.
    pub method: String,
    /// Where it goes.
    pub url: String,
    /// Names and values. `host`, `connection`, `te`, `transfer-encoding`, `upgrade` and their like are the host's to
    /// set; `content-length` is added.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) first_byte_timeout: Option<Duration>,
    pub(crate) between_bytes_timeout: Option<Duration>,
}

impl Request {
    /// A request of any method but `CONNECT`.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self {
            method: method.to_ascii_uppercase(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            connect_timeout: None,
            first_byte_timeout: None,
            between_bytes_timeout: None,
        }
    }

    /// A `GET` request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A `POST` request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a body in JSON, with its `content-type`.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// How long connecting may take: less than the app's limit `http.connect-timeout`, more is not granted.
    pub fn connect_within(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How long the response may take to begin: less than the app's limit `http.first-byte-timeout`.
    pub fn answer_within(mut self, timeout: Duration) -> Self {
        self.first_byte_timeout = Some(timeout);
        self
    }

    /// How long the body of the response may pause: less than the app's limit `http.between-bytes-timeout`.
    pub fn pause_at_most(mut self, timeout: Duration) -> Self {
        self.between_bytes_timeout = Some(timeout);
        self
    }

    /// Sends the request and waits for the head of the response. Any status is a response; see [`Response::ok`].
    ///
    /// Errors: those of [`start`](Self::start) and of [`Pending::response`].
    pub fn send(&self) -> Result<Response> {
        self.start()?.response()
    }

    /// Sends the request, and returns when it has left. As [`send`](Self::send), for a handler that looks whether its
    /// own client is still there while the response lets itself be waited for.
    ///
    /// Errors: [`Denied`](crate::Error::Denied) for an origin that the app was not granted, naming it and the grant;
    /// [`Invalid`](crate::Error::Invalid) for a malformed method, URL or header, and for a header that is the host's;
    /// On a node these may come from [`Pending::response`] as well.
    pub fn start(&self) -> Result<Pending> {
        let url = Url::parse(&self.url)?;
        let pending = sys::http::start(self, &url)?;
        Ok(Pending { pending, url })
    }

    /// The first header of this name, in any case, where it is UTF-8.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        super::response::header(&self.headers, name)
    }

    /// The body as a text; what is not UTF-8 becomes U+FFFD.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
