//! The host of a test: handles to the fake in `testing::fake`.

use std::{cell::RefCell, rc::Rc, time::Duration};

use crate::{
    Error, Event, Message, Receipt, Response, Result, Upgrade,
    redis::Part,
    registry::Kind,
    testing::fake::{Fake, PublisherKind, RedisAddress, RequestState, Stored},
};

pub struct Request {
    pub(crate) fake: Rc<Fake>,
    pub(crate) state: Rc<RefCell<RequestState>>,
}

impl Request {
    pub fn id(&self) -> String {
        self.state.borrow().id.clone()
    }

    pub fn method(&self) -> String {
        self.state.borrow().given.method.clone()
    }

    pub fn path(&self) -> String {
        self.state.borrow().given.path.clone()
    }

    pub fn route(&self) -> String {
        self.state.borrow().given.route.clone()
    }

    pub fn query(&self) -> Option<String> {
        self.state.borrow().given.query.clone()
    }

    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.state.borrow().given.headers.clone()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.state.borrow().given.header_value(name)
    }

    pub fn body(&self) -> Vec<u8> {
        self.state.borrow().given.body.clone()
    }

    pub fn client_address(&self) -> String {
        self.state.borrow().given.client_address.clone()
    }

    pub fn respond(&self, response: Response) -> Result<()> {
        self.state.borrow_mut().respond(response)
    }

    pub fn upgrade(&self, options: &Upgrade) -> Result<Connection> {
        let index = self
            .fake
            .state()
            .upgrade(&mut self.state.borrow_mut(), options)?;
        Ok(Connection {
            fake: self.fake.clone(),
            index,
        })
    }
}

pub struct Connection {
    fake: Rc<Fake>,
    index: usize,
}

impl Connection {
    pub fn id(&self) -> String {
        self.fake.state().stream(self.index).id.clone()
    }

    pub fn last_event_id(&self) -> Option<String> {
        self.fake.state().stream(self.index).last_event_id.clone()
    }

    pub fn channels(&self) -> Vec<String> {
        self.fake.state().stream(self.index).channels()
    }

    pub fn send(&self, event: Event) -> Result<()> {
        self.fake.state().send(self.index, &event)
    }

    pub fn is_open(&self) -> bool {
        self.fake.state().stream(self.index).end.is_none()
    }

    pub fn close(&self) {
        self.fake
            .state()
            .end(self.index, crate::CloseReason::Closed);
    }
}

pub struct Publisher {
    fake: Rc<Fake>,
    index: usize,
}

impl Publisher {
    pub fn in_memory() -> Self {
        Self::of(Fake::current(), PublisherKind::InMemory)
    }

    pub fn redis(client: &Redis, sync_channel: &str) -> Result<Self> {
        crate::testing::fake::check_name("a sync channel", sync_channel)?;
        let kind = PublisherKind::Redis(client.address.server.clone(), sync_channel.to_owned());
        Ok(Self::of(client.fake.clone(), kind))
    }

    pub fn open(label: &str) -> Result<Self> {
        let fake = Fake::current();
        if !fake.state().brokers.contains(label) {
            let message = format!(
                "the app was not granted the broker {label:?}; in a test, `Host::grant_broker` grants it"
            );
            return Err(Error::Denied(message));
        }
        Ok(Self::of(fake, PublisherKind::Broker(label.to_owned())))
    }

    fn of(fake: Rc<Fake>, kind: PublisherKind) -> Self {
        let index = fake.state().publisher_of(kind);
        Self { fake, index }
    }

    pub fn start(&self) -> Result<()> {
        self.fake.state().start(self.index)
    }

    pub fn register(&self, connection: &Connection, channel: &str) -> Result<()> {
        self.fake
            .state()
            .register(self.index, connection.index, channel)
    }

    pub fn publish(&self, channel: &str, message: Message) -> Result<Receipt> {
        self.fake.state().publish(self.index, channel, message)
    }

    pub fn remove(&self, connection_id: &str, channel: &str) -> Result<()> {
        self.fake.state().remove(self.index, connection_id, channel)
    }

    pub fn subscribers(&self, channel: &str) -> Result<u64> {
        self.fake.state().subscribers(self.index, channel)
    }

    pub fn presence(&self, channel: &str) -> Result<Vec<String>> {
        self.fake.state().presence(self.index, channel)
    }

    pub fn history(&self, channel: &str, limit: u32) -> Result<Vec<Event>> {
        self.fake.state().history(self.index, channel, limit)
    }
}

pub struct Redis {
    fake: Rc<Fake>,
    address: RedisAddress,
}

impl Redis {
    pub fn connect(url: &str) -> Result<Self> {
        let fake = Fake::current();
        let address = RedisAddress::parse(url)?;
        fake.state().redis(&address)?;
        Ok(Self { fake, address })
    }

    pub fn address(&self) -> String {
        self.address.server.clone()
    }

    pub fn execute(&self, command: &str, arguments: &[Vec<u8>]) -> Result<Vec<Part>> {
        crate::testing::fake::check_command(command, arguments)?;
        Ok(self
            .fake
            .state()
            .redis(&self.address)?
            .execute(command, arguments)?
            .into_parts())
    }

    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.fake.state().redis(&self.address)?.get(key)
    }

    pub fn set(&self, key: &str, value: &[u8], expires_in: Option<u64>) -> Result<()> {
        self.fake
            .state()
            .redis(&self.address)?
            .set(key, value, expires_in)
    }

    pub fn incr(&self, key: &str, by: i64) -> Result<i64> {
        self.fake.state().redis(&self.address)?.incr(key, by)
    }

    pub fn del(&self, keys: &[String]) -> Result<u64> {
        Ok(self.fake.state().redis(&self.address)?.del(keys))
    }

    pub fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.fake.state().redis(&self.address)?.exists(key))
    }

    pub fn expire(&self, key: &str, expires_in: u64) -> Result<bool> {
        self.fake
            .state()
            .redis(&self.address)?
            .expire(key, expires_in)
    }

    pub fn publish(&self, channel: &str, payload: &[u8]) -> Result<u64> {
        Ok(self
            .fake
            .state()
            .redis(&self.address)?
            .publish(channel, payload))
    }

    pub fn sadd(&self, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        self.fake.state().redis(&self.address)?.sadd(key, members)
    }

    pub fn srem(&self, key: &str, members: &[Vec<u8>]) -> Result<u64> {
        self.fake.state().redis(&self.address)?.srem(key, members)
    }

    pub fn smembers(&self, key: &str) -> Result<Vec<Vec<u8>>> {
        self.fake.state().redis(&self.address)?.smembers(key)
    }
}

pub mod registry {
    use super::{Fake, Kind, Publisher, Redis, Result, Stored};

    pub fn has(name: &str) -> bool {
        kind(name).is_some()
    }

    pub fn kind(name: &str) -> Option<Kind> {
        Fake::current().state().registry.get(name).map(Stored::kind)
    }

    pub fn get_publisher(name: &str) -> Result<Publisher> {
        let fake = Fake::current();
        let index = match fake.state().stored(name, Kind::Publisher)? {
            Stored::Publisher(index) => *index,
            _ => unreachable!("`stored` checks the kind"),
        };
        Ok(Publisher { fake, index })
    }

    pub fn get_redis(name: &str) -> Result<Redis> {
        let fake = Fake::current();
        let address = match fake.state().stored(name, Kind::Redis)? {
            Stored::Redis(address) => address.clone(),
            _ => unreachable!("`stored` checks the kind"),
        };
        Ok(Redis { fake, address })
    }

    pub fn get_text(name: &str) -> Result<String> {
        match Fake::current().state().stored(name, Kind::Text)? {
            Stored::Text(text) => Ok(text.clone()),
            _ => unreachable!("`stored` checks the kind"),
        }
    }

    pub fn get_bytes(name: &str) -> Result<Vec<u8>> {
        match Fake::current().state().stored(name, Kind::Bytes)? {
            Stored::Bytes(bytes) => Ok(bytes.clone()),
            _ => unreachable!("`stored` checks the kind"),
        }
    }

    pub fn set_publisher(name: &str, value: &Publisher) -> Result<()> {
        Fake::current()
            .state()
            .store(name, Stored::Publisher(value.index))
    }

    pub fn set_redis(name: &str, value: &Redis) -> Result<()> {
        Fake::current()
            .state()
            .store(name, Stored::Redis(value.address.clone()))
    }

    pub fn set_text(name: &str, value: &str) -> Result<()> {
        Fake::current()
            .state()
            .store(name, Stored::Text(value.to_owned()))
    }

    pub fn set_bytes(name: &str, value: &[u8]) -> Result<()> {
        Fake::current()
            .state()
            .store(name, Stored::Bytes(value.to_owned()))
    }

    pub fn remove(name: &str) -> bool {
        Fake::current().state().registry.remove(name).is_some()
    }

    pub fn keys() -> Vec<String> {
        Fake::current().state().registry.keys().cloned().collect()
    }
}

pub mod config {
    use super::{Fake, Result};

    pub fn get(name: &str) -> Result<Option<String>> {
        Ok(Fake::current().state().config.get(name).cloned())
    }

    pub fn all() -> Result<Vec<(String, String)>> {
        Ok(Fake::current().state().config.clone().into_iter().collect())
    }
}

pub fn sleep(duration: Duration) {
    Fake::current().advance(duration);
}
