//! Events in a file of SQLite, and rusqlite.
//!
//! There is no server and no other node: an event goes to a client of the node that publishes it. Bare is a row inserted in
//! a transaction of its own, on a connection with the same settings, and heard by nobody; for the rate, as many rows in a
//! transaction as there are callers.

use std::time::{Duration, Instant};

use anyhow::Result;
use fanfare::broker::{
    Broker, Retention,
    durable::{Durable as DurableBroker, Store, Sync},
};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::{Bare, Flood, Later, Pass, SIZE, Server, Started, TIMEOUT, flood::CALLERS, folder};

const INSERT: &str = "INSERT INTO bare (data) VALUES (?)";

struct Durable {
    sync: Sync,
    folder: TempDir,
}

/// Events survive the end of the process.
pub fn start_process() -> Result<Started> {
    start(Sync::Process)
}

/// Events survive a loss of power.
pub fn start_power() -> Result<Started> {
    start(Sync::Power)
}

fn start(sync: Sync) -> Result<Started> {
    let folder = folder("durable")?;
    Ok(Started::Ready(Box::new(Durable { sync, folder })))
}

impl Durable {
    /// A connection with the settings that the broker has.
    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(self.folder.path().join("bare.sqlite"))?;
        let synchronous = match self.sync {
            Sync::Process => "NORMAL",
            Sync::Power => "FULL",
        };
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA fullfsync = ON; \
             PRAGMA wal_autocheckpoint = 4000; \
             CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, data BLOB NOT NULL)"
        ))?;
        Ok(connection)
    }
}

impl Server for Durable {
    fn broker(&self, log: &str, retention: Retention) -> Result<Box<dyn Broker>> {
        let file = self.folder.path().join(format!("{log}.sqlite"));
        let store = Store::new(file, retention, self.sync, TIMEOUT);
        Ok(Box::new(DurableBroker::new(store)))
    }

    fn is_of_one_node(&self) -> bool {
        true
    }

    fn bare(&self) -> Later<'_, Vec<Bare>> {
        Box::pin(async {
            Ok(vec![Bare {
                what: "INSERT, heard by nobody",
                way: Box::new(Insert(self.connect()?)),
            }])
        })
    }

    fn bare_rate<'a>(&'a self, flood: &'a Flood) -> Later<'a, f64> {
        Box::pin(async {
            let mut connection = self.connect()?;
            let (begun, mut inserted) = (Instant::now(), 0);
            while begun.elapsed() < flood.time {
                let transaction = connection.transaction()?;
                let mut insert = transaction.prepare_cached(INSERT)?;
                for _ in 0..CALLERS {
                    inserted += insert.execute(params![[b'x'; SIZE]])?;
                }
                drop(insert);
                transaction.commit()?;
            }
            Ok(inserted as f64 / begun.elapsed().as_secs_f64())
        })
    }
}

struct Insert(Connection);

impl Pass for Insert {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            self.0.prepare_cached(INSERT)?.execute(params![payload])?;
            Ok(begun.elapsed())
        })
    }
}
