//! `[apps.<name>]`: a guest, where it is mounted and what it may do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::broker::Broker;
use super::capabilities::Capabilities;
use super::checks::Checks;
use super::error::KeyPath;
use super::history::History;
use super::http::Http;
use super::instances::Instances;
use super::limits::Limits;
use super::schema::{PathText, RouteText};
use super::streams::Streams;
use super::variable::Variable;
use super::{path, route};

/// A guest, deployed under a name of `a` to `z`, `0` to `9` and `-`, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct App {
    /// The file with the guest's component.
    #[serde(deserialize_with = "path::deserialize")]
    #[schemars(with = "PathText")]
    pub component: PathBuf,
    /// The path under which the app answers, with everything below it. Of two routes that fit a request, the
    /// longer one wins.
    #[serde(default = "root")]
    #[schemars(with = "RouteText")]
    pub route: String,
    /// What the app may reach.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What the guest reads through `wasi:config/store`: `name = "text"`, or
    /// `name = { value = "text", secret = true }` for what is to stay out of logs.
    #[serde(default)]
    pub variables: BTreeMap<String, Variable>,
    /// The app's event streams, where its guest does not say otherwise.
    #[serde(default)]
    pub streams: Streams,
    /// What is kept for clients that come back.
    #[serde(default)]
    pub history: History,
    /// What the app may take.
    #[serde(default)]
    pub limits: Limits,
    /// How many instances its guest has, and for how long.
    #[serde(default)]
    pub instances: Instances,
    /// Requests that the guest sends.
    #[serde(default)]
    pub http: Http,
}

fn root() -> String {
    "/".to_owned()
}

impl App {
    /// An app at the route `/` that was granted nothing, with the default limits.
    pub fn new(component: PathBuf) -> Self {
        Self {
            component,
            route: root(),
            capabilities: Capabilities::default(),
            variables: BTreeMap::new(),
            streams: Streams::default(),
            history: History::default(),
            limits: Limits::default(),
            instances: Instances::default(),
            http: Http::default(),
        }
    }

    pub(super) fn check(
        &self,
        brokers: &BTreeMap<String, Broker>,
        at: &KeyPath,
        checks: &mut Checks,
    ) {
        if let Err(error) = route::check(&self.route) {
            checks.refuse(at.key("route"), error);
        }
        if self.variables.contains_key("") {
            checks.refuse_secret(at.key("variables").key(""), "a variable needs a name");
        }
        self.capabilities
            .check(brokers, &at.key("capabilities"), checks);
        self.streams.check(&at.key("streams"), checks);
        self.history.check(&at.key("history"), checks);
        self.limits.check(&at.key("limits"), checks);
        self.instances.check(&at.key("instances"), checks);
        self.http.check(&at.key("http"), checks);
    }
}
