//! What is pushed: which channels are heard, in which order it is told, and how a break is noticed.
//!
//! # How far the push is
//!
//! The stream pushes what it has stored, in the order in which it stored it. So a node puts a message into the stream
//! that only it hears, its marker: once that comes back, all that was stored before it has come too, of all channels
//! that the node had subscribed to before it published the marker.
//!
//! # Breaks
//!
//! After a break the library connects and subscribes again by itself, before anything else is sent. What was in its
//! queues is of no use then, because nobody can tell what is missing between it and what comes after. So it is thrown
//! away, and so is all that comes until a marker of the new connection is back.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    task::consume_budget,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    super::{BrokerError, Pushed, feed::Sink},
    link::{QUEUE, broke},
    log::{Content, Log},
    merged::Merged,
    names::LogStream,
    taken::{Key, Taken},
};
use crate::hub::channel::ChannelName;

/// How often a marker is published where there is no other reason to. What was published before the last one is not read
/// again after a break.
const TELL: Duration = Duration::from_secs(3);
/// The same while the push is broken.
const RETRY: Duration = Duration::from_millis(200);
/// Requests that are taken at a time.
const BATCH: usize = 1000;
/// Bytes that wait here while the node has more to deliver than it can. What is more is read later.
const WAITING: usize = 16 << 20;

/// Delivers what is pushed.
pub(super) struct Receiver {
    log: Arc<Log>,
    sink: Sink,
    /// The name of this node alone.
    node: String,
    merged: Merged<Key, Subscriber>,
    /// What was taken from there and not yet told, in order.
    taken: VecDeque<Taken>,
    /// Bytes of it.
    bytes: usize,
    /// The number of the connection that all of it came over.
    connection: u64,
    /// The stream that it is from.
    stream: Option<Arc<LogStream>>,
    state: State,
    /// The last marker.
    marker: u64,
    /// Those that are not back, and when they were published.
    asked: VecDeque<(u64, Instant)>,
    /// Markers that are not acknowledged.
    markers: FuturesUnordered<BoxFuture<'static, Result<(), BrokerError>>>,
    /// Who waits for a marker, or a later one.
    waiting: VecDeque<(u64, oneshot::Sender<u64>)>,
    requests: mpsc::UnboundedReceiver<Request>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// What is pushed is told.
    Live,
    /// Nothing is told until this marker is back.
    Broken { until: u64, since: Instant },
}

/// Where the receiver is asked.
pub(super) struct Requests {
    log: Arc<Log>,
    requests: mpsc::UnboundedSender<Request>,
}

enum Request {
    /// Hear this channel, and say from which position on that is so.
    Subscribe(ChannelName, oneshot::Sender<u64>),
    /// Do not hear it any more.
    Unsubscribe(ChannelName),
    /// Say how far the log goes, once all up to there was told.
    Sync(oneshot::Sender<u64>),
}

// === impl Requests ===

impl Requests {
    /// Hears the channel from now on. Returns a position: all later ones are told.
    pub(super) async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        let channel = channel.clone();
        self.ask(|sender| Request::Subscribe(channel, sender)).await
    }

    /// Does not hear the channel any more.
    pub(super) fn unsubscribe(&self, channel: &ChannelName) {
        // The receiver ends only with the broker.
        let _ = self.requests.send(Request::Unsubscribe(channel.clone()));
    }

    /// Returns a position up to which all was told.
    pub(super) async fn sync(&self) -> Result<u64, BrokerError> {
        self.ask(Request::Sync).await
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<u64>) -> Request,
    ) -> Result<u64, BrokerError> {
        let (sender, answer) = oneshot::channel();
        let _ = self.requests.send(request(sender));
        match timeout(self.log.link.timeout(), answer).await {
            Ok(Ok(position)) => Ok(position),
            _ => Err(BrokerError::Unavailable(format!(
                "the push of NATS at {} is broken and will be made again as soon as it can be; channels that this node \
                 does not hear yet cannot be registered on until then",
                self.log.link.address()
            ))),
        }
    }
}

// === impl Receiver ===

impl Receiver {
    /// Begins to hear. Returns when it does.
    pub(super) async fn open(log: Arc<Log>, sink: Sink) -> Result<(Self, Requests), BrokerError> {
        let (sender, requests) = mpsc::unbounded_channel();
        let mut receiver = Self {
            connection: log.link.number(),
            log: log.clone(),
            sink,
            node: format!("{:016x}", rand::random::<u64>()),
            merged: Merged::new(),
            taken: VecDeque::new(),
            bytes: 0,
            stream: None,
            state: State::Live,
            marker: 0,
            asked: VecDeque::new(),
            markers: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            requests,
        };
        let own = log.names.pushed_node(&receiver.node);
        let own = log.link.subscribe(own).await;
        let own = own.map_err(|failure| log.link.error("subscribing", failure))?;
        receiver.merged.insert(Key::Markers, own);
        receiver.hear_first().await?;
        let requests = Requests {
            log,
            requests: sender,
        };
        Ok((receiver, requests))
    }

    /// Hears the first marker.
    async fn hear_first(&mut self) -> Result<(), BrokerError> {
        let (sender, mut back) = oneshot::channel();
        self.waiting.push_back((self.marker + 1, sender));
        self.publish_marker();
        let (limit, address) = (self.log.link.timeout(), self.log.link.address().to_owned());
        let heard = async {
            loop {
                tokio::select! {
                    () = self.merged.ready() => self.take().await,
                    Some(published) = self.markers.next() => published?,
                }
                self.tell();
                if back.try_recv().is_ok() {
                    return Ok(());
                }
            }
        };
        timeout(limit, heard).await.unwrap_or_else(|_| {
            Err(BrokerError::Unavailable(format!(
                "NATS at {address} does not push what is stored there: it must be version 2.8.3 or later, and the user \
                 must be allowed to subscribe to fanfare.>"
            )))
        })
    }

    /// Delivers for ever.
    pub(super) async fn run(mut self) {
        let mut breaks = self.log.link.breaks();
        let mut tell = interval(TELL);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            let sink = self.sink.clone();
            let live = self.state == State::Live;
            tokio::select! {
                () = self.merged.ready() => self.take().await,
                // Whoever waits for a marker of a broken push waits for the one that it begins again with.
                _ = self.requests.recv_many(&mut batch, BATCH), if live => {
                    self.answer(&mut batch).await;
                }
                _ = broke(&mut breaks) => self.broke("the connection broke"),
                Some(published) = self.markers.next() => if let Err(error) = published {
                    tracing::debug!(%error, "a marker was not accepted");
                },
                _ = tell.tick(), if live => self.publish_marker(),
                _ = retry.tick(), if !live => self.try_again(),
                () = sink.room(), if !self.taken.is_empty() => {}
            }
            self.tell();
            self.check();
            // Messages may be there without waiting: others want to run as well.
            consume_budget().await;
        }
    }

    /// Takes what is there.
    async fn take(&mut self) {
        let (mut count, mut new) = (0, Vec::new());
        let stream = &mut self.stream;
        let open = self.merged.take(|key, message| {
            count += 1;
            match Taken::read(key, message, stream) {
                Some(taken) => new.push(taken),
                None => tracing::warn!(
                    ?key,
                    "what was pushed by NATS comes from no stream and is skipped; only a stream is to publish on \
                     fanfare.*.pushed.>"
                ),
            }
        });
        let open = open.await;
        // After the queues: what came over a new connection came after its number.
        if !open || self.connection != self.log.link.number() {
            return self.broke("the connection broke");
        }
        if count >= QUEUE {
            return self.broke("more was pushed than could be taken");
        }
        new.sort_by_key(Taken::position);
        self.bytes += new.iter().map(Taken::bytes).sum::<usize>();
        self.taken.extend(new);
        if self.bytes > WAITING {
            self.broke("more was pushed than this node can deliver");
        }
    }

    /// Tells what was taken, as long as there is room.
    fn tell(&mut self) {
        while let Some(taken) = self.taken.front() {
            if self.state == State::Live && self.sink.room().now_or_never().is_none() {
                return;
            }
            let bytes = taken.bytes();
            if let Some(taken) = self.taken.pop_front() {
                self.bytes -= bytes;
                self.tell_one(&taken);
            }
        }
    }

    fn tell_one(&mut self, taken: &Taken) {
        let position = taken.position();
        self.log.saw(position);
        match &taken.key {
            Key::Markers => {
                let marker = std::str::from_utf8(&taken.message.payload).ok();
                let Some(marker) = marker.and_then(|marker| marker.parse().ok()) else {
                    return;
                };
                self.marker_is_back(marker, position);
            }
            Key::Channel(channel) if self.state == State::Live => {
                let payload = &taken.message.payload;
                let content = self.log.content(
                    channel,
                    &taken.stream,
                    taken.sequence,
                    payload,
                    Duration::ZERO,
                );
                let is_lost = content == Content::Unreadable;
                let placed = match content {
                    Content::Event(placed) => Some(placed),
                    Content::Unreadable | Content::Foreign => None,
                };
                let pushed = Pushed {
                    position,
                    previous: taken
                        .previous
                        .map(|previous| taken.stream.position(previous)),
                    placed,
                };
                self.sink.pushed(channel, pushed);
                if is_lost {
                    self.sink.unreadable(channel, position);
                }
                self.sink.complete(position);
            }
            Key::Channel(_) => {}
        }
    }

    fn marker_is_back(&mut self, marker: u64, position: u64) {
        while self
            .asked
            .front()
            .is_some_and(|(asked, _)| *asked <= marker)
        {
            self.asked.pop_front();
        }
        match self.state {
            State::Broken { until, .. } if marker < until => return,
            State::Broken { since, .. } => {
                self.state = State::Live;
                self.sink.back();
                tracing::info!(
                    address = self.log.link.address(),
                    away = ?since.elapsed(),
                    "the push of NATS is back"
                );
            }
            State::Live => {}
        }
        self.sink.complete(position);
        while let Some((first, _)) = self.waiting.front()
            && *first <= marker
        {
            if let Some((_, waiting)) = self.waiting.pop_front() {
                // Whoever waited may have given up.
                let _ = waiting.send(position);
            }
        }
    }

    fn publish_marker(&mut self) {
        self.marker += 1;
        self.asked.push_back((self.marker, Instant::now()));
        let (log, marker) = (self.log.clone(), self.marker);
        let subject = log.names.node(&self.node);
        self.markers.push(Box::pin(async move {
            let payload = Bytes::from(marker.to_string());
            let published = log.put(subject, None, payload).await;
            published.map_err(|failure| log.link.error("publishing", failure))?;
            Ok(())
        }));
    }

    /// Does what was asked for, in order, with one marker for all.
    async fn answer(&mut self, batch: &mut Vec<Request>) {
        let marker = self.marker + 1;
        // The last word on a channel counts.
        let mut wanted: HashMap<ChannelName, bool> = HashMap::new();
        let mut waits = false;
        for request in batch.drain(..) {
            match request {
                Request::Subscribe(channel, sender) => {
                    wanted.insert(channel, true);
                    self.waiting.push_back((marker, sender));
                    waits = true;
                }
                Request::Unsubscribe(channel) => {
                    wanted.insert(channel, false);
                }
                Request::Sync(sender) => {
                    self.waiting.push_back((marker, sender));
                    waits = true;
                }
            }
        }
        for (channel, wanted) in wanted {
            let key = Key::Channel(channel.clone());
            if !wanted {
                self.merged.remove(&key);
            } else if !self.merged.contains(&key) {
                let subject = self.log.names.pushed_event(&channel);
                match self.log.link.subscribe(subject).await {
                    Ok(subscriber) => self.merged.insert(key, subscriber),
                    Err(failure) => {
                        let error = self.log.link.error("subscribing", failure);
                        // Who asked for it, and whoever asked with it, is told nothing, and asks again.
                        self.waiting.retain(|(waits_for, _)| *waits_for != marker);
                        tracing::warn!(%error, "a channel cannot be subscribed to at NATS");
                    }
                }
            }
        }
        if waits {
            self.publish_marker();
        }
    }

    /// A marker that is not back for so long that it has to be taken for lost is a break too.
    fn check(&mut self) {
        let longest = self.log.link.timeout().max(TELL);
        let oldest = self.asked.front();
        let late = oldest.is_some_and(|(_, asked)| asked.elapsed() > longest);
        if late && self.state == State::Live {
            self.broke("what is published is not pushed");
        }
    }

    /// Whatever may be missing is to be read.
    fn broke(&mut self, reason: &str) {
        self.taken.clear();
        self.bytes = 0;
        self.connection = self.log.link.number();
        self.log.forget();
        self.waiting.clear();
        self.asked.clear();
        let since = match self.state {
            State::Live => {
                self.sink.broke();
                tracing::warn!(
                    address = self.log.link.address(),
                    reason,
                    "the push of NATS broke; what is published meanwhile is delivered when it is back"
                );
                Instant::now()
            }
            State::Broken { since, .. } => since,
        };
        self.state = State::Broken {
            until: self.marker + 1,
            since,
        };
    }

    /// Publishes a marker that the push begins again with.
    fn try_again(&mut self) {
        if self.log.link.is_up() && self.markers.is_empty() {
            // What came over an earlier one is not told before this marker is back, nor at all.
            self.connection = self.log.link.number();
            self.publish_marker();
        }
    }
}
