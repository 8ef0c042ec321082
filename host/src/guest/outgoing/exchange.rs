//! One request, from the connection to the end of the response.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{
    Outgoing,
    body::{Piece, Pieces},
    counters::{Counters, Ending},
    dial,
    failure::Failure,
    times::Times,
};
use crate::{config::Upstream, guest::scope::Scope};

/// What is read of a connection before the guest takes it, in bytes, and the largest head of a response.
const BUFFER_BYTES: usize = 64 * 1024;

/// A request that may be sent.
pub struct Exchange {
    pub outgoing: Arc<Outgoing>,
    pub scope: Scope,
    pub upstream: Upstream,
    pub request: Request<WasiBody>,
    pub times: Times,
    /// Its place among the app's requests.
    pub place: OwnedSemaphorePermit,
}

/// The response, and whatever keeps its connection going.
struct Answered {
    response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

/// Counts an exchange, which was cancelled unless something else is said of it.
struct Counted<'a> {
    counters: &'a Counters,
    ending: Ending,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counters.count(self.ending);
    }
}

impl Exchange {
    /// Sends the request, tells the head of the response, and then its body, as fast as it is taken.
    pub async fn run(self, head: oneshot::Sender<Result<Response<Pieces>, Error>>) {
        let Self {
            outgoing,
            scope,
            upstream,
            request,
            times,
            place,
        } = self;
        // Also held by what outlives this.
        let place = Arc::new(place);
        let mut counted = Counted {
            counters: &outgoing.counters,
            ending: Ending::Cancelled,
        };
        let failed = |failure: &Failure| {
            outgoing.complain(&scope, &upstream, failure);
            failure.code()
        };
        let answered = answer(&outgoing, &upstream, request, times, &place).await;
        let Answered {
            response,
            _connection,
        } = match answered {
            Ok(answered) => answered,
            Err(failure) => {
                counted.ending = Ending::Failed;
                let _ = head.send(Err(failed(&failure)));
                return;
            }
        };
        let (parts, body) = response.into_parts();
        let (pieces, taken) = mpsc::channel(1);
        if head.send(Ok(Response::from_parts(parts, taken))).is_err() {
            return;
        }
        counted.ending = pump(
            body,
            &pieces,
            times,
            outgoing.limits.response_bytes,
            &failed,
        )
        .await;
    }
}

/// Connects, sends the request and waits for the head of the response.
async fn answer(
    outgoing: &Outgoing,
    upstream: &Upstream,
    mut request: Request<WasiBody>,
    times: Times,
    place: &Arc<OwnedSemaphorePermit>,
) -> Result<Answered, Failure> {
    let connecting = dial::connect(upstream, &outgoing.trust, place);
    let connected = timeout(times.connect, connecting).await;
    let socket = connected.map_err(|_| Failure::ConnectTimeout(times.connect))??;
    let of_http = |error: hyper::Error| Failure::of_http(&error, BUFFER_BYTES);

    let handshake = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(socket))
        .await;
    let (mut sender, connection) = handshake.map_err(of_http)?;
    // Its errors come to whoever waits for the response, and reads its body.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));

    prepare(&mut request, upstream);
    let response = timeout(times.first_byte, sender.send_request(request)).await;
    let response = response
        .map_err(|_| Failure::FirstByte(times.first_byte))?
        .map_err(of_http)?;
    let limit = outgoing.limits.response_bytes;
    if limit > 0 && response.body().size_hint().lower() > limit {
        return Err(Failure::BodySize(limit));
    }
    Ok(Answered {
        response,
        _connection: connection,
    })
}

/// Gives a request the form that it has on a connection to its server: the target is the path alone, and the host is
/// the one that was granted.
fn prepare(request: &mut Request<WasiBody>, upstream: &Upstream) {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", PathAndQuery::as_str);
    let target = match target.starts_with('/') {
        true => target.to_owned(),
        false => format!("/{target}"),
    };
    *request.uri_mut() = target.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(upstream.authority()) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Passes the body on until it ends, fails, or nobody takes it any more. Returns how the request ended.
async fn pump(
    mut body: Incoming,
    pieces: &mpsc::Sender<Result<Piece, Error>>,
    times: Times,
    limit: u64,
    failed: impl Fn(&Failure) -> Error,
) -> Ending {
    let mut bytes = 0;
    loop {
        // First of all somebody has to want it: until then nothing is read, and no time runs.
        let Ok(place) = pieces.reserve().await else {
            return Ending::Cancelled;
        };
        let frame = match timeout(times.between_bytes, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                match limit > 0 && bytes > limit {
                    true => Err(Failure::BodySize(limit)),
                    false => Ok(frame),
                }
            }
            Ok(Some(Err(error))) => Err(Failure::of_http(&error, BUFFER_BYTES)),
            Ok(None) => {
                place.send(Ok(Piece::End));
                return Ending::Complete;
            }
            Err(_) => Err(Failure::BetweenBytes(times.between_bytes)),
        };
        match frame {
            Ok(frame) => place.send(Ok(Piece::Frame(frame))),
            Err(failure) => {
                place.send(Err(failed(&failure)));
                return Ending::Failed;
            }
        }
    }
}
