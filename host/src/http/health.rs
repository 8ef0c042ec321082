//! Health: whether the node lives, and whether it serves.

use http::{Response, StatusCode};

use super::{
    response::{Body, plain},
    service::Node,
};

/// Answers as long as the process does.
pub const LIVE: &str = "/healthz";
/// Answers 200 while every app serves.
pub const READY: &str = "/readyz";

/// The answer for [`LIVE`].
pub fn live() -> Response<Body> {
    plain(StatusCode::OK, "ok")
}

/// The answer for [`READY`]: the apps that do not serve, if there are any. Why they do not is in the log.
pub fn ready(node: &Node) -> Response<Body> {
    let waiting = node.routes.iter().filter(|app| app.waiting().is_some());
    let waiting: Vec<_> = waiting.map(|app| app.shared.name.as_str()).collect();
    match waiting.as_slice() {
        [] => plain(StatusCode::OK, "ok"),
        names => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("not serving: {}", names.join(", ")),
        ),
    }
}
