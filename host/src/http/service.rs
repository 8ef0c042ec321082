//! A request: its app, its body, its answer.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming as RequestBody;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    health,
    response::{Body, plain, response},
    routes::Routes,
};
use crate::guest::{app::App, request::Incoming};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all requests of a node need.
#[derive(Clone)]
pub struct Node {
    /// The apps.
    pub routes: Arc<Routes<App>>,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
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
}

impl Node {
    /// Answers a request.
    pub async fn serve(&self, request: Request<RequestBody>, peer: Peer) -> Response<Body> {
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
        let id = format!("{:016x}", rand::random::<u64>());
        let method = head.method.clone();
        let mut response = self.answer(app, below, head, body, peer, &id).await;
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

    async fn answer(
        &self,
        app: &Arc<App>,
        below: &str,
        head: Parts,
        body: RequestBody,
        peer: Peer,
        id: &str,
    ) -> Response<Body> {
        let body = match self.read(body, app.shared.limits.request_body).await {
            Ok(body) => body,
            Err(refusal) => return *refusal,
        };
        let host = head.headers.get(header::HOST);
        let authority = match head.uri.authority() {
            Some(authority) => Some(authority.to_string()),
            None => host.and_then(|host| host.to_str().ok()).map(str::to_owned),
        };
        let incoming = Incoming {
            id: id.into(),
            method: head.method,
            path: below.to_owned(),
            query: head.uri.query().map(str::to_owned),
            headers: head.headers.clone(),
            body,
            client: peer.address,
            authority,
            // Over HTTP/2 the socket carries the streams of others, too.
            abort: if head.version < Version::HTTP_2 {
                peer.abort
            } else {
                CancellationToken::new()
            },
        };
        response(app.handle(incoming).await, &head.headers, self.reconnect)
    }

    /// Reads a body of at most so many bytes.
    async fn read(&self, body: RequestBody, limit: u64) -> Result<Bytes, Box<Response<Body>>> {
        let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
        let refusal = match timeout(self.body_timeout, limited.collect()).await {
            Ok(Ok(body)) => return Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("The body is over the app's limit `request-body` of {limit} bytes."),
            ),
            Ok(Err(_)) => plain(
                StatusCode::BAD_REQUEST,
                "The body ended before it was complete.",
            ),
            Err(_) => plain(StatusCode::REQUEST_TIMEOUT, "The body took too long."),
        };
        Err(Box::new(refusal))
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
