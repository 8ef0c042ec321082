//! What the admin listener says of apps, and how it gives them new code.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Admin;
use crate::{
    guest::{
        app::{App, DeployError, Phase},
        deploys::{DeployFailure, NoTurn, Outcome},
        version::VersionId,
        versions::{
            record::{Source, Version},
            timestamp::Timestamp,
        },
    },
    http::{
        body::Refused,
        response::{Body, json, plain},
    },
};

/// What a component is sent as. A page cannot send it without being asked first (Fetch, section 2.2.2), and then it is
/// refused.
const WASM: &str = "application/wasm";
const JSON: &str = "application/json";
/// The body of a rollback.
const ROLLBACK_BYTES: u64 = 1 << 10;
/// What is sent with a request that is refused is read for so long.
const LINGER: Duration = Duration::from_secs(5);

/// The answer of `GET /apps`.
#[derive(Serialize)]
struct Apps {
    apps: Vec<AppState>,
}

#[derive(Serialize)]
struct AppState {
    name: String,
    route: String,
    /// `starting`, `failed`, `serving` or `draining`.
    phase: &'static str,
    /// Why its start has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    version: VersionId,
    /// Since when this node has it.
    since: String,
    /// Whether new code is on its way.
    deploying: bool,
    /// Calls in flight, hooks included, of whichever code.
    calls: usize,
    connections: usize,
}

/// The answer of `GET /apps/NAME/versions`.
#[derive(Serialize)]
struct AppVersions {
    app: String,
    /// The one that serves.
    current: VersionId,
    /// Whether they outlive the node.
    kept: bool,
    /// In the order in which they served, the last first.
    versions: Vec<VersionState>,
}

#[derive(Serialize)]
struct VersionState {
    version: VersionId,
    size: u64,
    since: String,
    source: Source,
}

/// The answer to a deploy.
#[derive(Serialize)]
struct Deployed {
    app: String,
    version: VersionId,
    previous: VersionId,
    /// Whether it is served after a restart.
    kept: bool,
    /// What is to be known about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

/// The body of a rollback.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    to: Option<String>,
}

impl Admin {
    /// `GET /apps`.
    pub(super) fn apps(&self) -> Response<Body> {
        let apps = self.deploys.apps().map(|app| self.state(app)).collect();
        json(StatusCode::OK, &Apps { apps })
    }

    fn state(&self, app: &App) -> AppState {
        let (phase, reason) = match app.phase() {
            Phase::Starting => ("starting", None),
            Phase::Failed(reason) => ("failed", Some(reason)),
            Phase::Serving => ("serving", None),
            Phase::Draining => ("draining", None),
        };
        let code = app.code();
        AppState {
            name: app.shared.name.clone(),
            route: match app.shared.route.as_str() {
                "" => "/".to_owned(),
                route => route.to_owned(),
            },
            phase,
            reason,
            version: code.version,
            since: Timestamp::from(code.since).to_string(),
            deploying: self.deploys.is_under_way(&app.shared.name),
            calls: app.calls(),
            connections: app.shared.hub.figures().connections,
        }
    }

    /// `GET /apps/NAME/versions`.
    pub(super) fn versions(&self, app: &str) -> Response<Body> {
        let Some(record) = self.deploys.record(app) else {
            return no_app(&self.deploys.unknown(app));
        };
        let state = |version: &Version| VersionState {
            version: version.version,
            size: version.size,
            since: version.since.to_string(),
            source: version.source,
        };
        let versions = AppVersions {
            app: app.to_owned(),
            current: record.current(),
            kept: self.deploys.is_durable(),
            versions: record.versions().iter().rev().map(state).collect(),
        };
        json(StatusCode::OK, &versions)
    }

    /// `PUT /apps/NAME/component`.
    pub(super) async fn deploy(
        &self,
        app: &str,
        headers: &HeaderMap,
        mut body: Incoming,
    ) -> Response<Body> {
        if let Err(refusal) = self.access.check_change(headers) {
            return refuse(*refusal, body);
        }
        if !is_sent_as(headers, WASM) {
            return refuse(wrong_type(WASM), body);
        }
        let turn = match self.deploys.turn(app) {
            Ok(turn) => turn,
            Err(reason) => return refuse(no_turn(&reason), body),
        };
        let limit = self.upload_bytes;
        let read = self.uploads.read(&mut body, limit, "`admin.upload-bytes`");
        let (component, room) = match read.await {
            Ok(read) => read,
            Err(Refused(status, text)) => return refuse(plain(status, &text), body),
        };
        let outcome = turn.deploy(component).await;
        drop(room);
        answer(app, outcome)
    }

    /// `POST /apps/NAME/rollback`.
    pub(super) async fn roll_back(
        &self,
        app: &str,
        headers: &HeaderMap,
        mut body: Incoming,
    ) -> Response<Body> {
        if let Err(refusal) = self.access.check_change(headers) {
            return refuse(*refusal, body);
        }
        // With any other type, or none, a page could send it unasked.
        if !is_sent_as(headers, JSON) {
            return refuse(wrong_type(JSON), body);
        }
        let turn = match self.deploys.turn(app) {
            Ok(turn) => turn,
            Err(reason) => return refuse(no_turn(&reason), body),
        };
        let read = self.uploads.read(&mut body, ROLLBACK_BYTES, "the limit");
        let body = match read.await {
            Ok((body, _)) => body,
            Err(Refused(status, text)) => return refuse(plain(status, &text), body),
        };
        match rollback(&body) {
            Ok(Rollback { to }) => answer(app, turn.roll_back(to).await),
            Err(error) => plain(
                StatusCode::BAD_REQUEST,
                &format!("The body is not {{\"to\": \"version\"}}: {error}"),
            ),
        }
    }
}

/// Answers at once, and goes on reading what is sent. A socket that is closed with something unread in it is reset, and
/// who still sends would lose the answer.
pub(super) fn refuse(refusal: Response<Body>, mut body: Incoming) -> Response<Body> {
    if !body.is_end_stream() {
        let read = async move { while let Some(Ok(_)) = body.frame().await {} };
        tokio::spawn(timeout(LINGER, read));
    }
    refusal
}

fn rollback(body: &[u8]) -> serde_json::Result<Rollback> {
    match body {
        b"" => Ok(Rollback::default()),
        body => serde_json::from_slice(body),
    }
}

fn answer(app: &str, outcome: Result<Outcome, DeployFailure>) -> Response<Body> {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => return plain(status(&failure), &failure.to_string()),
    };
    let until_the_end =
        "it lasts until the node ends: the node has no data folder (`node.data`, or `--data`)";
    let deployed = Deployed {
        app: app.to_owned(),
        version: outcome.version,
        previous: outcome.previous,
        kept: outcome.kept,
        warning: (!outcome.kept).then_some(until_the_end),
    };
    json(StatusCode::OK, &deployed)
}

fn status(failure: &DeployFailure) -> StatusCode {
    match failure {
        DeployFailure::Refused(DeployError::Draining) => StatusCode::SERVICE_UNAVAILABLE,
        DeployFailure::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        DeployFailure::Prefix(_) => StatusCode::BAD_REQUEST,
        DeployFailure::First(_) => StatusCode::CONFLICT,
        DeployFailure::Lost { .. } => StatusCode::GONE,
        DeployFailure::Unkept(_) => StatusCode::INSUFFICIENT_STORAGE,
        DeployFailure::Host(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn no_turn(reason: &NoTurn) -> Response<Body> {
    match reason {
        NoTurn::Unknown(..) => no_app(reason),
        NoTurn::Taken(_) | NoTurn::Full => plain(StatusCode::CONFLICT, &reason.to_string()),
    }
}

fn no_app(reason: &NoTurn) -> Response<Body> {
    plain(StatusCode::NOT_FOUND, &reason.to_string())
}

fn wrong_type(expected: &str) -> Response<Body> {
    plain(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        &format!("This is to be sent with `Content-Type: {expected}`."),
    )
}

/// Whether the body is of this media type, whatever its parameters.
fn is_sent_as(headers: &HeaderMap, expected: &str) -> bool {
    let types = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str);
    let Some(Ok(found)) = types else {
        return false;
    };
    let found = found.split_once(';').map_or(found, |(found, _)| found);
    found.trim().eq_ignore_ascii_case(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_of_its_type_alone() {
        let sent = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            is_sent_as(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]), JSON)
        };
        assert!(sent("application/json") && sent("Application/JSON ; charset=utf-8"));
        for wrong in [
            "",
            "text/plain",
            "application/jsonp",
            "text/plain; application/json",
        ] {
            assert!(!sent(wrong), "{wrong}");
        }
        assert!(!is_sent_as(&HeaderMap::new(), JSON));
    }

    #[test]
    fn a_rollback_may_say_where_to() {
        assert_eq!(rollback(b"").unwrap().to, None);
        assert_eq!(rollback(b"{}").unwrap().to, None);
        assert_eq!(
            rollback(br#"{"to":"ab"}"#).unwrap().to.as_deref(),
            Some("ab")
        );
        for wrong in ["[]", "{\"version\":\"ab\"}", "{\"to\":1}", "ab"] {
            assert!(rollback(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
