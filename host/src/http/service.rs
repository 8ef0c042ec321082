//! A request: its app, its body, its answer.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
};
use hyper::body::Incoming as RequestBody;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    body::{Bodies, Refused},
    health,
    response::{Body, Carrier, plain, response},
    routes::Routes,
    stuck::Streams,
    takeover::Exit,
};
use crate::{
    guest::{
        app::App,
        headers::Headers,
        request::{Incoming, RequestId},
    },
    hub::delivery::outlet::Framing,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all requests of a node need.
#[derive(Clone)]
pub struct Node {
    /// The apps.
    pub routes: Arc<Routes<App>>,
    /// Room for the bodies of requests.
    pub bodies: Bodies,
    /// Clients that are to come back are spread over this.
    pub reconnect: Duration,
    /// Whether requests are logged for a person who watches, and answers may tell about the node.
    pub development: bool,
}

/// The socket that a request came on.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The other side.
    pub address: IpAddr,
    /// Cancelled to drop the socket at once.
    pub abort: CancellationToken,
    /// The streams on it, where it carries several.
    pub streams: Streams,
    /// The way out of the HTTP library, where an event stream may take it.
    pub exit: Option<Exit>,
}

/// What answers the requests that come to a listener.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers a request. A HEAD is answered as a GET would be: its body is left out on the way.
    fn respond(
        &self,
        request: Request<RequestBody>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + Send;
}

impl Service for Node {
    async fn respond(&self, request: Request<RequestBody>, peer: Peer) -> Response<Body> {
        match request.uri().path() {
            health::LIVE => return health::live(),
            health::READY => return health::ready(self),
            _ => {}
        }
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let Some((app, below)) = self.routes.find(&path) else {
            return plain(StatusCode::NOT_FOUND, &self.no_app(&path));
        };
        let id = RequestId::random();
        let method = head.method.clone();
        let mut response = self.answer(app, below, head, body, peer, id).await;
        let id = id.to_string();
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        // Without the query, which may hold what is nobody else's business.
        let (app, status) = (&app.shared.name, response.status().as_u16());
        match self.development {
            true => info!(app, request = id, status, "{method} {path}"),
            false => debug!(app, request = id, status, "{method} {path}"),
        }
        response
    }
}

impl Node {
    async fn answer(
        &self,
        app: &Arc<App>,
        below: &str,
        mut head: Parts,
        mut body: RequestBody,
        peer: Peer,
        id: RequestId,
    ) -> Response<Body> {
        let limit = app.shared.limits.request_body;
        let read = self
            .bodies
            .read(&mut body, limit, "the app's limit `request-body`");
        let (body, room) = match read.await {
            Ok(read) => read,
            Err(Refused(status, text)) => return plain(status, &text),
        };
        if head.version == Version::HTTP_2 {
            as_in_http1(&mut head);
        }
        let host = head.headers.get(header::HOST);
        let authority = match head.uri.authority() {
            Some(authority) => Some(authority.to_string()),
            None => host.and_then(|host| host.to_str().ok()).map(str::to_owned),
        };
        let carrier = match (head.version, peer.exit) {
            // The socket carries the streams of others, too.
            (Version::HTTP_2, _) => Carrier::Library {
                abort: CancellationToken::new(),
                streams: Some(peer.streams),
            },
            (version, Some(exit)) => Carrier::Socket {
                exit,
                framing: match version {
                    Version::HTTP_11 => Framing::Chunked,
                    _ => Framing::Close,
                },
            },
            (_, None) => Carrier::Library {
                abort: peer.abort,
                streams: None,
            },
        };
        let incoming = Incoming {
            id,
            method: head.method,
            path: below.to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: Headers::from(&head.headers),
            body,
            client: peer.address,
            authority,
            room,
        };
        response(
            app.handle(incoming).await,
            &head.headers,
            self.reconnect,
            carrier,
        )
    }

    fn no_app(&self, path: &str) -> String {
        match self.development {
            true => format!(
                "No app is mounted at {path}. There is one at {}.",
                self.routes.names().join(" and at ")
            ),
            false => "Not found.".to_owned(),
        }
    }
}

/// Puts the headers of a request over HTTP/2 as handlers know them: the authority as `host`, and crumbs of a cookie
/// joined, as RFC 9113, section 8.2.3 wants it before a generic application sees them.
fn as_in_http1(head: &mut Parts) {
    let cookies: Vec<_> = head.headers.get_all(header::COOKIE).iter().collect();
    if cookies.len() > 1 {
        let crumbs: Vec<_> = cookies.iter().map(|crumb| crumb.as_bytes()).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            head.headers.insert(header::COOKIE, joined);
        }
    }
    if let Some(authority) = head.uri.authority()
        && !head.headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(header::HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_see_the_same_headers_over_both_versions() {
        let request = Request::get("https://example.org:8443/x")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        as_in_http1(&mut head);
        assert_eq!(head.headers["host"], "example.org:8443");
        assert_eq!(head.headers.get_all("cookie").iter().count(), 1);
        assert_eq!(head.headers["cookie"], "a=1; b=2");
    }
}
