//! PostgreSQL with its defaults, and tokio-postgres.
//!
//! Bare is what one writes by hand: a statement that inserts a row and notifies of it, and so a transaction of its own,
//! and a client that hears the notification and selects the row. Nothing is deleted.

use std::{
    fs,
    future::poll_fn,
    net::SocketAddr,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fanfare::{
    broker::{
        Broker, Retention,
        postgres::{Postgres as PostgresBroker, PostgresUrl, Settings},
    },
    trust::Trust,
};
use tempfile::TempDir;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement, types::ToSql};

use super::{Bare, Flood, Later, Pass, SETUP, SIZE, Server, Started, TIMEOUT, folder, program};
use crate::process::{Process, free_address};

/// Connections that the callers share who publish bare, each with its statements in flight. Transactions that notify are
/// committed one after another (PostgreSQL's documentation of `NOTIFY`), so it does not matter much how many there are.
const CONNECTIONS: usize = 16;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data bytea)";
const PUBLISH: &str = "WITH added AS (INSERT INTO bare (data) VALUES ($1) RETURNING id) \
                       SELECT pg_notify('bare', id::text) FROM added";
const FETCH: &str = "SELECT data FROM bare WHERE id = $1";

struct Postgres {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// Makes a database and starts a server.
pub fn start() -> Result<Started> {
    let Some(initdb) = program("initdb", &folders()) else {
        return Ok(Started::Missing(SETUP));
    };
    // Its other programs are beside it, whatever led to it.
    let binaries = initdb.canonicalize()?;
    let binaries = binaries.parent().context("a program is in a folder")?;
    let (address, folder) = (free_address()?, folder("postgres")?);
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    let user = unprivileged()?;
    let run_as_user = |command: &mut Command| {
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        // Where this process is may be closed to that user.
        command.current_dir(folder.path());
    };
    if let Some((user, group)) = user {
        for path in [folder.path(), &data] {
            chown(path, Some(user), Some(group))?;
        }
    }
    let mut initdb = Command::new(binaries.join("initdb"));
    initdb
        .arg("-D")
        .arg(&data)
        .args(["-U", "fanfare", "-E", "UTF8", "--locale=C", "-A", "trust"]);
    run_as_user(&mut initdb);
    let made = initdb.output()?;
    ensure!(
        made.status.success(),
        "initdb failed: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let mut command = Command::new(binaries.join("postgres"));
    command.arg("-D").arg(&data);
    command.args(["-p", &address.port().to_string()]);
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories="] {
        command.args(["-c", setting]);
    }
    run_as_user(&mut command);
    let process = Process::start(&mut command, address, folder.path())?;
    let postgres = Postgres {
        address,
        _process: process,
        _folder: folder,
    };
    // It listens before it lets anybody in.
    let ready = async {
        while tokio_postgres::connect(&postgres.url(), NoTls)
            .await
            .is_err()
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    Handle::current().block_on(async { timeout(TIMEOUT, ready).await })?;
    Ok(Started::Ready(Box::new(postgres)))
}

/// Where Debian and brew keep its programs, out of `PATH`; the newest version first.
fn folders() -> Vec<PathBuf> {
    let parents = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
    let entries = parents
        .into_iter()
        .filter_map(|parent| fs::read_dir(parent).ok());
    let mut folders: Vec<PathBuf> = entries
        .flat_map(|entries| entries.flatten())
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    folders.reverse();
    folders
}

/// The user and the group to run it as, where this process is root, as which it does not run.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    let id = |arguments: &[&str]| -> Result<u32> {
        let output = Command::new("id").args(arguments).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    Ok(match id(&["-u"])? {
        0 => Some((id(&["-u", "nobody"])?, id(&["-g", "nobody"])?)),
        _ => None,
    })
}

impl Postgres {
    fn url(&self) -> String {
        format!("postgres://fanfare@{}/postgres", self.address)
    }

    /// A connection, and the rows that it is notified of.
    async fn connect(&self) -> Result<(Client, mpsc::UnboundedReceiver<i64>)> {
        let (client, mut connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        let (sender, notified) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notification(notification) = message
                    && let Ok(row) = notification.payload().parse()
                {
                    // Most connections want to hear of none.
                    let _ = sender.send(row);
                }
            }
        });
        client.batch_execute(TABLE).await?;
        Ok((client, notified))
    }
}

impl Server for Postgres {
    fn broker(&self, log: &str, retention: Retention) -> Result<Box<dyn Broker>> {
        let settings = Settings {
            url: PostgresUrl::parse(&self.url())?,
            trust: Arc::new(Trust::new(None)?),
            timeout: TIMEOUT,
        };
        let log = log.to_owned();
        Ok(Box::new(PostgresBroker::new(
            settings,
            log,
            retention,
            Handle::current(),
        )))
    }

    fn bare(&self) -> Later<'_, Vec<Bare>> {
        Box::pin(async {
            let (publisher, _) = self.connect().await?;
            let (subscriber, notified) = self.connect().await?;
            subscriber.batch_execute("LISTEN bare").await?;
            Ok(vec![Bare {
                what: "INSERT and NOTIFY, SELECT",
                way: Box::new(Notify {
                    publish: publisher.prepare(PUBLISH).await?,
                    fetch: subscriber.prepare(FETCH).await?,
                    publisher,
                    subscriber,
                    notified,
                }),
            }])
        })
    }

    fn bare_rate<'a>(&'a self, flood: &'a Flood) -> Later<'a, f64> {
        Box::pin(async {
            let mut connections = Vec::new();
            for _ in 0..CONNECTIONS {
                let (client, _) = self.connect().await?;
                let publish = client.prepare(PUBLISH).await?;
                connections.push(Arc::new((client, publish)));
            }
            let publish = move |caller: usize| {
                let connection = connections[caller % CONNECTIONS].clone();
                async move {
                    let (client, publish) = &*connection;
                    client.query(publish, &[&[b'x'; SIZE].as_slice()]).await?;
                    Ok(())
                }
            };
            flood.run(publish).await
        })
    }
}

struct Notify {
    publisher: Client,
    publish: Statement,
    subscriber: Client,
    fetch: Statement,
    notified: mpsc::UnboundedReceiver<i64>,
}

impl Pass for Notify {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            let values: [&(dyn ToSql + Sync); 1] = [&payload];
            let publish = self.publisher.query(&self.publish, &values);
            let hear = async {
                let row = self.notified.recv().await;
                let row = row.context("the connection has ended")?;
                let row = self.subscriber.query_one(&self.fetch, &[&row]).await?;
                let heard: Vec<u8> = row.try_get(0)?;
                ensure!(heard == payload, "another row");
                Ok(begun.elapsed())
            };
            let (published, heard) = tokio::join!(publish, hear);
            published?;
            heard
        })
    }
}
