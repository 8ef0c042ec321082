//! What reads the log, on a thread of its own.
//!
//! # Layout
//!
//! - [`Reader`]: reads and delivers, and marks the log now and then.
//! - [`attach`]: how it begins, and how it comes back after it broke.

mod attach;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::BorrowedMessage,
};
use tokio::runtime::Handle;

use super::{
    super::{Accepted, BrokerError, Pushed, Retention, feed::Sink},
    client::{Clients, Consumer, code, passes},
    index::{Index, Taken},
    record::{self, Content, Record},
    sender::{PARTITION, Sender},
    shared::{Shared, now},
};
use crate::{hub::channel::ChannelName, redis_pool::Backoff};

/// How long to wait for a record before something else is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Records that are read before it is told how far that was.
const BATCH: usize = 64;
/// The log is marked at least this often, and at least twice within the age to which events are kept.
const MARK: Duration = Duration::from_secs(120);

/// Reads the log.
pub(super) struct Reader {
    pub(super) clients: Arc<Clients>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) sender: Arc<Sender>,
    pub(super) topic: String,
    pub(super) retention: Retention,
    pub(super) memory: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Sink,
    pub(super) runtime: Handle,
    /// Set when it is to end.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) progress: Progress,
}

/// What the reader knows of where it is.
#[derive(Default)]
pub(super) struct Progress {
    /// What tells the record that was read last from another one with its offset.
    last: Option<Stamp>,
    /// Whether that record is to be read again, to see that the log is still the same.
    check: bool,
    /// What the log was called when it was last attached to.
    epoch: Option<String>,
    /// The topic holds another log than the one that was last attached to, or not all of it.
    another: bool,
    /// It is being attached: errors may be from before.
    attaching: bool,
    /// The records that were read since it was told how far that was.
    untold: usize,
    /// When the log is to be marked again.
    mark_due: Option<Instant>,
}

#[derive(PartialEq, Eq)]
struct Stamp {
    offset: u64,
    time: Option<i64>,
    key: Option<Vec<u8>>,
    bytes: usize,
}

/// What there was to read.
#[derive(PartialEq, Eq)]
enum Step {
    Record,
    Nothing,
}

impl Reader {
    /// Reads until it is stopped. Before this it was attached.
    pub(super) fn run(mut self) {
        let servers = self.clients.servers();
        let topic = self.topic.clone();
        let mut backoff = Backoff::new();
        while !self.stopped() {
            let since = Instant::now();
            let Err(reason) = self.read() else { return };
            backoff.lasted(since.elapsed());
            self.sink.broke();
            tracing::warn!(
                servers,
                topic,
                %reason,
                "reading the log broke; what is published meanwhile is delivered when it is back"
            );
            let since = Instant::now();
            loop {
                thread::sleep(backoff.next());
                if self.stopped() {
                    return;
                }
                match self.attach() {
                    Ok(()) => break,
                    Err(error) => {
                        tracing::debug!(servers, topic, %error, "the log cannot be read yet")
                    }
                }
            }
            self.sink.back();
            self.tell();
            tracing::info!(servers, topic, away = ?since.elapsed(), "the log is read again");
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Reads and delivers until it breaks or is stopped.
    fn read(&mut self) -> Result<(), BrokerError> {
        while !self.stopped() {
            // What there is already is read without waiting.
            if self.step(Duration::ZERO)? == Step::Record {
                if self.progress.untold >= BATCH {
                    self.tell();
                    self.mark_again();
                }
                continue;
            }
            self.tell();
            self.mark_again();
            self.step(LOOK)?;
        }
        Ok(())
    }

    /// Tells how far the log was read.
    fn tell(&mut self) {
        self.progress.untold = 0;
        let (offset, position) = {
            let state = self.shared.lock();
            (state.index.next_offset(), state.index.newest())
        };
        self.sink.complete(position);
        self.shared.reached(offset);
        // What the node cannot deliver yet waits at Kafka, not here.
        self.runtime.block_on(self.sink.room());
    }

    /// Sees what there is to read. Waits for no longer than this.
    fn step(&mut self, wait: Duration) -> Result<Step, BrokerError> {
        let consumer = self.consumer.clone();
        match consumer.poll(wait) {
            None => Ok(Step::Nothing),
            Some(Ok(message)) => {
                self.take(&message)?;
                Ok(Step::Record)
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                self.pass();
                Ok(Step::Nothing)
            }
            Some(Err(error)) => match code(&error) {
                Some(code) if passes(code) => Ok(Step::Nothing),
                Some(Code::AllBrokersDown) if self.progress.attaching => Ok(Step::Nothing),
                Some(Code::NotImplemented | Code::BadCompression) => {
                    Err(self.clients.unavailable(
                        "records are compressed in a way that this node cannot read; have them produced without \
                         compression, or with gzip, snappy, lz4 or zstd",
                    ))
                }
                _ => Err(self.clients.error("reading the log failed", &error)),
            },
        }
    }

    /// Passes by what is not for applications: the ends of transactions.
    fn pass(&self) {
        let Ok(positions) = self.consumer.position() else {
            return;
        };
        let position = positions.find_partition(&self.topic, PARTITION);
        if let Some(Offset::Offset(offset)) = position.map(|position| position.offset()) {
            self.shared.lock().index.pass(place(offset));
        }
    }

    /// A record was read.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), BrokerError> {
        let offset = place(message.offset());
        let time = message.timestamp().to_millis();
        let stamp = Stamp {
            offset,
            time,
            key: message.key().map(<[u8]>::to_vec),
            bytes: message.payload_len(),
        };
        if std::mem::take(&mut self.progress.check) {
            if self.progress.last.as_ref() == Some(&stamp) {
                return Ok(());
            }
            self.progress.last = None;
            self.progress.another = true;
            return Err(self.clients.unavailable(format!(
                "the topic {} holds another log than before, or not all of it",
                self.topic
            )));
        }
        let record = Record::read(message, self.clients.event_data());
        let key = message.key().filter(|_| record.is_unreadable());
        let unreadable = key.and_then(|key| ChannelName::new(str::from_utf8(key).ok()?).ok());
        let mut state = self.shared.lock();
        if offset < state.index.next_offset() {
            return Ok(());
        }
        let time = time.and_then(|time| u64::try_from(time).ok());
        state.index.read(offset, time.unwrap_or(0), now());
        self.progress.last = Some(stamp);
        self.progress.untold += 1;
        let (taken, event) = match record.content {
            Ok(Content::Event(channel, event)) => {
                let own_id = event.id().is_some();
                let heard = state.heard.contains(&channel);
                let pushed = heard.then(|| event.clone());
                let taken = state.index.take(&channel, event);
                let placed = pushed.filter(|_| !taken.duplicate);
                let placed = placed.and_then(|event| state.index.placed(&taken, event, own_id));
                (taken, placed.map(|placed| (channel, placed)))
            }
            Ok(Content::Mark(mark)) => {
                let epoch = mark.epoch.clone();
                if state.index.mark(mark) {
                    tracing::info!(
                        topic = self.topic,
                        epoch,
                        "the log has begun anew; who comes back with an id from before is told of a gap"
                    );
                }
                (self.no_event(offset, &state.index), None)
            }
            Err(error) => {
                match &unreadable {
                    Some(channel) => {
                        tracing::warn!(
                            topic = self.topic,
                            offset,
                            channel = channel.as_str(),
                            %error,
                            "an event cannot be read; clients are told of a gap"
                        );
                        state.index.take_unreadable(channel);
                    }
                    None => tracing::warn!(
                        topic = self.topic,
                        offset,
                        %error,
                        "a record is not an event of a publisher and is skipped"
                    ),
                }
                (self.no_event(offset, &state.index), None)
            }
        };
        let waiting = state.waiting(&self.shared, record.origin);
        drop(state);
        if let Some((channel, placed)) = event {
            let pushed = Pushed {
                position: placed.position,
                previous: None,
                placed: Some(placed),
            };
            self.sink.pushed(&channel, pushed);
        }
        if let Some(channel) = unreadable {
            self.sink.unreadable(&channel, taken.position);
        }
        if let (Some(waiting), Some(id)) = (waiting, taken.id) {
            // Whoever waited may have given up.
            let _ = waiting.send(Accepted {
                id,
                position: taken.position,
                duplicate: taken.duplicate,
            });
        }
        Ok(())
    }

    fn no_event(&self, offset: u64, index: &Index) -> Taken {
        Taken {
            position: index.position_of(offset),
            duplicate: false,
            id: Some(String::new()),
        }
    }

    /// Marks the log again if it is time, and no other node has done so.
    fn mark_again(&mut self) {
        if self
            .progress
            .mark_due
            .is_some_and(|due| due > Instant::now())
        {
            return;
        }
        let (marked, mark) = {
            let index = &self.shared.lock().index;
            (index.marked(), index.mark_again())
        };
        let since = Duration::from_millis(now().saturating_sub(marked));
        if let Some(mark) = mark
            && since > self.mark_interval() / 2
        {
            let headers = record::mark_headers(self.shared.origin(), &mark);
            if let Err(error) = self.sender.send(None, None, headers) {
                tracing::debug!(topic = self.topic, %error, "the log cannot be marked now");
            }
        }
        self.mark_later();
    }

    /// Not when all other nodes do.
    fn mark_later(&mut self) {
        let wait = self.mark_interval().mul_f64(rand::random_range(0.5..1.0));
        self.progress.mark_due = Some(Instant::now() + wait);
    }

    fn mark_interval(&self) -> Duration {
        MARK.min(self.retention.age / 2)
    }
}

/// An offset as it is counted here: there are none below 0.
fn place(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}
