//! Requests that guests send to others, by `wasi:http`.
//!
//! # Layout
//!
//! - here: what all calls of an app share, and the hooks by which `wasi:http` hands requests over.
//! - [`dial`]: the connection to a server, with TLS or without.
//! - [`exchange`]: one request, from the connection to the end of the response; it runs on the host's threads.
//! - [`body`]: the body of a response as the guest reads it.
//! - [`times`]: how long each step may take.
//! - [`failure`]: what goes wrong: a code for the guest, a sentence for the log.
//! - [`complaints`]: how often the log says so.
//! - [`counters`]: how requests ended.
//!
//! A request has a connection of its own, over HTTP/1.1, and whoever drops it closes that. Redirects are the guest's to
//! follow: what it follows them to has to be granted, too.

mod body;
mod complaints;
mod counters;
mod dial;
mod exchange;
mod failure;
mod times;

use std::{future::Future, sync::Arc};

use http::{HeaderName, Method, Request, Response, Uri, header};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks,
};

use self::{
    body::Received, complaints::Complaints, counters::Counters, exchange::Exchange,
    failure::Failure, times::Times,
};
use super::scope::Scope;
use crate::{
    config::{self, Upstream},
    trust::{BadAuthorities, Trust},
};

pub use self::counters::Ending;

/// What the headers of one request may take in memory, in bytes, names and bookkeeping included.
const HEADERS_BYTES: usize = 32 * 1024;
/// What one write of a guest to the body of a request may hold, in bytes. The host keeps two of these at most.
const CHUNK_BYTES: usize = 16 * 1024;

/// What all calls of an app share of the requests that they send.
pub struct Outgoing {
    granted: Vec<Upstream>,
    limits: config::Http,
    places: Arc<Semaphore>,
    trust: Trust,
    /// Where requests are sent from. Guests keep their own threads busy, and one that computes must not make the
    /// servers of others look dead.
    runtime: Handle,
    complaints: Mutex<Complaints>,
    counters: Counters,
}

impl Outgoing {
    /// For an app with these grants and limits, whose requests are sent from the runtime that this is called on.
    pub fn new(
        capabilities: &config::Capabilities,
        limits: &config::Http,
    ) -> Result<Self, BadAuthorities> {
        Ok(Self {
            granted: capabilities.http.clone(),
            places: Arc::new(Semaphore::new(limits.requests)),
            trust: Trust::new(limits.ca_file.as_deref())?,
            limits: limits.clone(),
            runtime: Handle::current(),
            complaints: Mutex::default(),
            counters: Counters::default(),
        })
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.limits.requests - self.places.available_permits()
    }

    /// All ways in which requests ended, and how many did.
    pub fn endings(&self) -> [(Ending, u64); Ending::ALL.len()] {
        self.counters.figures()
    }

    /// Sends a request. Whether it may be sent is decided at once, before any name is looked up. Dropping the future,
    /// and later the body of the response, ends it.
    fn send(
        self: &Arc<Self>,
        scope: &Scope,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> impl Future<Output = Result<Response<WasiBody>, Error>> + Send + use<> {
        let upstream = named(request.uri());
        let admitted =
            upstream.and_then(
                |upstream| match self.admit(scope, &upstream, request, options) {
                    Ok(exchange) => Ok(exchange),
                    Err(failure) => {
                        self.counters.count(failure.ending());
                        self.complain(scope, &upstream, &failure);
                        Err(failure.code())
                    }
                },
            );
        let begun = admitted.map(|exchange| {
            let (head, answered) = oneshot::channel();
            let task = self.runtime.spawn(exchange.run(head));
            (AbortOnDropHandle::new(task), answered)
        });
        async move {
            let (task, answered) = begun?;
            // The task ends without a word where the node does.
            let answer = answered.await.unwrap_or(Err(Error::ConnectionTerminated))?;
            Ok(answer.map(|pieces| Received::new(pieces, task).boxed()))
        }
    }

    fn admit(
        self: &Arc<Self>,
        scope: &Scope,
        upstream: &Upstream,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Exchange, Failure> {
        if !self.granted.contains(upstream) {
            return Err(Failure::NotGranted(upstream.clone()));
        }
        // It asks for a tunnel, through which anything could be reached.
        if request.method() == Method::CONNECT {
            return Err(Failure::Tunnel);
        }
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Failure::TooMany(self.limits.requests))?;
        Ok(Exchange {
            outgoing: self.clone(),
            scope: scope.clone(),
            upstream: upstream.clone(),
            times: Times::new(&self.limits, options),
            request,
            place,
        })
    }

    /// Logs why a request failed. Neither path, headers nor bodies stand in the log: they may be secret.
    fn complain(&self, scope: &Scope, upstream: &Upstream, failure: &Failure) {
        let Some(left_out) = self.complaints.lock().next() else {
            return;
        };
        scope.log(|| match left_out {
            0 => warn!("request of the guest to {upstream}: {failure}"),
            left_out => warn!(
                "request of the guest to {upstream}: {failure} ({left_out} more were not logged)"
            ),
        });
    }
}

/// The origin that a request is for.
fn named(uri: &Uri) -> Result<Upstream, Error> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(Error::HttpRequestUriInvalid);
    };
    format!("{scheme}://{authority}")
        .parse()
        .map_err(|_| Error::HttpRequestUriInvalid)
}

/// What an instance has of `wasi:http`.
pub struct Context {
    http: WasiHttpCtx,
    hooks: Hooks,
}

impl Context {
    /// For an instance of the app. What goes wrong is logged in this scope.
    pub fn new(outgoing: Arc<Outgoing>, scope: &Scope) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADERS_BYTES);
        Self {
            http,
            hooks: Hooks {
                outgoing,
                scope: scope.clone(),
            },
        }
    }

    /// Another call begins: what goes wrong from now on is logged in this scope.
    pub fn begin(&mut self, scope: &Scope) {
        self.hooks.scope = scope.clone();
    }

    /// What `wasi:http` works on, with the instance's table of handles.
    pub fn view<'a>(
        &'a mut self,
        table: &'a mut wasmtime::component::ResourceTable,
    ) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table,
            ctx: &mut self.http,
        }
    }
}

struct Hooks {
    outgoing: Arc<Outgoing>,
    scope: Scope,
}

/// Whether a guest may neither set nor see a header: it belongs to one connection, or says where a request goes.
fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || *name == header::TE
}

type Sent = Box<
    dyn Future<
            Output = Result<
                (
                    Response<WasiBody>,
                    Box<dyn Future<Output = Result<(), Error>> + Send>,
                ),
                Error,
            >,
        > + Send,
>;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sent {
        let sent = self.outgoing.send(&self.scope, request, options);
        Box::new(async move {
            // The exchange drives its connection itself, elsewhere: nothing is left to be driven by the guest.
            let driven: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(std::future::ready(Ok(())));
            Ok((sent.await?, driven))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests;
