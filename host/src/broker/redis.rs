//! The broker of many nodes: Redis pub/sub.
//!
//! Every node, the publishing one included, delivers what its own subscription hears, and nothing else: so the
//! order of events is the order in which Redis took them, on every node. [`Redis`] waits for the echo of each
//! event that it publishes, so that afterwards the event is in the queues of this node's connections.
//!
//! Redis keeps nothing of what it carries. While a node's subscription is broken, its connections miss what other
//! nodes publish, and are told so by a gap event; replaying it would begin in `Receiver::run`, where the break is
//! known.

mod envelope;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::consume_budget,
    time::{sleep, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use self::envelope::Envelope;
use super::{Broker, BrokerError};
use crate::{
    event::{Event, IdForm},
    hub::{Published, Space, channel::ChannelName},
    redis_pool::{Backoff, Heard, RedisClient, RedisError, RedisPool, RedisUrl, Subscription},
};

/// How long an echo is waited for after the connection that the event was sent over broke. An event that Redis
/// took before that is echoed at once.
const GRACE: Duration = Duration::from_millis(500);
/// What is skipped is logged at most once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Carries a publisher's events over one Redis channel.
#[derive(Debug)]
pub struct Redis {
    pool: Arc<RedisPool>,
    url: RedisUrl,
    shared: Arc<Shared>,
    /// The number of the next event that is published here.
    next: AtomicU64,
    running: Mutex<Option<Running>>,
}

/// What there is once it was started.
#[derive(Debug)]
struct Running {
    client: RedisClient,
    _receiver: AbortOnDropHandle<()>,
}

/// What publishing and receiving share.
#[derive(Debug)]
struct Shared {
    /// Tells this broker from all others, on other nodes and before a restart.
    node: String,
    /// The Redis channel.
    channel: String,
    space: Space,
    state: Mutex<State>,
    /// Told when the state says that the subscription is broken and its connection may not know it.
    distrust: Notify,
}

#[derive(Debug)]
struct State {
    /// The number of the current subscription, or why there is none.
    subscription: Result<u64, String>,
    /// Who waits for the echo of an event, by its number.
    waiting: HashMap<u64, oneshot::Sender<Published>>,
}

/// Delivers what the subscription hears.
#[derive(Debug)]
struct Receiver {
    shared: Arc<Shared>,
    client: RedisClient,
    /// When something that was skipped was logged, and how much was skipped since.
    complained: Option<Instant>,
    skipped: u64,
}

/// Ends the wait for an echo, however publishing ends.
struct Waiting<'a> {
    shared: &'a Shared,
    number: u64,
}

// === impl Redis ===

impl Redis {
    /// A broker over this server and Redis channel that delivers to the space. It connects when it is started.
    pub fn new(pool: Arc<RedisPool>, url: RedisUrl, channel: String, space: Space) -> Self {
        let state = State {
            subscription: Err("it was not started".into()),
            waiting: HashMap::new(),
        };
        let shared = Shared {
            node: format!("{:016x}", rand::random::<u64>()),
            channel,
            space,
            state: Mutex::new(state),
            distrust: Notify::new(),
        };
        Self {
            pool,
            url,
            shared: Arc::new(shared),
            next: AtomicU64::new(1),
            running: Mutex::new(None),
        }
    }

    /// Sends an event in its envelope and waits for its echo.
    async fn send(
        &self,
        client: &RedisClient,
        number: u64,
        id: &str,
        envelope: Vec<u8>,
    ) -> Result<Published, BrokerError> {
        let shared = &*self.shared;
        let address = self.url.address();
        // What is known to fail is not begun: then the error surely means that nothing was published.
        client.check_up()?;
        let (subscription, heard) = shared.expect(number, &address)?;
        let _waiting = Waiting { shared, number };
        let heard = heard.shared();
        let mut deadline = tokio::time::Instant::now() + client.timeout();

        let receivers = tokio::select! {
            biased;
            Ok(published) = heard.clone() => return Ok(published),
            receivers = client.publish(&shared.channel, envelope) => receivers,
        };
        match &receivers {
            Ok(0) => {
                // Not even this node: the server is another than the one it listens to, or has forgotten it.
                shared.subscription_broke(subscription, "the server does not know of it any more");
                return Err(BrokerError::Unavailable(format!(
                    "nobody heard the event at Redis at {address}, not even this node, which will subscribe again; it \
                     was not published"
                )));
            }
            // Taken: the echo is on its way.
            Ok(_) => {}
            // No answer: it may have been taken all the same, and then there is an echo.
            Err(RedisError::Unavailable(_)) => {
                deadline = deadline.min(tokio::time::Instant::now() + GRACE);
            }
            Err(error) => return Err(error.clone().into()),
        }
        if let Ok(Ok(published)) = timeout_at(deadline, heard).await {
            return Ok(published);
        }
        receivers?;
        tracing::warn!(
            channel = shared.channel,
            id,
            "an event was published, but the subscription broke before this node heard it: its connections missed it"
        );
        Ok(Published {
            id: id.to_owned(),
            delivered: 0,
            duplicate: false,
        })
    }
}

#[async_trait]
impl Broker for Redis {
    async fn start(&self) -> Result<(), BrokerError> {
        let client = self.pool.connect(&self.url).await?;
        let subscription = client.subscribe(&self.shared.channel).await?;
        let number = self.shared.subscribed();
        let receiver = Receiver {
            shared: self.shared.clone(),
            client: client.clone(),
            complained: None,
            skipped: 0,
        };
        let _receiver =
            AbortOnDropHandle::new(client.runtime().spawn(receiver.run(number, subscription)));
        *self.running.lock() = Some(Running { client, _receiver });
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: Event) -> Result<Published, BrokerError> {
        let client = self
            .running
            .lock()
            .as_ref()
            .map(|running| running.client.clone());
        let client =
            client.ok_or_else(|| BrokerError::Unavailable("the broker was not started".into()))?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (id, event) = match event.id() {
            Some(id) => (id.to_owned(), event),
            None => {
                // With a dot, because the ids that a hub gives have a dash.
                let id = format!("{}.{number}", self.shared.node);
                let named = event.with_id(id.clone(), IdForm::Plain);
                (
                    id,
                    named.map_err(|error| BrokerError::Unavailable(error.to_string()))?,
                )
            }
        };
        let envelope = envelope::encode(&self.shared.node, number, channel, &event);
        self.send(&client, number, &id, envelope).await
    }
}

// === impl Shared ===

impl Shared {
    /// There is a new subscription. Returns its number.
    fn subscribed(&self) -> u64 {
        let number = rand::random();
        self.state.lock().subscription = Ok(number);
        number
    }

    /// The subscription of this number is broken, if it is still the current one.
    fn subscription_broke(&self, number: u64, reason: &str) {
        let mut state = self.state.lock();
        if state.subscription == Ok(number) {
            state.subscription = Err(reason.to_owned());
            // Nobody of them will hear an echo.
            state.waiting.clear();
            self.distrust.notify_one();
        }
    }

    /// Waits until the subscription is said to be broken, and returns why.
    async fn distrusted(&self) -> String {
        loop {
            if let Err(reason) = &self.state.lock().subscription {
                return reason.clone();
            }
            self.distrust.notified().await;
        }
    }

    /// Begins to wait for the echo of an event. Returns the number of the subscription that will hear it.
    fn expect(
        &self,
        number: u64,
        address: &str,
    ) -> Result<(u64, oneshot::Receiver<Published>), BrokerError> {
        let mut state = self.state.lock();
        let subscription = state.subscription.clone().map_err(|reason| {
            BrokerError::Unavailable(format!(
                "the subscription at Redis at {address} is broken ({reason}) and will be made again as soon as it \
                 can be; the event was not published"
            ))
        })?;
        let (sender, heard) = oneshot::channel();
        state.waiting.insert(number, sender);
        Ok((subscription, heard))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().waiting.remove(&self.number);
    }
}

// === impl Receiver ===

impl Receiver {
    /// Delivers for ever, over one subscription after the other.
    async fn run(mut self, mut number: u64, mut subscription: Subscription) {
        let address = self.client.url().address();
        let mut backoff = Backoff::new();
        loop {
            let since = Instant::now();
            let reason = self.receive(&mut subscription).await;
            backoff.lasted(since.elapsed());
            self.shared.subscription_broke(number, &reason);
            tracing::warn!(
                address,
                channel = self.shared.channel,
                reason,
                "the subscription at Redis broke; publishing fails until it is back"
            );
            let since = Instant::now();
            subscription = loop {
                sleep(backoff.next()).await;
                match self.client.subscribe(&self.shared.channel).await {
                    Ok(subscription) => break subscription,
                    Err(error) => {
                        tracing::debug!(address, %error, "the subscription cannot be made yet")
                    }
                }
            };
            number = self.shared.subscribed();
            self.shared.space.missed();
            tracing::info!(
                address,
                channel = self.shared.channel,
                away = ?since.elapsed(),
                "the subscription at Redis is back; what other nodes published in between was not heard, and clients are told of a gap"
            );
        }
    }

    /// Delivers until the subscription breaks, and returns why.
    async fn receive(&mut self, subscription: &mut Subscription) -> String {
        loop {
            let heard = tokio::select! {
                heard = subscription.next() => heard,
                reason = self.shared.distrusted() => return reason,
            };
            match heard {
                Ok(Heard::Message(message)) => {
                    self.deliver(&message);
                    // What the node cannot deliver yet waits at Redis, not here.
                    self.shared.space.room().await;
                }
                Ok(Heard::TooLarge) => self.complain("it is too large"),
                Err(error) => return error.to_string(),
            }
            // Messages that have been read already are there without waiting: others want to run as well.
            consume_budget().await;
        }
    }

    fn deliver(&mut self, message: &[u8]) {
        let space = &self.shared.space;
        let envelope = match Envelope::decode(message, space.event_data()) {
            Ok(envelope) => envelope,
            Err(error) => return self.complain(&error.to_string()),
        };
        let published = space.publish(&envelope.channel, &envelope.event);
        if envelope.node == self.shared.node {
            let waiting = self.shared.state.lock().waiting.remove(&envelope.number);
            if let Some(waiting) = waiting {
                // Whoever published it may have given up.
                let _ = waiting.send(published);
            }
        }
    }

    /// Logs that a message was skipped, but not for every message.
    fn complain(&mut self, reason: &str) {
        self.skipped += 1;
        if self
            .complained
            .is_some_and(|at| at.elapsed() < COMPLAINT_INTERVAL)
        {
            return;
        }
        tracing::warn!(
            channel = self.shared.channel,
            reason,
            skipped = self.skipped,
            "a message on the Redis channel is not an event of a publisher and was skipped"
        );
        self.complained = Some(Instant::now());
        self.skipped = 0;
    }
}

impl From<RedisError> for BrokerError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Denied(text) => Self::Denied(text),
            RedisError::Invalid(text)
            | RedisError::Unavailable(text)
            | RedisError::Limited(text)
            | RedisError::Other(text) => Self::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests;
