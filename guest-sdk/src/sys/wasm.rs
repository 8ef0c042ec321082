//! The host of a component: the imports and exports of the worlds `app` and `disconnect-hooks`.

use std::{marker::PhantomData, time::Duration};

use crate::{
    App, CloseReason, Disconnected, Disconnection, Error, Event, EventId, Message, Payload,
    Receipt, Response, Result, Upgrade,
    redis::{Part, Value},
    registry::Kind,
    time::millis_u32,
};

/// What wit-bindgen makes of the contract.
#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated code, and calls across the component boundary"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "app",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_app",
    });

    /// A world of its own, so that only guests that ask for the hook export it.
    pub mod hooks {
        wit_bindgen::generate!({
            path: "wit",
            world: "disconnect-hooks",
            with: {
                "fanfare:sse/errors@0.1.0": super::fanfare::sse::errors,
                "fanfare:sse/events@0.1.0": super::fanfare::sse::events,
                "fanfare:sse/requests@0.1.0": super::fanfare::sse::requests,
                "fanfare:sse/connections@0.1.0": super::fanfare::sse::connections,
            },
            pub_export_macro: true,
            export_macro_name: "export_disconnect_hooks",
        });
    }
}

use bindings::{
    fanfare::sse::{
        connections as wit_connections, errors as wit_errors, events as wit_events,
        publishers as wit_publishers, publishing, redis, redis_clients, registry as wit_registry,
        requests as wit_requests,
    },
    wasi::config::store,
};

/// The exports of a component, made of an [`App`]. Never a value: the host calls functions, not methods.
pub struct Exports<A>(PhantomData<A>);

impl<A: App> bindings::exports::fanfare::sse::lifecycle::Guest for Exports<A> {
    fn start() -> Result<(), wit_errors::Error> {
        A::start().map_err(Into::into)
    }
}

impl<A: App> bindings::exports::fanfare::sse::handler::Guest for Exports<A> {
    fn handle(request: wit_requests::Request) -> Result<(), wit_errors::Error> {
        A::handle(crate::Request::from_sys(Request(request))).map_err(Into::into)
    }
}

impl<A: Disconnected> bindings::hooks::exports::fanfare::sse::disconnect_hook::Guest
    for Exports<A>
{
    fn disconnected(gone: wit_connections::Disconnection) {
        use wit_connections::CloseReason as Wit;
        A::disconnected(Disconnection {
            connection_id: gone.connection_id,
            channels: gone.channels,
            reason: match gone.reason {
                Wit::ClientGone => CloseReason::ClientGone,
                Wit::Closed => CloseReason::Closed,
                Wit::Inactive => CloseReason::Inactive,
                Wit::Expired => CloseReason::Expired,
                Wit::Slow => CloseReason::Slow,
                Wit::Shutdown => CloseReason::Shutdown,
            },
        });
    }
}

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

    pub fn start(&self) -> Result<()> {
        Ok(publishing::start(&self.0)?)
    }

    pub fn register(&self, connection: &Connection, channel: &str) -> Result<()> {
        Ok(publishing::register(&self.0, &connection.0, channel)?)
    }

    pub fn publish(&self, channel: &str, message: Message) -> Result<Receipt> {
        let message = wit_events::Message {
            event: message.event.map(Into::into),
            id: message.id.map(Into::into),
            event_type: message.event_type,
            data: message.data.map(Into::into),
            retry: message.retry.map(millis_u32),
        };
        let receipt = publishing::publish(&self.0, channel, &message)?;
        Ok(Receipt {
            id: receipt.id,
            delivered: receipt.delivered,
            duplicate: receipt.duplicate,
        })
    }

    pub fn remove(&self, connection_id: &str, channel: &str) -> Result<()> {
        Ok(publishing::remove(&self.0, connection_id, channel)?)
    }

    pub fn subscribers(&self, channel: &str) -> Result<u64> {
        Ok(publishing::subscribers(&self.0, channel)?)
    }

    pub fn presence(&self, channel: &str) -> Result<Vec<String>> {
        Ok(publishing::presence(&self.0, channel)?)
    }

    pub fn history(&self, channel: &str, limit: u32) -> Result<Vec<Event>> {
        Ok(publishing::history(&self.0, channel, limit)?
            .into_iter()
            .map(Into::into)
            .collect())
    }
}

pub struct Redis(redis_clients::Client);

impl Redis {
    pub fn connect(url: &str) -> Result<Self> {
        Ok(Self(redis::connect(url)?))
    }

    pub fn address(&self) -> String {
        self.0.address()
    }

    pub fn execute(&self, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Part>> {
        use redis_clients::RedisValue as Wit;
        let parts = redis::execute(&self.0, command, arguments)?;
        Ok(parts
            .into_iter()
            .map(|part| {
                Part::Value(match part {
                    Wit::Nil => Value::Nil,
                    Wit::Status(text) => Value::Status(text),
                    Wit::Integer(integer) => Value::Integer(integer),
                    Wit::Double(double) => Value::Double(double),
                    Wit::Boolean(boolean) => Value::Boolean(boolean),
                    Wit::Bytes(bytes) => Value::Bytes(bytes),
                    Wit::Array(length) => return Part::Array(length),
                    Wit::Error(text) => Value::Error(text),
                })
            })
            .collect())
    }

    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(redis::get(&self.0, key)?)
    }

    pub fn set(&self, key: &str, value: &[u8], expires_in: Option<u64>) -> Result<()> {
        Ok(redis::set(&self.0, key, value, expires_in)?)
    }

    pub fn incr(&self, key: &str, by: i64) -> Result<i64> {
        Ok(redis::incr(&self.0, key, by)?)
    }

    pub fn del(&self, keys: &[String]) -> Result<u64> {
        Ok(redis::del(&self.0, keys)?)
    }

    pub fn exists(&self, key: &str) -> Result<bool> {
        Ok(redis::exists(&self.0, key)?)
    }

    pub fn expire(&self, key: &str, expires_in: u64) -> Result<bool> {
        Ok(redis::expire(&self.0, key, expires_in)?)
    }

    pub fn publish(&self, channel: &str, payload: &[u8]) -> Result<u64> {
        Ok(redis::publish(&self.0, channel, payload)?)
    }

    pub fn sadd(&self, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        Ok(redis::sadd(&self.0, key, members)?)
    }

    pub fn srem(&self, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        Ok(redis::srem(&self.0, key, members)?)
    }

    pub fn smembers(&self, key: &str) -> Result<Vec<Vec<u8>>> {
        Ok(redis::smembers(&self.0, key)?)
    }
}

pub mod registry {
    use super::{Kind, Publisher, Redis, Result, wit_registry as wit};

    pub fn has(name: &str) -> bool {
        wit::has(name)
    }

    pub fn kind(name: &str) -> Option<Kind> {
        wit::kind(name).map(|kind| match kind {
            wit::ValueKind::Publisher => Kind::Publisher,
            wit::ValueKind::RedisClient => Kind::Redis,
            wit::ValueKind::Text => Kind::Text,
            wit::ValueKind::Bytes => Kind::Bytes,
        })
    }

    pub fn get_publisher(name: &str) -> Result<Publisher> {
        Ok(Publisher(wit::get_publisher(name)?))
    }

    pub fn get_redis(name: &str) -> Result<Redis> {
        Ok(Redis(wit::get_redis(name)?))
    }

    pub fn get_text(name: &str) -> Result<String> {
        Ok(wit::get_text(name)?)
    }

    pub fn get_bytes(name: &str) -> Result<Vec<u8>> {
        Ok(wit::get_bytes(name)?)
    }

    pub fn set_publisher(name: &str, value: &Publisher) -> Result<()> {
        Ok(wit::set_publisher(name, &value.0)?)
    }

    pub fn set_redis(name: &str, value: &Redis) -> Result<()> {
        Ok(wit::set_redis(name, &value.0)?)
    }

    pub fn set_text(name: &str, value: &str) -> Result<()> {
        Ok(wit::set_text(name, value)?)
    }

    pub fn set_bytes(name: &str, value: &[u8]) -> Result<()> {
        Ok(wit::set_bytes(name, value)?)
    }

    pub fn remove(name: &str) -> bool {
        wit::remove(name)
    }

    pub fn keys() -> Vec<String> {
        wit::keys()
    }
}

pub mod config {
    use super::{Error, Result, store};

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

pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

impl From<wit_errors::Error> for Error {
    fn from(error: wit_errors::Error) -> Self {
        use wit_errors::Error as Wit;
        match error {
            Wit::Denied(message) => Self::Denied(message),
            Wit::Invalid(message) => Self::Invalid(message),
            Wit::NotFound(message) => Self::NotFound(message),
            Wit::WrongType(message) => Self::WrongType(message),
            Wit::Closed(message) => Self::Closed(message),
            Wit::NotStarted(message) => Self::NotStarted(message),
            Wit::Limited(message) => Self::Limited(message),
            Wit::Unavailable(message) => Self::Unavailable(message),
            Wit::Other(message) => Self::Other(message),
        }
    }
}

impl From<Error> for wit_errors::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(message) => Self::Denied(message),
            Error::Invalid(message) => Self::Invalid(message),
            Error::NotFound(message) => Self::NotFound(message),
            Error::WrongType(message) => Self::WrongType(message),
            Error::Closed(message) => Self::Closed(message),
            Error::NotStarted(message) => Self::NotStarted(message),
            Error::Limited(message) => Self::Limited(message),
            Error::Unavailable(message) => Self::Unavailable(message),
            Error::Other(message) => Self::Other(message),
        }
    }
}

impl From<EventId> for wit_events::EventId {
    fn from(id: EventId) -> Self {
        match id {
            EventId::Plain(id) => Self::Plain(id),
            EventId::Any(id) => Self::Any(id),
        }
    }
}

impl From<Payload> for wit_events::Payload {
    fn from(data: Payload) -> Self {
        match data {
            Payload::Text(text) => Self::Text(text),
            Payload::Json(json) => Self::Json(json),
        }
    }
}

impl From<Event> for wit_events::Event {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.map(Into::into),
            event_type: event.event_type,
            data: event.data.into(),
            retry: event.retry.map(millis_u32),
        }
    }
}

impl From<wit_events::Event> for Event {
    fn from(event: wit_events::Event) -> Self {
        Self {
            id: event.id.map(|id| match id {
                wit_events::EventId::Plain(id) => EventId::Plain(id),
                wit_events::EventId::Any(id) => EventId::Any(id),
            }),
            event_type: event.event_type,
            data: match event.data {
                wit_events::Payload::Text(text) => Payload::Text(text),
                wit_events::Payload::Json(json) => Payload::Json(json),
            },
            retry: event
                .retry
                .map(|milliseconds| Duration::from_millis(milliseconds.into())),
        }
    }
}
