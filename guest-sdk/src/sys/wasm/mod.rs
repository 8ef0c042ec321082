//! The host of a component: imports and exports of the worlds of the contract.
//!
//! What waits stands twice, in `blocking` and in `asynchronous`; a component imports what its guest uses, so that one
//! of these flavours has nothing of the other.

pub mod asynchronous;
pub mod bindings;
pub mod blocking;
pub mod registry;
mod values;

use crate::{Event, Response, Result, Upgrade};

use bindings::fanfare::sse::{
    connections as wit_connections, publishers as wit_publishers, redis_clients,
    requests as wit_requests,
};

pub struct Request(wit_requests::Request);

impl Request {
    pub fn id(&self) -> String {
        self.0.id()
    }

    pub fn method(&self) -> String {
        self.0.method()
    }

    pub fn path(&self) -> String {
        self.0.path()
    }

    pub fn route(&self) -> String {
        self.0.route()
    }

    pub fn query(&self) -> Option<String> {
        self.0.query()
    }

    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.0.headers()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.0.header(name)
    }

    pub fn body(&self) -> Vec<u8> {
        self.0.body()
    }

    pub fn client_address(&self) -> String {
        self.0.client_address()
    }

    pub fn respond(&self, response: Response) -> Result<()> {
        let Response {
            status,
            headers,
            body,
        } = response;
        Ok(self.0.respond(&wit_requests::Response {
            status,
            headers,
            body,
        })?)
    }

    pub fn upgrade(&self, options: &Upgrade) -> Result<Connection> {
        let options = wit_connections::UpgradeOptions {
            allowed_origins: options.allowed_origins.clone(),
            ping_interval: options.ping_interval,
            inactivity_timeout: options.inactivity_timeout,
        };
        Ok(Connection(wit_connections::upgrade(&self.0, &options)?))
    }
}

pub struct Connection(wit_connections::Connection);

impl Connection {
    pub fn id(&self) -> String {
        self.0.id()
    }

    pub fn last_event_id(&self) -> Option<String> {
        self.0.last_event_id()
    }

    pub fn channels(&self) -> Vec<String> {
        self.0.channels()
    }

    pub fn send(&self, event: Event) -> Result<()> {
        Ok(self.0.send(&event.into())?)
    }

    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    pub fn close(&self) {
        self.0.close();
    }
}

pub struct Publisher(wit_publishers::Publisher);

impl Publisher {
    pub fn in_memory() -> Self {
        Self(wit_publishers::Publisher::in_memory())
    }

    pub fn redis(client: &Redis, sync_channel: &str) -> Result<Self> {
        Ok(Self(wit_publishers::Publisher::redis(
            &client.0,
            sync_channel,
        )?))
    }

    pub fn open(label: &str) -> Result<Self> {
        Ok(Self(wit_publishers::Publisher::open(label)?))
    }
}

pub struct Redis(redis_clients::Client);

impl Redis {
    pub fn address(&self) -> String {
        self.0.address()
    }
}

pub mod config {
    use super::bindings::wasi::config::store;
    use crate::{Error, Result};

    pub fn get(name: &str) -> Result<Option<String>> {
        store::get(name).map_err(error)
    }

    pub fn all() -> Result<Vec<(String, String)>> {
        store::get_all().map_err(error)
    }

    fn error(error: store::Error) -> Error {
        match error {
            store::Error::Upstream(message) | store::Error::Io(message) => {
                Error::Unavailable(message)
            }
        }
    }
}
