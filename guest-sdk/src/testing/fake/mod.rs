//! What a node keeps, and what it answers.
//!
//! One file per concept: `streams` (requests, connections), `publishing` (channels, history), `redis`, `registry`,
//! `checks` (events, names, responses, origins). Time is here, for all of them.

mod checks;
mod publishing;
mod redis;
mod registry;
mod streams;

use std::{
    cell::{RefCell, RefMut},
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    time::Duration,
};

use super::{Published, Upstream};
use crate::{CloseReason, Disconnection, http, redis::Value};

pub use checks::check_name;
pub use publishing::PublisherKind;
pub use redis::{RedisAddress, check_command};
pub use registry::Stored;
pub use streams::{Answer, RequestState};

thread_local! {
    /// The hosts whose guests are running in this thread, the innermost last.
    static RUNNING: RefCell<Vec<Rc<Fake>>> = const { RefCell::new(Vec::new()) };
}

/// A node.
#[derive(Default)]
pub struct Fake {
    state: RefCell<State>,
    scheduled: RefCell<Vec<Scheduled>>,
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
            history_limit: publishing::HISTORY_EVENTS,
            published: Vec::new(),
            publishers: Vec::new(),
            requests: 0,
            events: 0,
            given: HashMap::new(),
        }
    }
}

struct Scheduled {
    at: Duration,
    code: Box<dyn FnOnce(Rc<Fake>)>,
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

    /// Runs code after so much time.
    pub fn schedule(&self, after: Duration, code: impl FnOnce(Rc<Fake>) + 'static) {
        let at = self.state().now.saturating_add(after);
        self.scheduled.borrow_mut().push(Scheduled {
            at,
            code: Box::new(code),
        });
    }

    /// Lets time pass, and does what falls due at its own time.
    pub fn advance(self: &Rc<Self>, duration: Duration) {
        let end = self.state().now.saturating_add(duration);
        loop {
            let in_state = self.state().next_end().filter(|(at, ..)| *at <= end);
            let limit = in_state.map_or(end, |(at, ..)| at);
            if let Some(Scheduled { at, code }) = self.take_scheduled(limit) {
                self.pass_until(at);
                code(self.clone());
            } else if let Some((at, index, reason)) = in_state {
                self.pass_until(at);
                self.state().end(index, reason);
            } else {
                break;
            }
        }
        self.pass_until(end);
    }

    /// The earliest piece of code that is due by `limit`; of several at one time, the one scheduled first.
    fn take_scheduled(&self, limit: Duration) -> Option<Scheduled> {
        let mut scheduled = self.scheduled.borrow_mut();
        let (index, earliest) = scheduled
            .iter()
            .enumerate()
            .min_by_key(|(index, item)| (item.at, *index))?;
        (earliest.at <= limit).then(|| scheduled.remove(index))
    }

    /// Never back: code that ran meanwhile may have slept past it.
    fn pass_until(&self, at: Duration) {
        let mut state = self.state();
        state.now = state.now.max(at);
    }
}

impl State {
    /// The next connection to end by itself: its client hangs up, or its inactivity timeout comes.
    fn next_end(&self) -> Option<(Duration, usize, CloseReason)> {
        let ends = self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| stream.end.is_none());
        ends.flat_map(|(index, stream)| {
            let hang_up = stream
                .hang_up_at
                .map(|at| (at, index, CloseReason::ClientGone));
            let inactive = stream
                .inactive_at()
                .map(|at| (at, index, CloseReason::Inactive));
            [hang_up, inactive]
        })
        .flatten()
        .min_by_key(|(at, index, _)| (*at, *index))
    }
}
