//! Health: whether the node lives, and whether it serves.

use http::{Response, StatusCode};

use super::{
    response::{Body, plain},
    service::Node,
};
use crate::guest::app::Phase;

/// Answers as long as the process does.
pub const LIVE: &str = "/healthz";
/// Answers 200 while the node takes requests: not before every app was told to start, not when none of them could,
/// and not during shutdown.
pub const READY: &str = "/readyz";

/// The answer for [`LIVE`].
pub fn live() -> Response<Body> {
    plain(StatusCode::OK, "ok")
}

/// The answer for [`READY`]. In development it names the apps that do not serve; why they do not is in the log.
pub fn ready(node: &Node) -> Response<Body> {
    let apps = node.routes.iter();
    let phases: Vec<_> = apps
        .map(|app| (app.shared.name.as_str(), app.phase()))
        .collect();
    let away = phases.iter().filter(|(_, phase)| *phase != Phase::Serving);
    let away: Vec<_> = away.map(|(name, _)| *name).collect();
    let settled = |phase: &Phase| matches!(phase, Phase::Serving | Phase::Failed(_));
    // One app that cannot start must not take the others out of a load balancer.
    let ready = phases.iter().all(|(_, phase)| settled(phase)) && away.len() < phases.len().max(1);
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    match away.as_slice() {
        [] => plain(status, "ok"),
        names if node.development => plain(status, &format!("not serving: {}", names.join(", "))),
        names => plain(
            status,
            &format!("not serving: {} of {}", names.len(), phases.len()),
        ),
    }
}
