//! `fanfare serve`: from a configuration to a node, and to its end.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::run;
use crate::config::{self, Address, Admin, Config, LogFormat, Upstream, Variable, listen_address};

/// What to serve.
#[derive(Debug, Args)]
pub struct Serve {
    /// A guest to serve at / with development defaults; without one, fanfare.toml says what to serve
    #[arg(value_name = "GUEST.wasm")]
    guest: Option<PathBuf>,
    /// The configuration
    #[arg(
        long,
        value_name = "FILE",
        default_value = "fanfare.toml",
        conflicts_with = "guest"
    )]
    config: PathBuf,
    /// A variable of the guest
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable, requires = "guest")]
    variables: Vec<(String, String)>,
    /// A Redis server that the guest may connect to
    #[arg(long, value_name = "HOST:PORT", requires = "guest")]
    allow_redis: Vec<Address>,
    /// A server that the guest may send requests to, such as https://api.example.org
    #[arg(long, value_name = "ORIGIN", requires = "guest")]
    allow_http: Vec<Upstream>,
    #[command(flatten)]
    node: NodeOptions,
}

/// What else can be said of a node on the command line.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// Listen here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    listen: Option<SocketAddr>,
    /// Serve metrics, health and deploys here; an address of loopback, unless there is a token in the configuration or
    /// in the variable FANFARE_ADMIN_TOKEN
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    admin: Option<SocketAddr>,
    /// Keep what is deployed in this folder, so that it is served after a restart
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// How the log looks, instead of how the configuration says
    #[arg(long, value_enum)]
    log: Option<Log>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Log {
    Text,
    Json,
}

/// Reads `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is given as NAME=VALUE".to_owned()),
    }
}

impl Serve {
    /// Serves until a signal ends it.
    pub fn run(self) -> Result<()> {
        let config = self.configuration()?;
        run::to_the_end(&config.log.clone(), run::node(config, |_| async {}))
    }

    fn configuration(self) -> Result<Config> {
        let mut config = match self.guest {
            Some(guest) => Config::for_guest(guest),
            None if !self.config.exists() => bail!(
                "there is no {}; `fanfare serve GUEST.wasm` serves one guest without a configuration",
                self.config.display()
            ),
            None => Config::load(&self.config, self.node.data.as_deref())?,
        };
        grant(
            &mut config,
            self.variables,
            self.allow_redis,
            self.allow_http,
        );
        self.node.apply(&mut config)?;
        // Those of a configuration were told with their place in it.
        if let Some((app, error)) = config.without_component().first() {
            let component = config.apps[*app].component.display();
            bail!("{component}: cannot be read: {error}");
        }
        Ok(config)
    }
}

impl NodeOptions {
    /// Puts what was said in the place of what the configuration says.
    pub fn apply(self, config: &mut Config) -> Result<()> {
        if let Some(address) = self.listen {
            config.listen.address = address;
        }
        if let Some(address) = self.admin {
            let admin = config.admin.get_or_insert_with(|| Admin::new(address));
            admin.address = address;
            admin.take_token(&|name| std::env::var(name).ok());
            admin
                .allowed()
                .with_context(|| format!("--admin {address}"))?;
        }
        if let Some(data) = self.data {
            if let Some(problem) = config::unusable_data(&data) {
                bail!("--data {}: {problem}", data.display());
            }
            config.node.data = Some(data);
        }
        if let Some(log) = self.log {
            config.log.format = match log {
                Log::Text => LogFormat::Text,
                Log::Json => LogFormat::Json,
            };
        }
        Ok(())
    }
}

/// Gives the app of a command line what was said to be its own.
pub fn grant(
    config: &mut Config,
    variables: Vec<(String, String)>,
    redis: Vec<Address>,
    http: Vec<Upstream>,
) {
    for app in config.apps.values_mut() {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| (name.clone(), Variable::plain(value)));
        app.variables.extend(variables);
        app.capabilities.redis.extend(redis.iter().cloned());
        app.capabilities.http.extend(http.iter().cloned());
    }
}
