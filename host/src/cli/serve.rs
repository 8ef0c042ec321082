//! `fanfare serve`: from a configuration to a node, and to its end.

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use futures_util::future::join_all;
use tokio::{
    runtime::{self, Handle, Runtime},
    signal::unix,
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    config::{Address, Admin, Config, LogFormat, Upstream, Variable},
    guest::{
        app::{App, HOOKS_AT_A_TIME, Phase},
        engine::{Guests, Instances},
        outgoing::Outgoing,
        shared::Shared,
    },
    http::{admin, body::Bodies, listener::Listener, routes::Routes, service::Node, tls},
    hub::delivery::{self, Engine as DeliveryEngine},
    redis_pool::{self, RedisPool},
    telemetry,
};

/// What sockets have to carry what was said last, where the time of the drain is up.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
    /// Listen here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Serve metrics and health here, on an address of loopback
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// A variable of the guest
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable, requires = "guest")]
    variables: Vec<(String, String)>,
    /// A Redis server that the guest may connect to
    #[arg(long, value_name = "HOST:PORT", requires = "guest")]
    allow_redis: Vec<Address>,
    /// A server that the guest may send requests to, such as https://api.example.org
    #[arg(long, value_name = "ORIGIN", requires = "guest")]
    allow_http: Vec<Upstream>,
    /// How the log looks, instead of how the configuration says
    #[arg(long, value_enum)]
    log: Option<Log>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Log {
    Text,
    Json,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is given as NAME=VALUE".to_owned()),
    }
}

impl Serve {
    /// Serves until a signal ends it.
    pub fn run(self) -> Result<()> {
        let config = self.configuration()?;
        telemetry::install(&config.log)?;
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            warn!(%error, "cannot raise the limit of open files");
        }
        let host = threads("fanfare")?;
        let served = host.block_on(serve(config));
        // What still runs after the drain has had its time.
        host.shutdown_background();
        served
    }

    fn configuration(self) -> Result<Config> {
        let mut config = match self.guest {
            Some(guest) => Config::for_guest(guest),
            None if !self.config.exists() => bail!(
                "there is no {}; `fanfare serve GUEST.wasm` serves one guest without a configuration",
                self.config.display()
            ),
            None => Config::load(&self.config)?,
        };
        if let Some(address) = self.listen {
            config.listen.address = address;
        }
        if let Some(address) = self.admin {
            let admin = Admin::new(address).with_context(|| format!("--admin {address}"))?;
            config.admin = Some(admin);
        }
        if let Some(log) = self.log {
            config.log.format = match log {
                Log::Text => LogFormat::Text,
                Log::Json => LogFormat::Json,
            };
        }
        for app in config.apps.values_mut() {
            app.variables.extend(
                self.variables
                    .iter()
                    .map(|(name, value)| (name.clone(), Variable::plain(value))),
            );
            app.capabilities
                .redis
                .extend(self.allow_redis.iter().cloned());
            app.capabilities
                .http
                .extend(self.allow_http.iter().cloned());
        }
        Ok(config)
    }
}

/// Says something to the person who has started the node, if there is one: nobody has to read it.
fn tell(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{words}");
}

fn threads(name: &str) -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread()
        .thread_name(name)
        .enable_all()
        .build()
}

async fn serve(config: Config) -> Result<()> {
    let started = SystemTime::now();
    // First of all, so that a signal during the start is not lost.
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt())?;

    let tls = config.listen.tls.as_ref().map(tls::acceptor).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = Listener::bind(&config.listen, tls).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another address with `--listen` or `listen.address`",
            config.listen.address
        )
    })?;
    let address = listener.address()?;
    let admin = admin_listener(&config).await?;
    let delivery = delivery_engine(&config).context("cannot start the threads that deliver")?;
    let apps = apps(&config, &delivery).await?;
    let routes = apps
        .iter()
        .map(|app| (app.shared.route.clone(), app.clone()));
    let node = Node {
        routes: Arc::new(Routes::new(routes)),
        bodies: Bodies::new(config.listen.bodies, config.listen.body_timeout),
        reconnect: config.node.reconnect_within,
        development: config.node.development,
    };
    info!(%address, "listening");
    let serve_admin = serve_admin(
        admin.as_ref(),
        admin::Admin {
            node: node.clone(),
            delivery,
            started,
        },
    );
    // Each app serves as soon as it has started, whatever the others do.
    let starts = apps.iter().map(|app| async {
        app.start().await;
        let (name, route) = (&app.shared.name, &app.shared.route);
        match app.phase() {
            Phase::Serving => tell(format_args!("{name} is served at {scheme}://{address}{route}/")),
            Phase::Draining => {}
            _ => tell(format_args!(
                "{name} will be served at {scheme}://{address}{route}/ once it has started; the log says why it has not"
            )),
        }
    });
    let serve = async { tokio::join!(listener.serve(node), serve_admin, join_all(starts)) };
    let shut_down = async {
        info!("shutting down; a second signal ends it at once");
        let deadline = Instant::now() + config.node.drain_timeout;
        let drains = apps
            .iter()
            .map(|app| app.drain(config.node.reconnect_within, deadline));
        join_all(drains).await;
        // Sockets last: they carry what the apps had to say, and whoever comes meanwhile is told to come back.
        listener
            .drain(deadline.max(Instant::now() + LAST_WORDS))
            .await;
        // Whoever watches sees the rest go.
        if let Some(admin) = &admin {
            admin.drain(Instant::now() + LAST_WORDS).await;
        }
    };
    let mut serve = pin!(serve);
    tokio::select! {
        _ = &mut serve => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::select! {
        _ = async { tokio::join!(serve, shut_down) } => info!("shut down"),
        _ = terminate.recv() => warn!("ended before all was shut down"),
        _ = interrupt.recv() => warn!("ended before all was shut down"),
    }
    Ok(())
}

/// The admin listener, if there is to be one.
async fn admin_listener(config: &Config) -> Result<Option<Listener>> {
    let Some(config) = &config.admin else {
        return Ok(None);
    };
    let listener = admin::bind(config).await.with_context(|| {
        format!(
            "cannot open the admin listener on {}; choose another address with `--admin` or `admin.address`",
            config.address
        )
    })?;
    let address = listener.address()?;
    info!(%address, "admin listening");
    Ok(Some(listener))
}

async fn serve_admin(listener: Option<&Listener>, admin: admin::Admin) {
    if let Some(listener) = listener {
        listener.serve(admin).await;
    }
}

/// The apps, compiled. Nothing of them runs yet.
async fn apps(config: &Config, delivery: &DeliveryEngine) -> Result<Vec<Arc<App>>> {
    let redis = Arc::new(RedisPool::new(redis_pool::Settings {
        ca_file: config.redis.ca_file.clone(),
        timeout: config.redis.timeout,
    })?);
    let brokers = Arc::new(config.brokers.clone());
    let guests = Guests::new(instances(config), None, &Handle::current())?;
    let mut apps = Vec::new();
    for (name, app) in &config.apps {
        let outgoing = Outgoing::new(&app.capabilities, &app.http)
            .with_context(|| format!("`apps.{name}.http.ca-file`"))?;
        let (shared, ended) = Shared::new(
            name.clone(),
            app,
            redis.clone(),
            brokers.clone(),
            outgoing,
            delivery.clone(),
        );
        let development = config.node.development;
        apps.push(App::load(&guests, &app.component, shared, ended, development).await?);
    }
    Ok(apps)
}

/// How many instances the apps may have at a time. An app may be of either world, and of another one after a deploy.
fn instances(config: &Config) -> Instances {
    // Beside its handlers: its hooks, and the start of its code and of the code that is to take its place.
    let beside = HOOKS_AT_A_TIME + 2;
    let sum = |of: fn(&crate::config::App) -> usize| {
        let sum = config.apps.values().map(of).fold(0, usize::saturating_add);
        u32::try_from(sum.saturating_add(beside * config.apps.len())).unwrap_or(u32::MAX)
    };
    Instances {
        blocking: sum(|app| app.limits.calls),
        // Those that linger, and those of code that was replaced.
        asynchronous: sum(|app| 4 * app.instances.count),
    }
}

/// What delivers the events of all apps.
fn delivery_engine(config: &Config) -> io::Result<DeliveryEngine> {
    let node = &config.node;
    DeliveryEngine::new(&delivery::Settings {
        shards: match node.shards {
            0 => delivery::Settings::shards(),
            shards => shards,
        },
        connections: node.connections,
        connections_per_address: match node.connections_per_address {
            0 => usize::MAX,
            most => most,
        },
        queued_bytes: usize::try_from(node.queued_bytes).unwrap_or(usize::MAX),
        write_timeout: config.listen.write_timeout,
    })
}
