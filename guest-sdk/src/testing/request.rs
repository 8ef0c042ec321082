//! A request to be handled.

use std::time::Duration;

use serde::Serialize;

/// A request that a test makes.
///
/// ```
/// use fanfare_guest::testing::Request;
///
/// let page = Request::get("/?name=greeting").header("accept-language", "de");
/// let order = Request::post("/orders").json(&["tea", "cake"]).route("/shop");
/// let note = Request::post("/notes").form(&[("author", "Ada"), ("text", "1 + 1 & more")]);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a request has to be given to `Host::handle`"]
pub struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) route: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) client_address: String,
    pub(crate) hang_up_after: Option<Duration>,
}

impl Request {
    /// A request of any method for path and query, both percent-encoded, below the app's route.
    ///
    /// # Panics
    ///
    /// For a target that does not start with `/`.
    #[track_caller]
    pub fn new(method: &str, target: &str) -> Self {
        assert!(
            target.starts_with('/'),
            "the target `{target}` should start with `/`"
        );
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self {
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            query,
            route: String::new(),
            headers: vec![("host".to_owned(), b"localhost".to_vec())],
            body: Vec::new(),
            client_address: "127.0.0.1".to_owned(),
            hang_up_after: None,
        }
    }

    /// A `GET` request.
    #[track_caller]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `POST` request.
    #[track_caller]
    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    /// Adds a header; `host` replaces the one that is there, `localhost`.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let name = name.to_ascii_lowercase();
        if name == "host" {
            self.headers.retain(|(known, _)| *known != name);
        }
        self.headers.push((name, value.into()));
        self
    }

    /// A client that comes back after it heard this event.
    pub fn last_event_id(self, id: &str) -> Self {
        self.header("last-event-id", id)
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a body in JSON, with its `content-type`.
    ///
    /// # Panics
    ///
    /// For a value that has no form in JSON.
    #[track_caller]
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("the value should have a form in JSON");
        self.header("content-type", "application/json").body(body)
    }

    /// Sets a form as the body, with its `content-type`.
    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(pairs.join("&"))
    }

    /// The route that the app is mounted at, such as `/shop`; `/` at first.
    pub fn route(mut self, route: &str) -> Self {
        self.route = route.trim_end_matches('/').to_owned();
        self
    }

    /// The address of the client; `127.0.0.1` at first.
    pub fn client_address(mut self, address: &str) -> Self {
        self.client_address = address.to_owned();
        self
    }

    /// The client goes away so long after it asked.
    pub fn hang_up_after(mut self, duration: Duration) -> Self {
        self.hang_up_after = Some(duration);
        self
    }

    pub(crate) fn header_value(&self, name: &str) -> Option<String> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        String::from_utf8(value.clone()).ok()
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
