//! A node: from a configuration to its end.

use std::{
    io, mem,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use futures_util::{FutureExt, future::join_all};
use tokio::{
    runtime::{self, Handle, Runtime},
    signal::unix,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::tell;
use crate::{
    config::{self, Config},
    guest::{
        app::{App, HOOKS_AT_A_TIME, Phase, RETIRING},
        asynchronous::INSTANCES,
        brokers::Brokers,
        check,
        deploys::Deploys,
        engine::{Guests, Instances},
        outgoing::Outgoing,
        shared::Shared,
        versions::{Versions, folder::CACHE},
    },
    http::{admin, body::Bodies, listener::Listener, routes::Routes, service::Node, tls},
    hub::delivery::{self, Engine as DeliveryEngine},
    redis_pool::{self, RedisPool},
    telemetry,
};

/// What sockets have to carry what was said last, where the time of the drain is up. It is over as soon as all are closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Signals within this time are one: a terminal and who started the node may both pass it on.
const ONE_SIGNAL: Duration = Duration::from_millis(200);

/// Runs what a command does on the threads of the host.
pub fn to_the_end(log: &config::Log, main: impl Future<Output = Result<()>>) -> Result<()> {
    telemetry::install(log)?;
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "cannot raise the limit of open files");
    }
    let host = threads("fanfare")?;
    let ended = host.block_on(main);
    // What still runs ends with the process, and is not told before: a guest that waits would find its timers gone.
    mem::forget(host);
    ended
}

fn threads(name: &str) -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread()
        .thread_name(name)
        .enable_all()
        .build()
}

/// Serves until a signal ends it, and does `meanwhile` until that comes.
pub async fn node<F: Future<Output = ()>>(
    config: Config,
    meanwhile: impl FnOnce(Deploys) -> F,
) -> Result<()> {
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
    let versions = match &config.node.data {
        Some(folder) => Versions::open(folder)?,
        None => Versions::in_memory(),
    };
    let apps = apps(&config, &delivery, &versions).await?;
    let configured = config.apps.values().map(|app| app.component.clone());
    let deploys = Deploys::new(apps.iter().cloned().zip(configured), versions);
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
    if apps.is_empty() {
        warn!(
            "no app is configured: whatever is asked for is not found; an app is a section `[apps.NAME]`"
        );
    }
    let serve_admin = async {
        if let (Some(listener), Some(config)) = (&admin, &config.admin) {
            let admin = admin::Admin::new(config, node.clone(), delivery, started, deploys.clone());
            listener.serve(admin).await;
        }
    };
    let meanwhile = meanwhile(deploys.clone());
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
    let serve = async { tokio::join!(listener.serve(node.clone()), serve_admin, join_all(starts)) };
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
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        _ = async { tokio::join!(&mut serve, meanwhile) } => {}
        () = told => {}
    }
    let told_again = async {
        sleep(ONE_SIGNAL).await;
        // What came until now belongs to the first one, however late this node has looked.
        let _ = terminate.recv().now_or_never();
        let _ = interrupt.recv().now_or_never();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        _ = async { tokio::join!(serve, shut_down) } => info!("shut down"),
        () = told_again => bail!("ended by a second signal before all was shut down"),
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

/// The apps, compiled. Nothing of them runs yet.
async fn apps(
    config: &Config,
    delivery: &DeliveryEngine,
    versions: &Versions,
) -> Result<Vec<Arc<App>>> {
    let redis = Arc::new(RedisPool::new(redis_pool::Settings {
        ca_file: config.redis.ca_file.clone(),
        timeout: config.redis.timeout,
    })?);
    let data = config.node.data.as_ref();
    let brokers = Arc::new(Brokers {
        configured: config.brokers.clone(),
        redis,
        data: data.cloned(),
    });
    let cache = data.map(|data| std::path::absolute(data.join(CACHE)));
    let cache = cache.transpose()?;
    let guests = Guests::new(instances(config), cache.as_deref(), &Handle::current())?;
    let mut apps = Vec::new();
    for (name, app) in &config.apps {
        let outgoing = Outgoing::new(&app.capabilities, &app.http)
            .with_context(|| format!("`apps.{name}.http.ca-file`"))?;
        let (shared, happenings) = Shared::new(
            name.clone(),
            app,
            brokers.clone(),
            outgoing,
            delivery.clone(),
        );
        let compile =
            async |origin: String, component| check::compile(&guests, origin, component).await;
        let guest = versions.choose(name, &app.component, compile).await?;
        let origin = app.component.display().to_string();
        let development = config.node.development;
        apps.push(App::new(
            &guests,
            &guest,
            &origin,
            shared,
            happenings,
            development,
        )?);
    }
    Ok(apps)
}

/// How many instances the apps may have at a time. An app may be of either world, and of another one after a deploy.
fn instances(config: &Config) -> Instances {
    // Beside its handlers: its hooks, and the start of its code and of the code that is to take its place.
    let beside = HOOKS_AT_A_TIME + 2;
    let sum = |of: fn(&config::App) -> usize| {
        let sum = config.apps.values().map(of).fold(0, usize::saturating_add);
        u32::try_from(sum.saturating_add(beside * config.apps.len())).unwrap_or(u32::MAX)
    };
    Instances {
        blocking: sum(|app| app.limits.calls),
        // Those that linger, and as many of each version that was replaced.
        asynchronous: sum(|app| (1 + RETIRING) * INSTANCES * app.instances.count),
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
