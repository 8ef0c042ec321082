//! The configuration: `fanfare.toml`, one file of this folder per section.
//!
//! A file goes through three steps. It is parsed to a tree that knows where each value stands
//! (`source.rs`, where `${NAME}` is replaced too), the tree is turned into the types below (`decode.rs`), and
//! these are checked against each other ([`Config::validate`]). Each step's errors name file, line, column and
//! key, and never hold a value that came from the environment.

mod address;
mod admin;
mod app;
mod broker;
mod capabilities;
mod checks;
mod decode;
mod error;
mod expand;
mod history;
mod host;
mod http;
mod instances;
mod limits;
mod listen;
mod log;
mod name;
mod node;
mod origin;
mod path;
mod redis;
mod reference;
mod route;
mod schema;
mod secret;
mod socket_address;
mod source;
mod streams;
mod suggest;
#[cfg(test)]
mod tests;
pub mod units;
mod upstream;
mod variable;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::address::{Address, AddressError, REDIS_PORT};
pub use self::admin::{ADMIN_TOKEN, Admin, AdminError, is_token};
pub use self::app::App;
pub use self::broker::{Broker, Durable, Mechanism, redis_url};
pub use self::capabilities::Capabilities;
pub use self::error::{ConfigError, KeyPath, Mistake, Problem};
pub use self::history::History;
pub use self::http::Http;
pub use self::instances::Instances;
pub use self::limits::Limits;
pub use self::listen::{Listen, Tls};
pub use self::log::{Log, LogFormat};
pub use self::node::Node;
pub use self::origin::{Origin, OriginError};
pub use self::redis::Redis;
pub use self::reference::reference;
pub use self::schema::schema;
pub use self::secret::Secret;
pub use self::streams::{SHORTEST_INTERVAL, Streams};
pub use self::upstream::{Upstream, UpstreamError};
pub use self::variable::Variable;

use self::checks::Checks;
use self::source::{Source, position};

/// The configuration of a Fanfare node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "fanfare.toml")]
pub struct Config {
    /// The node: this process as a whole.
    pub node: Node,
    /// Where clients connect.
    pub listen: Listen,
    /// Where those who run the node connect.
    #[schemars(with = "Admin")]
    pub admin: Option<Admin>,
    /// The node's log.
    pub log: Log,
    /// Every connection to a Redis server.
    pub redis: Redis,
    /// What carries events between nodes, by label.
    pub brokers: BTreeMap<String, Broker>,
    /// The guests, by name.
    pub apps: BTreeMap<String, App>,
}

impl Config {
    /// Reads a file, with the environment of this process. Relative paths in the file start at its folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(path).map_err(|error| ConfigError::Read {
            file: path.to_owned(),
            error,
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let (line, column) = position(&bytes, error.valid_up_to());
            let mistake = Mistake {
                file: path.to_owned(),
                line,
                column,
                path: KeyPath::default(),
                message: "not UTF-8 from here on; save the file as UTF-8".to_owned(),
            };
            ConfigError::Invalid {
                mistakes: vec![mistake],
            }
        })?;
        Self::parse(text, path, &|name| std::env::var(name).ok())
    }

    /// Reads the text of a file, in which `env` replaces `${NAME}`.
    pub fn parse(
        text: &str,
        file: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::parse(text, file)?;
        source.expand(env)?;
        let mut config: Self = decode::decode(&source)?;
        if let Some(admin) = &mut config.admin {
            admin.take_token(env);
        }
        config
            .validate()
            .map_err(|problems| source.locate(problems))?;
        if let Some(folder) = file.parent() {
            config.resolve(folder);
        }
        Ok(config)
    }

    /// What `fanfare serve guest.wasm` means: one app, named after the file, at the route `/` of a node in
    /// development.
    pub fn for_guest(component: PathBuf) -> Self {
        let stem = component.file_stem().unwrap_or_default().to_string_lossy();
        let name = name::sanitise(&stem);
        Self {
            node: Node {
                development: true,
                ..Node::default()
            },
            apps: BTreeMap::from([(name, App::new(component))]),
            ..Self::default()
        }
    }

    /// Checks what the types alone do not: bounds, names, routes, and what one section says of another.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let root = KeyPath::default();
        let mut checks = Checks::default();
        self.node.check(&root.key("node"), &mut checks);
        self.listen.check(&root.key("listen"), &mut checks);
        if let Some(admin) = &self.admin {
            admin.check(&root.key("admin"), &mut checks);
        }
        self.log.check(&root.key("log"), &mut checks);
        self.redis.check(&root.key("redis"), &mut checks);
        for (label, broker) in &self.brokers {
            let at = root.key("brokers").key(label);
            if matches!(broker, Broker::Memory { durable: Some(_) }) && self.node.data.is_none() {
                checks.refuse(
                    at.key("durable"),
                    "keeps events in a file, and there is no folder for it; set `node.data`",
                );
            }
            if let Err(error) = name::check(label) {
                checks.refuse(at.clone(), error);
            }
            broker.check(&at, &mut checks);
        }
        let mut routes: BTreeMap<&str, (&str, KeyPath)> = BTreeMap::new();
        for (name, app) in &self.apps {
            let at = root.key("apps").key(name);
            if let Err(error) = name::check(name) {
                checks.refuse(at.clone(), error);
            }
            app.check(&self.brokers, &at, &mut checks);
            let route = at.key("route");
            if let Some((taker, other)) = routes.get(app.route.as_str()) {
                let message =
                    format!("the app `{taker}` has this route; give each app a route of its own");
                checks.refuse_pair(route, other.clone(), message);
            } else {
                routes.insert(&app.route, (name, route));
            }
        }
        if checks.problems.is_empty() {
            Ok(())
        } else {
            Err(checks.problems)
        }
    }

    fn resolve(&mut self, folder: &Path) {
        let tls = self.listen.tls.iter_mut();
        let tls = tls.flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        let apps = self.apps.values_mut().flat_map(|app| {
            let ca_file = app.http.ca_file.iter_mut();
            std::iter::once(&mut app.component).chain(ca_file)
        });
        let others = self.redis.ca_file.iter_mut().chain(&mut self.node.data);
        for file in tls.chain(others).chain(apps) {
            path::resolve(file, folder);
        }
    }
}
