//! Reading on from a cursor: the connection that wakes and that events are read over, and how it is made anew.
//!
//! The cursor is a position: all that was published up to there, on channels that are listened to, was pushed. Whatever
//! wakes, a notification or the clock, means the same: read on from the cursor until there is no more. So a connection
//! that breaks loses nothing.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::consume_budget,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    super::{BrokerError, feed::Sink},
    failure::Failure,
    log::{BATCH, Found, Log, Scan},
    session::{Opener, Session},
};
use crate::{hub::channel::ChannelName, redis_pool::Backoff};

/// How often a node looks without being woken: for rows that nothing was notified of, for events that have grown too
/// old, and whether the server still answers.
const POLL: Duration = Duration::from_secs(1);
/// Requests that are taken at a time.
const REQUESTS: usize = 1000;
/// Events that are looked for at a time.
const EVENTS: usize = 500;
/// Positions that are looked through at a time, where the server looks for some channels only.
const WINDOW: u64 = 10_000;
/// Channels that the server is told to look for. Where more are listened to, it tells of all events, without their data.
const NAMED: usize = 100;
/// Bytes that are fetched at a time. An event that is larger is fetched alone.
const BYTES: usize = 4 << 20;

/// Pushes what it reads.
pub(super) struct Reader {
    opener: Arc<Opener>,
    log: Arc<Log>,
    sink: Sink,
    /// All up to this position was pushed.
    cursor: u64,
    /// What the log was called when the connection began to be told of it.
    epoch: String,
    channels: HashSet<ChannelName>,
    /// Who waits to be told how far the log goes, as of now.
    waiting: Vec<oneshot::Sender<u64>>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// Where others find the connection, to read over it.
    sessions: watch::Sender<Option<Arc<Session>>>,
    /// There may be rows in the outbox, from this transaction on.
    outbox: Option<i64>,
    /// There may be events that have grown too old.
    is_trimming: bool,
}

/// Where the reader is told what to read.
pub(super) struct Requests {
    opener: Arc<Opener>,
    requests: mpsc::UnboundedSender<Request>,
}

enum Request {
    /// Push this channel, and say how far the log goes when it is so.
    Subscribe(ChannelName, oneshot::Sender<u64>),
    /// Do not push it any more.
    Unsubscribe(ChannelName),
    /// Say how far the log goes.
    Sync(oneshot::Sender<u64>),
}

// === impl Requests ===

impl Requests {
    /// Pushes the channel from now on. Returns a position: later ones are pushed.
    pub(super) async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        self.ask(|answer| Request::Subscribe(channel.clone(), answer))
            .await
    }

    /// Does not push the channel any more.
    pub(super) fn unsubscribe(&self, channel: &ChannelName) {
        // The reader ends only with the broker.
        let _ = self.requests.send(Request::Unsubscribe(channel.clone()));
    }

    /// How far the log goes. It is pushed up to there without being asked for again.
    pub(super) async fn sync(&self) -> Result<u64, BrokerError> {
        self.ask(Request::Sync).await
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<u64>) -> Request,
    ) -> Result<u64, BrokerError> {
        let (sender, answer) = oneshot::channel();
        let _ = self.requests.send(request(sender));
        match timeout(self.opener.timeout, answer).await {
            Ok(Ok(position)) => Ok(position),
            _ => Err(BrokerError::Unavailable(format!(
                "PostgreSQL at {} does not answer, and the connection to it is made anew as soon as it can be; channels \
                 that this node does not hear yet cannot be registered on until then",
                self.opener.url.address()
            ))),
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Opens the connection. What is published from now on is pushed.
    pub(super) async fn open(
        opener: Arc<Opener>,
        log: Arc<Log>,
        sink: Sink,
    ) -> Result<(Self, Requests, watch::Receiver<Option<Arc<Session>>>), Failure> {
        let (sender, requests) = mpsc::unbounded_channel();
        let mut reader = Self {
            opener: opener.clone(),
            log,
            sink,
            cursor: 0,
            epoch: String::new(),
            channels: HashSet::new(),
            waiting: Vec::new(),
            requests,
            sessions: watch::Sender::new(None),
            outbox: None,
            is_trimming: false,
        };
        let (session, last) = reader.connect().await?;
        reader.cursor = last;
        reader.sessions.send_replace(Some(session));
        let sessions = reader.sessions.subscribe();
        let requests = Requests {
            opener,
            requests: sender,
        };
        Ok((reader, requests, sessions))
    }

    /// Pushes for ever, over one connection after the other.
    pub(super) async fn run(mut self) {
        let address = self.log.address().to_owned();
        let mut backoff = Backoff::new();
        loop {
            let since = Instant::now();
            let session = self.sessions.borrow().clone();
            let reason = match session {
                Some(session) => self.follow(&session).await,
                None => Failure::lost("there is no connection yet".into()),
            };
            self.sessions.send_replace(None);
            backoff.lasted(since.elapsed());
            tracing::warn!(
                address,
                reason = reason.text(),
                "the connection to PostgreSQL that events are read over broke; what is published meanwhile is delivered \
                 when it is back"
            );
            let since = Instant::now();
            let mut denied = None;
            let session = loop {
                sleep(backoff.next()).await;
                match self.connect().await {
                    Ok((session, _)) => break session,
                    Err(error) if error.is_denied() && denied.as_deref() != Some(error.text()) => {
                        denied = Some(error.text().to_owned());
                        tracing::error!(
                            address,
                            reason = error.text(),
                            "the connection to PostgreSQL is refused and tried again"
                        );
                    }
                    Err(error) => {
                        tracing::debug!(
                            address,
                            reason = error.text(),
                            "the connection cannot be made yet"
                        );
                    }
                }
            };
            self.sessions.send_replace(Some(session));
            tracing::info!(address, away = ?since.elapsed(), "the connection to PostgreSQL is back");
        }
    }

    /// Opens a connection that is told of the log. Returns the newest position too.
    async fn connect(&mut self) -> Result<(Arc<Session>, u64), Failure> {
        let session = self.opener.open().await?;
        let (epoch, last) = self.log.attach(&session).await?;
        session.listen(&epoch).await?;
        self.epoch = epoch;
        Ok((Arc::new(session), last))
    }

    /// Pushes until the connection breaks, and returns why.
    async fn follow(&mut self, session: &Session) -> Failure {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = session.news.notify.notified() => {}
                _ = self.requests.recv_many(&mut batch, REQUESTS) => self.take(&mut batch),
                // The first one is at once: before this, nothing was told.
                _ = poll.tick() => {
                    self.outbox = Some(0);
                    self.is_trimming = true;
                }
            }
            if let Err(failure) = self.read_on(session).await {
                return failure;
            }
        }
    }

    /// Reads on until there is no more.
    async fn read_on(&mut self, session: &Session) -> Result<(), Failure> {
        let mut batch = Vec::new();
        loop {
            let told = session.news.take();
            if told.is_over {
                let address = self.log.address();
                let text = format!("PostgreSQL at {address} has closed the connection");
                return Err(Failure::lost(text));
            }
            self.outbox = match (self.outbox, told.outbox) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            let is_told = told.position > self.cursor && !self.channels.is_empty();
            let has_work = is_told || self.outbox.is_some() || self.is_trimming;
            let mut is_dry = true;
            if has_work || !self.waiting.is_empty() {
                is_dry = self.read_some(session).await?;
            }
            if is_dry && self.outbox.is_none() && !self.is_trimming {
                return Ok(());
            }
            while let Ok(request) = self.requests.try_recv() {
                batch.push(request);
            }
            self.take(&mut batch);
            // Others want to run as well.
            consume_budget().await;
        }
    }

    /// Reads on a little, and says whether that was all.
    async fn read_some(&mut self, session: &Session) -> Result<bool, Failure> {
        let outbox = self.outbox.take();
        let is_trimming = std::mem::take(&mut self.is_trimming);
        let named: Option<Vec<_>> = (self.channels.len() <= NAMED)
            .then(|| self.channels.iter().map(ChannelName::as_str).collect());
        let limit = if self.channels.is_empty() { 0 } else { EVENTS };
        let through = match named {
            Some(_) if limit > 0 => self.cursor.saturating_add(WINDOW),
            _ => u64::MAX,
        };
        let log = &self.log;
        // One after the other on the server, without waiting in between.
        let (taken, trimmed, scan) = tokio::join!(
            async {
                match outbox {
                    Some(first) => log.take(session, first).await,
                    None => Ok(0),
                }
            },
            async {
                match is_trimming {
                    true => log.trim(session).await,
                    false => Ok(0),
                }
            },
            log.scan(session, self.cursor, through, limit, named.as_deref()),
        );
        // What could not be done now is done the next time: the clock wakes for it.
        match taken {
            Ok(taken) if taken >= BATCH => self.outbox = outbox,
            Ok(_) => {}
            Err(failure) => self.put_off(failure)?,
        }
        match trimmed {
            Ok(trimmed) => self.is_trimming = trimmed >= BATCH,
            Err(failure) => self.put_off(failure)?,
        }
        let scan = scan?;
        let through = match scan.events.last() {
            Some(last) if scan.events.len() >= limit => last.position,
            _ => through.min(scan.last),
        };
        self.check(&scan)?;
        self.log.saw(scan.last);
        for waiting in self.waiting.drain(..) {
            // Whoever waited may have given up.
            let _ = waiting.send(scan.last);
        }
        if scan.gone > self.cursor {
            // Some of it may be deleted by now, and what is not tells nothing of it: each channel is read for itself.
            self.sink.broke();
            self.reached(scan.last);
            self.sink.back();
            self.sink.complete(scan.last);
            return Ok(true);
        }
        self.push(session, scan.events).await?;
        self.reached(through);
        Ok(through >= scan.last)
    }

    /// A statement that failed, on a connection that is as good as before.
    fn put_off(&self, failure: Failure) -> Result<(), Failure> {
        match failure.is_lost {
            true => Err(failure),
            false => {
                tracing::warn!(
                    address = self.log.address(),
                    reason = failure.text(),
                    "this is tried again"
                );
                Ok(())
            }
        }
    }

    /// An error where the server is not what it was: then the log is attached to anew.
    fn check(&self, scan: &Scan) -> Result<(), Failure> {
        let address = self.log.address();
        if scan.last < self.cursor {
            return Err(Failure::lost(format!(
                "PostgreSQL at {address} lacks events that were there before"
            )));
        }
        if scan.epoch != self.epoch {
            return Err(Failure::lost(format!(
                "somebody has made the log anew at PostgreSQL at {address}"
            )));
        }
        Ok(())
    }

    /// Fetches and pushes those of the events that somebody listens to.
    async fn push(&mut self, session: &Session, events: Vec<Found>) -> Result<(), Failure> {
        let heard = events.into_iter().filter_map(|found| {
            let channel = ChannelName::new(&found.channel).ok()?;
            let is_heard = self.channels.contains(&channel);
            is_heard.then_some((found.position, found.bytes))
        });
        let heard: Vec<_> = heard.collect();
        let mut rest = heard.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(first_of(rest));
            rest = later;
            let positions: Vec<_> = now.iter().map(|(position, _)| *position).collect();
            let fetched = self.log.fetch(session, &self.epoch, &positions).await?;
            let is_whole = fetched.len() == positions.len();
            for (channel, pushed) in fetched {
                if let Ok(channel) = ChannelName::new(&channel) {
                    let (position, is_lost) = (pushed.position, pushed.placed.is_none());
                    self.sink.pushed(&channel, pushed);
                    if is_lost {
                        self.sink.unreadable(&channel, position);
                    }
                }
            }
            if !is_whole {
                // They were deleted just now.
                self.sink.broke();
                self.sink.back();
            }
            if let Some(last) = positions.last() {
                self.reached(*last);
            }
            // What the node cannot deliver yet waits at the server, not here.
            self.sink.room().await;
        }
        Ok(())
    }

    /// All up to this position was pushed.
    fn reached(&mut self, position: u64) {
        self.cursor = self.cursor.max(position);
        self.sink.complete(self.cursor);
    }

    /// Does what was asked for, in order. Who waits is told after the next look at the log.
    fn take(&mut self, batch: &mut Vec<Request>) {
        for request in batch.drain(..) {
            match request {
                Request::Subscribe(channel, answer) => {
                    self.channels.insert(channel);
                    self.waiting.push(answer);
                }
                Request::Unsubscribe(channel) => {
                    self.channels.remove(&channel);
                }
                Request::Sync(answer) => self.waiting.push(answer),
            }
        }
    }
}

/// How many of the first ones, positions with their bytes, are not too large together.
fn first_of(events: &[(u64, usize)]) -> usize {
    let mut bytes: usize = 0;
    let fit = events.iter().take_while(|(_, size)| {
        bytes = bytes.saturating_add(*size);
        bytes <= BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_fetched_in_parts() {
        assert_eq!(first_of(&[(1, 10), (2, BYTES - 10), (3, 1)]), 2);
        assert_eq!(first_of(&[(1, usize::MAX), (2, 1)]), 1);
        assert_eq!(first_of(&[(1, 0), (2, 0)]), 2);
    }
}
