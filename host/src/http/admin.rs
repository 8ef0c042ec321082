//! The admin listener: metrics and health, for those who run the node.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    time::SystemTime,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::{
    exposition, health,
    listener::Listener,
    metrics::{self, AppFigures, NodeFigures},
    response::{Body, plain},
    service::{Node, Peer, Service},
};
use crate::{config, hub::delivery::Engine};

/// The page of metrics.
pub const METRICS: &str = "/metrics";

/// Sockets at a time. Who watches a node needs one or two.
const SOCKETS: usize = 64;
/// The head of a request.
const HEAD_BYTES: u64 = 16 << 10;

/// What the admin listener tells about.
#[derive(Clone)]
pub struct Admin {
    /// The apps, and what the public listener says of their health.
    pub node: Node,
    /// What delivers the apps' events.
    pub delivery: Engine,
    /// When the process was started.
    pub started: SystemTime,
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

impl Service for Admin {
    async fn respond(&self, request: Request<Incoming>, _: Peer) -> Response<Body> {
        if !is_for_this_machine(request.uri(), request.headers()) {
            return plain(
                StatusCode::MISDIRECTED_REQUEST,
                "The admin listener is asked for by an IP address or as localhost, and by no other name: a page could \
                 make a browser ask by the page's own.",
            );
        }
        let path = request.uri().path();
        if !matches!(path, METRICS | health::LIVE | health::READY) {
            return plain(StatusCode::NOT_FOUND, "Not found.");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "There is only GET here.");
            let allow = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allow);
            return response;
        }
        match path {
            health::LIVE => health::live(),
            health::READY => health::ready(&self.node),
            _ => self.metrics(),
        }
    }
}

impl Admin {
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

/// Whether a request names the node by nothing that anybody else could have chosen. A page may give its own name this
/// machine's address (DNS rebinding), and read what a browser is told under that name; it cannot do so with an address
/// or `localhost`.
fn is_for_this_machine(target: &Uri, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(header::HOST).iter();
    let mut hosts = hosts.map(|host| host.to_str().unwrap_or("?"));
    let target = target.authority().map(|authority| authority.as_str());
    hosts.all(is_own_name) && target.is_none_or(is_own_name)
}

/// Whether this is an IP address, `localhost` or nothing, with or without a port.
fn is_own_name(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        // What stands behind the last colon of an IPv6 address alone is no port.
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let address = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    };
    let named = host.is_empty() || host.eq_ignore_ascii_case("localhost");
    (address || named) && port.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_choose_are_own() {
        for own in [
            "",
            "localhost",
            "LocalHost:9090",
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:9090",
            "[2001:db8::1]:80",
        ] {
            assert!(is_own_name(own), "{own}");
        }
        for foreign in [
            "example.org",
            "example.org:9090",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "127.0.0.1@example.org",
            "user@127.0.0.1",
            "127.0.0.1:80:80",
            "127.1",
            "::1",
            "[::1",
            "[example.org]",
            "[127.0.0.1]:80",
            "localhost:x",
            "?",
        ] {
            assert!(!is_own_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn every_name_that_a_request_has_counts() {
        let asks = |target: &str, hosts: &[&'static str]| {
            let headers = hosts
                .iter()
                .map(|host| (header::HOST, HeaderValue::from_static(host)));
            is_for_this_machine(&target.parse().unwrap(), &headers.collect())
        };
        assert!(asks("/metrics", &[]));
        assert!(asks("/metrics", &["127.0.0.1:9090"]));
        assert!(asks("http://localhost/metrics", &["localhost"]));
        assert!(!asks("http://example.org/metrics", &["localhost"]));
        assert!(!asks("http://localhost/metrics", &["example.org"]));
        assert!(!asks("/metrics", &["localhost", "example.org"]));
        let odd = HeaderValue::from_bytes(b"\xff").unwrap();
        let odd = HeaderMap::from_iter([(header::HOST, odd)]);
        assert!(!is_for_this_machine(&"/metrics".parse().unwrap(), &odd));
    }
}
