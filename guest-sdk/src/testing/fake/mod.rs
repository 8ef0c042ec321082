//! What a node keeps, and what it answers.
//!
//! One file per concept: `streams` (requests, connections), `publishing` (channels, history), `redis`, `registry`,
//! `checks` (events, names, responses, origins), `clock` (time, and what falls due), `tasks` (asynchronous code).

mod checks;
mod clock;
mod publishing;
mod redis;
mod registry;
mod streams;
mod tasks;

use std::{
    cell::{RefCell, RefMut},
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use super::{Published, Upstream};
use crate::{Disconnection, http, redis::Value};

pub use checks::check_name;
pub use publishing::PublisherKind;
pub use redis::{RedisAddress, check_command};
pub use registry::Stored;
pub use streams::{Answer, RequestState};

/// What a test is told whose guest never returns.
const FOR_EVER: &str = "the guest waits for ever: nothing is left to happen in this host; should its client hang \
                        up, by `Request::hang_up_after`, or other code run, by `Host::after`?";

thread_local! {
    /// The hosts whose guests are running in this thread, the innermost last.
    static RUNNING: RefCell<Vec<Rc<Fake>>> = const { RefCell::new(Vec::new()) };
}

/// A node.
#[derive(Default)]
pub struct Fake {
    state: RefCell<State>,
    scheduled: RefCell<Vec<clock::Scheduled>>,
    tasks: RefCell<VecDeque<tasks::Task>>,
}

/// Another server, as a test plays it.
pub type Answering = Rc<dyn Fn(&http::Request) -> Upstream>;

/// What a node keeps. Nothing of a guest runs while it is borrowed.
pub struct State {
    pub now: Duration,
    pub config: BTreeMap<String, String>,
    pub registry: BTreeMap<String, Stored>,
    pub brokers: BTreeSet<String>,
    pub redis_servers: BTreeMap<String, redis::Server>,
    pub redis_answers: BTreeMap<String, Value>,
    pub redis_published: Vec<(String, Vec<u8>)>,
    pub upstreams: BTreeMap<String, Answering>,
    pub streams: Vec<streams::Stream>,
    pub disconnections: Vec<Disconnection>,
    /// The channels, by publisher, that the app was told are occupied.
    pub occupied: BTreeSet<(usize, String)>,
    pub history_limit: usize,
    pub published: Vec<Published>,
    publishers: Vec<publishing::Publisher>,
    requests: usize,
    /// How many events were published.
    events: u64,
    /// The places of the ids that the host gave and knows however old they are.
    given: HashMap<String, u64>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            now: Duration::ZERO,
            config: BTreeMap::new(),
            registry: BTreeMap::new(),
            brokers: BTreeSet::new(),
            redis_servers: BTreeMap::new(),
            redis_answers: BTreeMap::new(),
            redis_published: Vec::new(),
            upstreams: BTreeMap::new(),
            streams: Vec::new(),
            disconnections: Vec::new(),
            occupied: BTreeSet::new(),
            history_limit: publishing::HISTORY_EVENTS,
            published: Vec::new(),
            publishers: Vec::new(),
            requests: 0,
            events: 0,
            given: HashMap::new(),
        }
    }
}

impl Fake {
    /// The host of the guest that is running.
    pub fn current() -> Rc<Self> {
        RUNNING.with_borrow(|running| running.last().cloned()).expect(
            "this code calls the host, and no host runs it: call it inside `Host::run`, `Host::start` or \
             `Host::handle` of a `fanfare_guest::testing::Host`",
        )
    }

    /// Runs code of a guest.
    pub fn enter<R>(self: &Rc<Self>, code: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                RUNNING.with_borrow_mut(Vec::pop);
            }
        }
        RUNNING.with_borrow_mut(|running| running.push(self.clone()));
        let _leave = Leave;
        code()
    }

    pub fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }
}
