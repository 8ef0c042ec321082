//! The connection that events are pushed over: which channels it hears, and how it is made anew.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::consume_budget,
    time::{interval, sleep, timeout},
};

use super::{
    super::{BrokerError, Pushed, feed::Sink},
    log::{Log, Message},
};
use crate::{
    hub::channel::ChannelName,
    redis_pool::{Backoff, Heard, Push, RedisError},
};

/// How often a node has itself told how far the log goes. What was published before the last time is not read again
/// after a break.
const TELL: Duration = Duration::from_secs(3);
/// Requests that are taken at a time.
const BATCH: usize = 1000;

/// Delivers what is pushed.
pub(super) struct Receiver {
    log: Arc<Log>,
    sink: Sink,
    push: Push,
    /// The Redis channel of this node alone.
    own: String,
    /// That of all nodes.
    all: String,
    /// When it asked to be told over that how far the log goes, until it is.
    asked: Option<Instant>,
    /// The Redis channels that are to be heard, with the events of channels.
    channels: HashSet<String>,
    /// For each channel, those who wait for the answers to the commands that asked to hear it, in their order.
    waiting: HashMap<String, VecDeque<Vec<oneshot::Sender<()>>>>,
    /// How many answers are to come that a channel is not heard any more.
    leaving: HashMap<String, usize>,
    requests: mpsc::UnboundedReceiver<Request>,
}

/// Where the receiver is told which channels to hear.
pub(super) struct Requests {
    log: Arc<Log>,
    requests: mpsc::UnboundedSender<Request>,
}

enum Request {
    /// Hear this Redis channel, and say when it is so.
    Subscribe(String, oneshot::Sender<()>),
    /// Do not hear it any more.
    Unsubscribe(String),
}

// === impl Requests ===

impl Requests {
    /// Hears the channel from now on. Returns when it is so.
    pub(super) async fn subscribe(&self, channel: &ChannelName) -> Result<(), BrokerError> {
        let (sender, subscribed) = oneshot::channel();
        let push = self.log.push_channel(channel);
        // The receiver ends only with the broker.
        let _ = self.requests.send(Request::Subscribe(push, sender));
        match timeout(self.log.client().timeout(), subscribed).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(BrokerError::Unavailable(format!(
                "the subscription at Redis at {} is broken and will be made again as soon as it can be; channels that \
                 this node does not hear yet cannot be registered on until then",
                self.log.client().url().place()
            ))),
        }
    }

    /// Does not hear the channel any more.
    pub(super) fn unsubscribe(&self, channel: &ChannelName) {
        let push = self.log.push_channel(channel);
        let _ = self.requests.send(Request::Unsubscribe(push));
    }
}

// === impl Receiver ===

impl Receiver {
    /// Opens the connection.
    pub(super) async fn open(
        log: Arc<Log>,
        own: String,
        sink: Sink,
    ) -> Result<(Self, Requests), RedisError> {
        let (sender, requests) = mpsc::unbounded_channel();
        let mut receiver = Self {
            push: log.client().push().await?,
            log: log.clone(),
            sink,
            own,
            all: log.channel_of_all(),
            asked: None,
            channels: HashSet::new(),
            waiting: HashMap::new(),
            leaving: HashMap::new(),
            requests,
        };
        receiver.resubscribe().await?;
        let requests = Requests {
            log,
            requests: sender,
        };
        Ok((receiver, requests))
    }

    /// Delivers for ever, over one connection after the other.
    pub(super) async fn run(mut self) {
        let client = self.log.client().clone();
        let address = client.url().place();
        let mut backoff = Backoff::new();
        loop {
            let since = Instant::now();
            let reason = self.receive().await;
            backoff.lasted(since.elapsed());
            self.sink.broke();
            self.waiting.clear();
            tracing::warn!(
                address,
                reason = %reason,
                "the subscription at Redis broke; what is published meanwhile is delivered when it is back"
            );
            let since = Instant::now();
            loop {
                self.wait(backoff.next()).await;
                match self.reopen().await {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::debug!(address, %error, "the subscription cannot be made yet")
                    }
                }
            }
            self.sink.back();
            tracing::info!(address, away = ?since.elapsed(), "the subscription at Redis is back");
        }
    }

    /// Waits so long. Who asks meanwhile to hear a channel is told at once that it cannot be.
    async fn wait(&mut self, time: Duration) {
        let end = sleep(time);
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                request = self.requests.recv() => match request {
                    Some(Request::Unsubscribe(push)) => {
                        self.channels.remove(&push);
                    }
                    Some(Request::Subscribe(..)) => {}
                    None => return end.await,
                },
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), RedisError> {
        self.push = self.log.client().push().await?;
        self.resubscribe().await?;
        // Over the connection for commands: what was missed is read over that one.
        self.log.newest_position().await?;
        Ok(())
    }

    /// Hears all channels that are to be heard, over a new connection. Returns when it is so.
    async fn resubscribe(&mut self) -> Result<(), RedisError> {
        self.asked = None;
        self.leaving.clear();
        let names = self.channels.iter().chain([&self.own, &self.all]);
        let names: Vec<_> = names.cloned().collect();
        self.push.subscribe(&names).await?;
        let confirmed = async {
            let mut missing = names.len();
            while missing > 0 {
                match self.push.next().await? {
                    Heard::Subscribed(_) => missing -= 1,
                    // Of a channel that is read anyway after this.
                    Heard::Message { .. } | Heard::TooLarge | Heard::Unsubscribed(_) => {}
                    Heard::Refused(error) => {
                        let address = self.log.client().url().place();
                        return Err(RedisError::refused(&address, &error));
                    }
                }
            }
            Ok(())
        };
        let limit = self.log.client().timeout();
        match timeout(limit, confirmed).await {
            Ok(confirmed) => confirmed,
            Err(_) => Err(RedisError::Unavailable(format!(
                "Redis at {} did not confirm the subscription within {limit:?}",
                self.log.client().url().place()
            ))),
        }
    }

    /// Delivers until the connection breaks, and returns why.
    async fn receive(&mut self) -> RedisError {
        let mut tell = interval(TELL);
        let mut batch = Vec::new();
        let log = self.log.clone();
        let own = self.own.clone();
        let mut telling = std::pin::pin!(None);
        loop {
            let done = tokio::select! {
                heard = self.push.next() => match heard {
                    Ok(heard) => self.heard(heard).await,
                    Err(error) => Err(error),
                },
                _ = self.requests.recv_many(&mut batch, BATCH) => self.take(&mut batch).await,
                _ = tell.tick() => {
                    let told = self.check_told();
                    if telling.is_none() {
                        telling.set(Some(log.tell(&own)));
                        self.asked.get_or_insert_with(Instant::now);
                    }
                    told
                }
                told = async { telling.as_mut().as_pin_mut().unwrap().await }, if telling.is_some() => {
                    telling.set(None);
                    if told.is_err() {
                        self.asked = None;
                    }
                    Ok(())
                }
            };
            if let Err(error) = done {
                return error;
            }
            // Messages that have been read already are there without waiting: others want to run as well.
            consume_budget().await;
        }
    }

    /// An error if this node was told over the connection for commands that it was told over this one, and was not:
    /// then they lead to different servers.
    fn check_told(&self) -> Result<(), RedisError> {
        let client = self.log.client();
        match self.asked {
            Some(asked) if asked.elapsed() > client.timeout().max(TELL) => {
                Err(RedisError::Unavailable(format!(
                    "Redis at {} does not push any more what is published there",
                    client.url().place()
                )))
            }
            _ => Ok(()),
        }
    }

    async fn heard(&mut self, heard: Heard) -> Result<(), RedisError> {
        if let Some(asked) = &mut self.asked {
            // There is more before that.
            *asked = Instant::now();
        }
        match heard {
            Heard::Message { channel, payload } if channel == self.own.as_bytes() => {
                self.asked = None;
                let position = std::str::from_utf8(&payload).ok();
                if let Some(position) = position.and_then(|position| position.parse().ok()) {
                    self.log.newest.saw(position);
                    self.sink.complete(position);
                }
            }
            Heard::Message { channel, payload } if channel == self.all.as_bytes() => {
                let position = std::str::from_utf8(&payload).ok();
                if let Some(position) = position.and_then(|position| position.parse().ok()) {
                    tracing::warn!(
                        address = self.log.client().url().place(),
                        "Redis has lost events that it had accepted; clients are told of a gap"
                    );
                    self.sink.lost(position);
                }
            }
            Heard::Message { channel, payload } => {
                self.deliver(&channel, &payload);
                // What the node cannot deliver yet waits at Redis, not here.
                self.sink.room().await;
            }
            Heard::Subscribed(channel) => {
                let channel = String::from_utf8(channel).unwrap_or_default();
                let Entry::Occupied(mut waiting) = self.waiting.entry(channel) else {
                    return Ok(());
                };
                for waiting in waiting.get_mut().pop_front().unwrap_or_default() {
                    // Whoever waited may have given up.
                    let _ = waiting.send(());
                }
                if waiting.get().is_empty() {
                    waiting.remove();
                }
            }
            Heard::Unsubscribed(channel) => {
                let channel = String::from_utf8(channel).unwrap_or_default();
                match self.leaving.entry(channel) {
                    Entry::Occupied(mut leaving) if *leaving.get() > 1 => *leaving.get_mut() -= 1,
                    Entry::Occupied(leaving) => {
                        leaving.remove();
                        self.give_back();
                    }
                    // Nobody asked for it.
                    Entry::Vacant(_) => {
                        let place = self.log.client().url().place();
                        return Err(RedisError::Unavailable(format!(
                            "Redis at {place} has given the channels to another server"
                        )));
                    }
                }
            }
            // It is read instead.
            Heard::TooLarge => {
                self.sink.broke();
                self.sink.back();
            }
            Heard::Refused(error) => {
                return Err(RedisError::refused(
                    &self.log.client().url().place(),
                    &error,
                ));
            }
        }
        Ok(())
    }

    fn deliver(&self, push: &[u8], message: &[u8]) {
        let channel = self.log.channel_of(push);
        let (Some(channel), Some(message)) = (channel, Message::parse(message)) else {
            tracing::warn!(
                channel = %String::from_utf8_lossy(push).escape_debug(),
                "what was published on this Redis channel is not an event of a publisher and is skipped"
            );
            return;
        };
        let placed = self
            .log
            .placed(&channel, &message, Duration::ZERO, self.sink.event_data());
        self.log.newest.saw(message.position);
        let is_lost = placed.is_none();
        let pushed = Pushed {
            position: message.position,
            previous: message.previous,
            placed,
        };
        self.sink.pushed(&channel, pushed);
        if is_lost {
            self.sink.unreadable(&channel, message.position);
        }
        // One server pushes over one connection, in the order in which it accepts.
        self.sink.complete(message.position);
    }

    /// What very many channels took is not kept for ever.
    fn give_back(&mut self) {
        if self.channels.len() < self.channels.capacity() / 8 {
            self.channels.shrink_to(self.channels.len() * 2);
        }
        if self.leaving.len() < self.leaving.capacity() / 8 {
            self.leaving.shrink_to(self.leaving.len() * 2);
        }
        if self.waiting.len() < self.waiting.capacity() / 8 {
            self.waiting.shrink_to(self.waiting.len() * 2);
        }
    }

    /// Does what was asked for, in order, with as few commands as can be.
    async fn take(&mut self, batch: &mut Vec<Request>) -> Result<(), RedisError> {
        // The last word on a channel counts: who wants to hear it, or nobody.
        let mut wanted: HashMap<String, Option<Vec<_>>> = HashMap::new();
        for request in batch.drain(..) {
            match request {
                Request::Subscribe(push, subscribed) => {
                    let waiting = wanted.entry(push).or_default();
                    waiting.get_or_insert_default().push(subscribed);
                }
                Request::Unsubscribe(push) => {
                    wanted.insert(push, None);
                }
            }
        }
        let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
        for (push, wanted) in wanted {
            if let Some(waiting) = wanted {
                // Also where it is heard already: the answer tells who waits.
                self.channels.insert(push.clone());
                let known = self.waiting.entry(push.clone()).or_default();
                known.push_back(waiting);
                subscribe.push(push);
            } else if self.channels.remove(&push) {
                *self.leaving.entry(push.clone()).or_default() += 1;
                unsubscribe.push(push);
            }
        }
        if !unsubscribe.is_empty() {
            self.push.unsubscribe(&unsubscribe).await?;
        }
        if !subscribe.is_empty() {
            self.push.subscribe(&subscribe).await?;
        }
        Ok(())
    }
}
