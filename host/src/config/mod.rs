//! The configuration: `fanfare.toml`, one file of this folder per section.
//!
//! A file goes through three steps. It is parsed to a tree that knows where each value stands
//! (`source.rs`, where `${NAME}` is replaced too), the tree is turned into the types below (`decode.rs`), and
//! these are checked against each other ([`Config::validate`]) and, in [`Config::load`], against the files that they
//! name (`files.rs`). Each step's errors name file, line, column and key, and never hold a value that came from the
//! environment.

mod address;
mod admin;
mod app;
mod broker;
mod capabilities;
mod checks;
mod decode;
mod error;
mod expand;
mod files;
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
pub use self::files::unusable_data;
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
pub use self::socket_address::{SocketAddressError, listen_address};
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
    /// Reads a file, with the environment of this process, and looks whether the files that it names are there.
    /// Relative paths in the file start at its folder. `data`, if there is one, is in the place of `node.data`.
    pub fn load(path: &Path, data: Option<&Path>) -> Result<Self, ConfigError> {
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
        let (source, mut config) = Self::read(text, path, &|name| std::env::var(name).ok())?;
        let mut checks = Checks::default();
        match data {
            Some(data) => config.node.data = Some(data.to_owned()),
            None => config.check_data(&mut checks),
        }
        config.check_files(&mut checks);
        config.check(&mut checks);
        checks.end().map_err(|problems| source.locate(problems))?;
        Ok(config)
    }

    /// Reads the text of a file, in which `env` replaces `${NAME}`. Files that it names need not be there.
    pub fn parse(
        text: &str,
        file: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let (source, config) = Self::read(text, file, env)?;
        config
            .validate()
            .map_err(|problems| source.locate(problems))?;
        Ok(config)
    }

    /// What a text says, before it is checked.
    fn read<'t>(
        text: &'t str,
        file: &'t Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Source<'t>, Self), ConfigError> {
        let mut source = Source::parse(text, file)?;
        source.expand(env)?;
        let mut config: Self = decode::decode(&mut source)?;
        if let Some(admin) = &mut config.admin {
            admin.take_token(env);
        }
        if let Some(folder) = file.parent() {
            config.resolve(folder);
        }
        Ok((source, config))
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
        let mut checks = Checks::default();
        self.check(&mut checks);
        checks.end()
    }

    fn check(&self, checks: &mut Checks) {
        let root = KeyPath::default();
        self.node.check(&root.key("node"), checks);
        self.listen.check(&root.key("listen"), checks);
        if let Some(admin) = &self.admin {
            admin.check(&root.key("admin"), checks);
        }
        self.log.check(&root.key("log"), checks);
        self.redis.check(&root.key("redis"), checks);
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
            broker.check(&at, checks);
        }
        let mut routes: BTreeMap<&str, (&str, KeyPath)> = BTreeMap::new();
        for (name, app) in &self.apps {
            let at = root.key("apps").key(name);
            if let Err(error) = name::check(name) {
                checks.refuse(at.clone(), error);
            }
            app.check(&self.brokers, &at, checks);
            let route = at.key("route");
            if let Some((taker, other)) = routes.get(app.route.as_str()) {
                let message =
                    format!("the app `{taker}` has this route; give each app a route of its own");
                checks.refuse_pair(route, other.clone(), message);
            } else {
                routes.insert(&app.route, (name, route));
            }
        }
    }
}
