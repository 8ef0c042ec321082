//! The admin listener: metrics, health, and new code for apps, for those who run the node.
//!
//! # Layout
//!
//! - [`Admin`]: which requests there are.
//! - [`access`]: who may make them.
//! - [`apps`]: what they say of apps, and how they change them.

mod access;
mod apps;

use std::{io, time::SystemTime};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use self::access::Access;
use super::{
    body::Bodies,
    exposition, health,
    listener::Listener,
    metrics::{self, AppFigures, NodeFigures},
    response::{Body, plain},
    service::{Node, Peer, Service},
};
use crate::{
    config,
    guest::deploys::{self, Deploys},
    hub::delivery::Engine,
};

/// The page of metrics.
pub const METRICS: &str = "/metrics";
/// The apps.
pub const APPS: &str = "/apps";
/// Every answer has this header, and no guest's has it: who has the token can see whether it belongs here.
pub const MARK: HeaderName = HeaderName::from_static("fanfare-admin");

/// Sockets at a time. Who watches a node needs one or two.
const SOCKETS: usize = 64;
/// The head of a request.
const HEAD_BYTES: u64 = 16 << 10;

/// What the admin listener tells about, and what it changes.
#[derive(Clone)]
pub struct Admin {
    /// The apps, and what the public listener says of their health.
    node: Node,
    /// What delivers the apps' events.
    delivery: Engine,
    /// When the process was started.
    started: SystemTime,
    deploys: Deploys,
    access: Access,
    /// Room for components on their way.
    uploads: Bodies,
    /// The largest.
    upload_bytes: u64,
}

/// Binds the configured address.
pub async fn bind(admin: &config::Admin) -> io::Result<Listener> {
    let listen = config::Listen {
        address: admin.address,
        max_connections: SOCKETS,
        head_bytes: HEAD_BYTES,
        ..config::Listen::default()
    };
    Listener::bind(&listen, None).await
}

/// What a path stands for.
enum Resource<'a> {
    Live,
    Ready,
    Metrics,
    Apps,
    Versions(&'a str),
    Component(&'a str),
    Rollback(&'a str),
}

impl<'a> Resource<'a> {
    fn find(path: &'a str) -> Option<Self> {
        match path {
            health::LIVE => return Some(Self::Live),
            health::READY => return Some(Self::Ready),
            METRICS => return Some(Self::Metrics),
            APPS => return Some(Self::Apps),
            _ => {}
        }
        let below = path.strip_prefix(APPS)?.strip_prefix('/')?;
        match below.split_once('/')? {
            ("", _) => None,
            (app, "versions") => Some(Self::Versions(app)),
            (app, "component") => Some(Self::Component(app)),
            (app, "rollback") => Some(Self::Rollback(app)),
            _ => None,
        }
    }

    fn is_health(&self) -> bool {
        matches!(self, Self::Live | Self::Ready)
    }

    /// The methods it takes, as the header `allow` has them.
    fn methods(&self) -> &'static str {
        match self {
            Self::Component(_) => "PUT",
            Self::Rollback(_) => "POST",
            _ => "GET, HEAD",
        }
    }

    fn takes(&self, method: &Method) -> bool {
        let mut methods = self.methods().split(", ");
        methods.any(|taken| taken == method.as_str())
    }
}

impl Service for Admin {
    async fn respond(&self, request: Request<Incoming>, _: Peer) -> Response<Body> {
        let mut response = self.answer(request).await;
        let mark = HeaderValue::from_static("1");
        response.headers_mut().insert(MARK, mark);
        response
    }
}

impl Admin {
    /// The admin listener of a node.
    pub fn new(
        config: &config::Admin,
        node: Node,
        delivery: Engine,
        started: SystemTime,
        deploys: Deploys,
    ) -> Self {
        let room = config
            .upload_bytes
            .saturating_mul(deploys::AT_A_TIME as u64);
        Self {
            access: Access::new(config.token.as_ref(), node.development),
            uploads: Bodies::new(room, config.upload_timeout),
            upload_bytes: config.upload_bytes,
            node,
            delivery,
            started,
            deploys,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let resource = Resource::find(head.uri.path());
        let is_health = resource.as_ref().is_some_and(Resource::is_health);
        if let Err(refusal) = self.access.check(is_health, &head.uri, &head.headers) {
            return apps::refuse(*refusal, body);
        }
        let Some(resource) = resource else {
            return apps::refuse(plain(StatusCode::NOT_FOUND, "Not found."), body);
        };
        if !resource.takes(&head.method) {
            let methods = resource.methods();
            let text = format!("There is only {methods} here.");
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, &text);
            let allow = HeaderValue::from_static(methods);
            response.headers_mut().insert(header::ALLOW, allow);
            return apps::refuse(response, body);
        }
        match resource {
            Resource::Live => health::live(),
            Resource::Ready => health::ready(&self.node),
            Resource::Metrics => self.metrics(),
            Resource::Apps => self.apps(),
            Resource::Versions(app) => self.versions(app),
            Resource::Component(app) => self.deploy(app, &head.headers, body).await,
            Resource::Rollback(app) => self.roll_back(app, &head.headers, body).await,
        }
    }

    fn metrics(&self) -> Response<Body> {
        let node = NodeFigures::of(self.started, &self.delivery);
        let apps = self.node.routes.iter();
        let mut apps: Vec<_> = apps.map(|app| AppFigures::of(app)).collect();
        apps.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut response = plain(StatusCode::OK, metrics::page(&node, &apps).trim_end());
        let content_type = HeaderValue::from_static(exposition::CONTENT_TYPE);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        response
    }
}
