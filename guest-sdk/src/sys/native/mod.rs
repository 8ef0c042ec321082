//! The host of a test: handles to the fake in `testing::fake`.

pub mod asynchronous;
pub mod blocking;
pub mod registry;

use std::{cell::RefCell, rc::Rc};

use crate::{
    Error, Event, Response, Result, Upgrade,
    testing::fake::{Fake, PublisherKind, RedisAddress, RequestState, check_name},
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
    /// A handle to a publisher of which the fake has the number.
    pub fn known(fake: &Rc<Fake>, index: usize) -> Self {
        Self {
            fake: fake.clone(),
            index,
        }
    }

    pub fn in_memory() -> Self {
        Self::of(Fake::current(), PublisherKind::InMemory)
    }

    pub fn redis(client: &Redis, sync_channel: &str) -> Result<Self> {
        check_name("a sync channel", sync_channel)?;
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
}

pub struct Redis {
    fake: Rc<Fake>,
    address: RedisAddress,
}

impl Redis {
    fn connect(url: &str) -> Result<Self> {
        let fake = Fake::current();
        let address = RedisAddress::parse(url)?;
        fake.state().redis(&address)?;
        Ok(Self { fake, address })
    }

    pub fn address(&self) -> String {
        self.address.server.clone()
    }
}

pub mod config {
    use crate::{Result, testing::fake::Fake};

    pub fn get(name: &str) -> Result<Option<String>> {
        Ok(Fake::current().state().config.get(name).cloned())
    }

    pub fn all() -> Result<Vec<(String, String)>> {
        Ok(Fake::current().state().config.clone().into_iter().collect())
    }
}
