//! The host as a test sees it.

use std::{
    cell::RefCell, collections::BTreeSet, fmt, marker::PhantomData, pin::pin, rc::Rc,
    time::Duration,
};

use super::{
    Outcome, Request, Stream, Upstream,
    fake::{Fake, RequestState},
};
use crate::{
    App, Disconnected, Disconnection, Event, Occupancy, Result, asynchronous,
    flavour::{Asynchronous, Blocking, Publisher, Request as Handle},
    http,
    redis::Value,
    sys,
};

/// A node that runs one app, in memory and on a clock of its own.
///
/// Code that calls this crate runs inside its `run`, `start`, `handle`, `disconnected` or `occupancy`.
pub struct Host<F> {
    fake: Rc<Fake>,
    flavour: PhantomData<F>,
}

/// An event that was published on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// When, on the clock of the host.
    pub at: Duration,
    /// Where.
    pub channel: String,
    /// The event, with the id it got.
    pub event: Event,
}

impl<F: 'static> Host<F> {
    /// A node that was just started: no variables, no grants, an empty registry.
    #[allow(
        clippy::new_without_default,
        reason = "there is no default host: each is a node of its own"
    )]
    pub fn new() -> Self {
        Self::of(Rc::default())
    }

    /// Sets a variable of the app.
    pub fn set_config(&self, name: impl Into<String>, value: impl Into<String>) -> &Self {
        self.fake.state().config.insert(name.into(), value.into());
        self
    }

    /// Grants the app a Redis server, `host:port`, which is empty at first. It knows the commands that
    /// [`Redis`](crate::Redis) has methods for, and what [`answer_redis`](Self::answer_redis) teaches it.
    pub fn grant_redis(&self, address: impl Into<String>) -> &Self {
        self.fake
            .state()
            .redis_servers
            .entry(address.into())
            .or_default();
        self
    }

    /// Makes a Redis server unreachable, or reachable again with what it held.
    ///
    /// # Panics
    ///
    /// For a server that was not granted.
    #[track_caller]
    pub fn set_redis_reachable(&self, address: &str, reachable: bool) -> &Self {
        let mut state = self.fake.state();
        let server = state
            .redis_servers
            .get_mut(address)
            .expect("the server should be granted first, by `grant_redis`");
        server.unreachable = !reachable;
        drop(state);
        self
    }

    /// Lets all Redis servers answer a command, whatever its arguments, with this value.
    pub fn answer_redis(&self, command: &str, value: Value) -> &Self {
        self.fake
            .state()
            .redis_answers
            .insert(command.to_ascii_uppercase(), value);
        self
    }

    /// What handlers published with [`Redis::publish`](crate::Redis::publish): channels and payloads.
    pub fn published_on_redis(&self) -> Vec<(String, Vec<u8>)> {
        self.fake.state().redis_published.clone()
    }

    /// Grants the app the broker that [`Publisher::open`](crate::Publisher::open) finds under a label.
    pub fn grant_broker(&self, label: impl Into<String>) -> &Self {
        self.fake.state().brokers.insert(label.into());
        self
    }

    /// Grants the app an origin, such as `https://api.example.org`, whose server answers requests like this. What the
    /// code looks at of a request, a test may assert.
    pub fn upstream(
        &self,
        origin: impl Into<String>,
        answer: impl Fn(&http::Request) -> Upstream + 'static,
    ) -> &Self {
        self.fake
            .state()
            .upstreams
            .insert(origin.into(), Rc::new(answer));
        self
    }

    /// How many events a channel keeps; 100 at first. It also keeps no more than 256 KiB, and none for longer than
    /// two minutes.
    pub fn limit_history(&self, events: usize) -> &Self {
        self.fake.state().history_limit = events;
        self
    }

    /// How long the node has been running, on its own clock.
    pub fn elapsed(&self) -> Duration {
        self.fake.state().now
    }

    /// Lets time pass between calls, with what falls due: hang-ups, inactivity timeouts, and code from
    /// [`after`](Self::after).
    pub fn advance(&self, duration: Duration) {
        self.fake.advance(duration);
    }

    /// Runs code later, while a handler sleeps or the test [advances](Self::advance) the clock: another visitor, for
    /// instance.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use fanfare_guest::{App, Request, Result, sleep, testing::{self, Host}};
    /// # struct Waits;
    /// # impl App for Waits {
    /// #     fn handle(request: Request) -> Result<()> {
    /// #         let stream = request.upgrade()?;
    /// #         sleep(Duration::from_secs(5));
    /// #         stream.send("slept")
    /// #     }
    /// # }
    /// let host = Host::new();
    /// host.after(Duration::from_secs(2), |host| {
    ///     host.handle::<Waits>(testing::Request::get("/?visitor=2"));
    /// });
    /// host.handle::<Waits>(testing::Request::get("/?visitor=1"));
    /// assert_eq!(host.streams().len(), 2);
    /// ```
    pub fn after(&self, duration: Duration, code: impl FnOnce(&Self) + 'static) {
        self.fake
            .schedule(duration, move |fake| code(&Host::of(fake)));
    }

    /// All event streams that were opened, in their order, also those that have ended.
    pub fn streams(&self) -> Vec<Stream> {
        let count = self.fake.state().streams.len();
        (0..count)
            .map(|index| Stream::new(self.fake.clone(), index))
            .collect()
    }

    /// All events that were published, in their order.
    pub fn published(&self) -> Vec<Published> {
        self.fake.state().published.clone()
    }

    fn of(fake: Rc<Fake>) -> Self {
        Self {
            fake,
            flavour: PhantomData,
        }
    }

    /// A request on its way, and the handle to it.
    fn request(&self, request: Request) -> (Rc<RefCell<RequestState>>, Handle<F>) {
        let state = RequestState::new(&mut self.fake.state(), request);
        let state = Rc::new(RefCell::new(state));
        let handle = sys::Request {
            fake: self.fake.clone(),
            state: state.clone(),
        };
        (state, Handle::from_sys(handle))
    }

    /// What changed since the app was told: publisher, channel, and whether it is occupied now.
    fn take_occupancy(&self) -> Vec<(sys::Publisher, String, bool)> {
        let mut state = self.fake.state();
        let registrations = state
            .streams
            .iter()
            .flat_map(|stream| &stream.registrations);
        let occupied: BTreeSet<_> = registrations.cloned().collect();
        let told = std::mem::replace(&mut state.occupied, occupied.clone());
        let vacated = told.difference(&occupied).map(|channel| (channel, false));
        let changes = vacated.chain(occupied.difference(&told).map(|channel| (channel, true)));
        let changes = changes.map(|((publisher, channel), occupied)| {
            let publisher = sys::Publisher::known(&self.fake, *publisher);
            (publisher, channel.clone(), occupied)
        });
        changes.collect()
    }

    fn take_disconnections(&self) -> Vec<Disconnection> {
        std::mem::take(&mut self.fake.state().disconnections)
    }
}

impl Host<Blocking> {
    /// Runs code of a guest that is no handler, such as the functions that handlers call.
    pub fn run<R>(&self, code: impl FnOnce() -> R) -> R {
        self.fake.enter(code)
    }

    /// Calls the app's [`start`](App::start), as a node does before the first request.
    pub fn start<A: App>(&self) -> Result<()> {
        self.run(A::start)
    }

    /// Calls the app's [`handle`](App::handle) and returns once it has returned. What the handler got wrong the client
    /// is told as by a node in development: in a 500, or on its stream as an event of the type `fanfare-error`.
    pub fn handle<A: App>(&self, request: Request) -> Outcome {
        let (state, request) = self.request(request);
        let result = self.run(|| A::handle(request));
        Outcome::new(&self.fake, result, &mut state.borrow_mut())
    }

    /// Calls the app's [`disconnected`](Disconnected::disconnected) for every connection that ended and was not
    /// reported before. Returns how many those were.
    pub fn disconnected<A: Disconnected>(&self) -> usize {
        let ended = self.take_disconnections();
        let count = ended.len();
        self.run(|| ended.into_iter().for_each(A::disconnected));
        count
    }

    /// Calls the app's [`channel_vacated`](Occupancy::channel_vacated) and
    /// [`channel_occupied`](Occupancy::channel_occupied) for what changed since this was called before. Returns how many
    /// channels those were.
    pub fn occupancy<A: Occupancy>(&self) -> usize {
        let changes = self.take_occupancy();
        let count = changes.len();
        self.run(|| {
            for (publisher, channel, occupied) in changes {
                let publisher = Publisher::from_sys(publisher);
                match occupied {
                    true => A::channel_occupied(publisher, channel),
                    false => A::channel_vacated(publisher, channel),
                }
            }
        });
        count
    }
}

/// What handlers leave running when they return, by [`spawn`](asynchronous::spawn), goes on whenever the clock does.
///
/// # Panics
///
/// All functions that run code of a guest, where it waits for what will not happen.
impl Host<Asynchronous> {
    /// Runs code of a guest that is no handler, such as the functions that handlers call.
    pub fn run<C: Future>(&self, code: C) -> C::Output {
        self.fake.run(pin!(code))
    }

    /// Calls the app's [`start`](asynchronous::App::start), as a node does before the first request.
    pub fn start<A: asynchronous::App>(&self) -> Result<()> {
        self.run(A::start())
    }

    /// Calls the app's [`handle`](asynchronous::App::handle) and returns once it has returned. Handlers that
    /// [`after`](Self::after) calls meanwhile, and this one, take turns. What the handler got wrong the client is told
    /// as by a node in development: in a 500, or on its stream as an event of the type `fanfare-error`.
    pub fn handle<A: asynchronous::App + 'static>(&self, request: Request) -> Outcome {
        let (state, request) = self.request(request);
        let fake = self.fake.clone();
        self.fake.run_among_others(async move {
            let result = A::handle(request).await;
            Outcome::new(&fake, result, &mut state.borrow_mut())
        })
    }

    /// Calls the app's [`disconnected`](asynchronous::Disconnected::disconnected) for every connection that ended and
    /// was not reported before, one after the other. Returns how many those were.
    pub fn disconnected<A: asynchronous::Disconnected>(&self) -> usize {
        let ended = self.take_disconnections();
        let count = ended.len();
        self.run(async {
            for gone in ended {
                A::disconnected(gone).await;
            }
        });
        count
    }

    /// As in the blocking flavour, one after the other.
    pub fn occupancy<A: asynchronous::Occupancy>(&self) -> usize {
        let changes = self.take_occupancy();
        let count = changes.len();
        self.run(async {
            for (publisher, channel, occupied) in changes {
                let publisher = Publisher::from_sys(publisher);
                match occupied {
                    true => A::channel_occupied(publisher, channel).await,
                    false => A::channel_vacated(publisher, channel).await,
                }
            }
        });
        count
    }
}

impl<F: 'static> fmt::Debug for Host<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host(running for {:?})", self.elapsed())
    }
}
