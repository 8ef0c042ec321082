//! What a client asks, and how it is answered.

use std::{fmt, marker::PhantomData};

use serde::de::DeserializeOwned;

use crate::{
    Error, Params, Response, Result, Upgrade, flavour::Connection, params::decode_percent, sys,
};

/// A request. It has to be answered, by [`respond`](Self::respond), or turned into an event stream, by
/// [`upgrade`](Self::upgrade), exactly once and before the handler returns.
///
/// The host has read the body completely, so nothing here waits.
pub struct Request<F> {
    sys: sys::Request,
    flavour: PhantomData<F>,
}

impl<F> Request<F> {
    /// The id of the request in the host's log. It is also in the response header `x-request-id`.
    pub fn id(&self) -> String {
        self.sys.id()
    }

    /// The method, in capital letters.
    pub fn method(&self) -> String {
        self.sys.method()
    }

    /// The path below the app's route, percent-encoded as it came; it starts with `/`.
    pub fn path(&self) -> String {
        self.sys.path()
    }

    /// The parts of the path between its slashes, decoded: `/rooms/caf%C3%A9` has `rooms` and `café`, `/` has
    /// none, and a slash at the end makes an empty one.
    pub fn path_segments(&self) -> Vec<String> {
        let path = self.path();
        match path.strip_prefix('/').unwrap_or(&path) {
            "" => Vec::new(),
            path => path.split('/').map(decode_percent).collect(),
        }
    }

    /// The route that the app is mounted at, without a slash at the end; empty for `/`.
    pub fn route(&self) -> String {
        self.sys.route()
    }

    /// What follows the `?`, percent-encoded as it came; `None` without a `?`.
    pub fn raw_query(&self) -> Option<String> {
        self.sys.query()
    }

    /// The pairs of the query, decoded.
    pub fn query(&self) -> Params {
        Params::parse(&self.raw_query().unwrap_or_default())
    }

    /// The first value of this name in the query, decoded.
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query()
            .into_iter()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// All headers in their order, names in lower case.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.sys.headers()
    }

    /// The first header of this name, in any case; `None` where there is none or where it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<String> {
        self.sys.header(name)
    }

    /// The value of a cookie, as the client sent it: what encoding it may have is the app's affair. Cookies are what
    /// an `EventSource` can prove itself by, since it sends no headers of its own.
    pub fn cookie(&self, name: &str) -> Option<String> {
        // HTTP/2 may send them in several headers.
        let cookies = self
            .headers()
            .into_iter()
            .filter(|(known, _)| known == "cookie");
        cookies
            .filter_map(|(_, value)| String::from_utf8(value).ok())
            .find_map(|value| {
                let mut pairs = value
                    .split(';')
                    .filter_map(|pair| pair.trim().split_once('='));
                pairs.find_map(|(known, value)| (known == name).then(|| value.to_owned()))
            })
    }

    /// The media type of the body, in lower case and without parameters, such as `application/json`.
    pub fn content_type(&self) -> Option<String> {
        let header = self.header("content-type")?;
        let essence = header.split(';').next().unwrap_or_default().trim();
        Some(essence.to_ascii_lowercase())
    }

    /// The body.
    pub fn body(&self) -> Vec<u8> {
        self.sys.body()
    }

    /// The body as a text; [`Error::Invalid`] where it is not UTF-8.
    pub fn text(&self) -> Result<String> {
        String::from_utf8(self.body())
            .map_err(|_| Error::Invalid("the body is not UTF-8".to_owned()))
    }

    /// The body as JSON.
    ///
    /// Errors: [`Error::Invalid`] for a body that is not what `T` wants, or whose `content-type` is not JSON's:
    /// pages of other origins can send anything else without asking.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        self.expect_type("application/json", |found| {
            found == "application/json"
                || (found.starts_with("application/") && found.ends_with("+json"))
        })?;
        serde_json::from_slice(&self.body())
            .map_err(|error| Error::Invalid(format!("the body: {error}")))
    }

    /// The body as the pairs of a form.
    ///
    /// Errors: [`Error::Invalid`] where the `content-type` is not `application/x-www-form-urlencoded`.
    pub fn form(&self) -> Result<Params> {
        let form = "application/x-www-form-urlencoded";
        self.expect_type(form, |found| found == form)?;
        Ok(Params::parse(&String::from_utf8_lossy(&self.body())))
    }

    fn expect_type(&self, wanted: &str, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        match self.content_type() {
            Some(found) if is_wanted(&found) => Ok(()),
            Some(found) => Err(Error::Invalid(format!(
                "the body is `{found}`, not `{wanted}`"
            ))),
            None => Err(Error::Invalid(format!(
                "the body has no content-type; `{wanted}` is wanted"
            ))),
        }
    }

    /// IP address of the client, of the last proxy where there is one.
    pub fn client_address(&self) -> String {
        self.sys.client_address()
    }

    /// Answers the request.
    ///
    /// Errors: [`Error::Invalid`] where it has been answered or upgraded already, or where status or a header is
    /// wrong; [`Error::Limited`] for a body over the app's limit `response-body`. After an error of the response
    /// the request may still be answered.
    pub fn respond(&self, response: Response) -> Result<()> {
        self.sys.respond(response)
    }

    /// Turns the request into an event stream at once, see [`upgrade_with`](Self::upgrade_with).
    pub fn upgrade(&self) -> Result<Connection<F>> {
        self.upgrade_with(Upgrade::new())
    }

    /// Turns the request into an event stream at once: the head of the response is on its way while the handler
    /// goes on. Any method will do: `EventSource` sends `GET`, other clients may send `POST`.
    ///
    /// Errors:
    /// - [`Error::Invalid`]: the request was answered or upgraded already, or an option is malformed; in the
    ///   second case it may still be answered.
    /// - [`Error::Denied`]: the page's origin is not allowed. The request has been answered with 403.
    /// - [`Error::Closed`]: the client is gone; or the request was a CORS preflight for the stream, and it has been
    ///   answered. To have preflights answered, upgrade the method `OPTIONS` as `GET`.
    /// - [`Error::Limited`], [`Error::Unavailable`]: no room for another connection, or the node is shutting
    ///   down. The client has been told to come back.
    pub fn upgrade_with(&self, options: Upgrade) -> Result<Connection<F>> {
        self.sys.upgrade(&options).map(Connection::from_sys)
    }

    pub(crate) fn from_sys(request: sys::Request) -> Self {
        Self {
            sys: request,
            flavour: PhantomData,
        }
    }
}

/// Method and path; headers, query and body may hold secrets.
impl<F> fmt::Debug for Request<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method(), self.path())
    }
}
