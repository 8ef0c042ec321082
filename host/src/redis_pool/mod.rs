//! The node's connections to Redis.
//!
//! # Layout
//!
//! - [`RedisPool`]: one connection for each URL, however many guests use it, in all apps.
//! - `url`: where a server is and how to log in.
//! - `client`: the handle that guests hold, with its commands.
//! - `commands`: what the shared connection cannot bear; commands on the wire.
//! - `link`: one pooled connection, made once and made anew when it breaks.
//! - `line`: one socket that many callers share.
//! - `replies`: where a reply ends; how large it may be.
//! - `value`: what a reply says; answers made flat.
//! - `push`: a connection of its own that hears channels.
//! - `script`: a script that runs on the server.
//! - `dial`: name, socket, TLS, login.
//! - `servers`: which server it is, where there are several: Sentinel, Cluster.
//! - `backoff`: how long to wait before the next attempt.
//!
//! # One connection for all
//!
//! What one guest does must not harm another that shares its connection. So a command that would change or block
//! it is refused before it is sent; a reply that is too large is skipped while it arrives, and one that cannot be
//! read is the trouble of its caller alone. That is why the socket is shared by `line`, which cuts replies apart
//! without understanding them, and only then are they parsed, each on its own.

mod backoff;
mod client;
mod commands;
mod dial;
mod error;
mod line;
mod link;
mod push;
mod replies;
mod script;
mod servers;
#[cfg(test)]
pub(crate) mod testing;
mod url;
mod value;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

pub(crate) use self::{backoff::Backoff, url::percent_decode};
pub use self::{
    client::RedisClient,
    error::RedisError,
    push::{Heard, Push},
    script::Script,
    servers::Servers,
    url::RedisUrl,
    value::{Part, flatten},
};
use self::{dial::Dialer, link::Link};

/// The most connections of a node.
const CONNECTIONS: usize = 256;

/// What holds for every connection to Redis.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A file with the certificates, in PEM, of the authorities to trust for `rediss://`, besides those of the
    /// system.
    pub ca_file: Option<PathBuf>,
    /// How long connecting, and each command, may take.
    pub timeout: Duration,
}

/// The node's connections to Redis.
#[derive(Debug)]
pub struct RedisPool {
    dialer: Arc<Dialer>,
    links: Mutex<HashMap<RedisUrl, Arc<Link>>>,
}

impl RedisPool {
    /// A pool without connections, which are going to live on the Tokio runtime that this is called on. Errors are [`RedisError::Invalid`] and name the file.
    pub fn new(settings: Settings) -> Result<Self, RedisError> {
        let dialer = Dialer::new(settings.ca_file, settings.timeout, Handle::current())?;
        Ok(Self {
            dialer: Arc::new(dialer),
            links: Mutex::default(),
        })
    }

    /// Where the node's connections to Redis live, and what reads them should.
    pub fn runtime(&self) -> &Handle {
        self.dialer.runtime()
    }

    /// The connection of this URL, made if there is none. Those who ask at the same time share one attempt, and
    /// after one that failed the next to ask makes another.
    pub async fn connect(&self, url: &RedisUrl) -> Result<RedisClient, RedisError> {
        let link = self.link(url)?;
        let connected = link.connected().await;
        if link.has_failed() {
            let mut links = self.links.lock();
            if let Entry::Occupied(entry) = links.entry(url.clone())
                && Arc::ptr_eq(entry.get(), &link)
            {
                entry.remove();
            }
        }
        connected.map(|()| RedisClient::new(link))
    }

    fn link(&self, url: &RedisUrl) -> Result<Arc<Link>, RedisError> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(url)
            && !link.has_failed()
        {
            return Ok(link.clone());
        }
        if links.len() >= CONNECTIONS && !links.contains_key(url) {
            // One that nobody holds a handle to: new handles are only given out under this lock.
            let unused = links.iter().find(|(_, link)| Arc::strong_count(link) == 1);
            let Some(unused) = unused.map(|(url, _)| url.clone()) else {
                return Err(RedisError::Limited(format!(
                    "the node has {CONNECTIONS} connections to Redis in use, which is the most it may have; use \
                     fewer servers, users and databases"
                )));
            };
            links.remove(&unused);
        }
        let link = Arc::new(Link::new(url.clone(), self.dialer.clone()));
        links.insert(url.clone(), link.clone());
        Ok(link)
    }
}

#[cfg(test)]
mod tests;
