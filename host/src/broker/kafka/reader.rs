//! What reads the log, on a thread of its own.
//!
//! # Layout
//!
//! - [`Reader`]: reads and delivers, and marks the log now and then.
//! - [`attach`]: how it begins, and how it comes back after it broke.
//! - [`deliver`]: what is done with a record in its turn.
//! - [`last`]: how it is seen that a log is still the same.
//! - [`several`]: reading a topic with several partitions, and having a part in their order.
//! - [`begin`]: how that begins; [`stuck`]: what is done where its order comes to a stop.

mod attach;
mod begin;
mod deliver;
mod last;
mod several;
mod stuck;

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

use self::{
    deliver::Read,
    last::{Checked, Last},
    several::Several,
};
use super::{
    super::{BrokerError, Retention, feed::Sink},
    client::{Clients, Consumer, code, passes},
    record,
    sender::{PARTITION, Sender},
    shared::{Shared, now},
    topic,
};
use crate::redis_pool::Backoff;

/// How long to wait for a record before something else is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Records that are read before it is told how far that was.
const BATCH: usize = 64;
/// The log is marked at least this often, and at least twice within the age to which events are kept.
const MARK: Duration = Duration::from_secs(120);
/// It is looked at least this often, and whenever the log is marked, how many partitions there are.
const COUNT: Duration = Duration::from_secs(30);
/// How long that may take: a server answers only after what it was asked before, and that is to wait for records.
const COUNTING: Duration = Duration::from_secs(1);

/// Reads the log.
pub(super) struct Reader {
    pub(super) clients: Arc<Clients>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) sender: Arc<Sender>,
    pub(super) topic: String,
    /// How many partitions the topic is given, if it has to be made.
    pub(super) partitions: usize,
    pub(super) retention: Retention,
    pub(super) memory: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Sink,
    pub(super) runtime: Handle,
    /// Set when it is to end.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) progress: Progress,
    /// Where the topic has several partitions.
    pub(super) several: Option<Several>,
}

/// What the reader knows of where it is.
#[derive(Default)]
pub(super) struct Progress {
    /// The record that was read last, where there is one partition.
    last: Last,
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
    /// When it is to be looked how many partitions there are.
    count_due: Option<Instant>,
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
        let mut read = 0_usize;
        while !self.stopped() {
            // What there is already is read without waiting.
            if self.step(Duration::ZERO)? == Step::Record {
                read = read.wrapping_add(1);
                // What waits for a cut is not delivered before.
                if read.is_multiple_of(BATCH) {
                    self.order()?;
                }
                if self.progress.untold >= BATCH {
                    self.tell();
                    self.mark_again();
                }
                continue;
            }
            // The cluster works at it meanwhile.
            self.order()?;
            self.tell();
            self.mark_again();
            self.count()?;
            self.step(self.until_order(LOOK))?;
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
        match &self.several {
            Some(several) => self.shared.reached(several.merge.released(), position),
            None => self.shared.reached([offset], position),
        }
        // What the node cannot deliver yet waits at Kafka, not here.
        self.runtime.block_on(self.sink.room());
    }

    /// Sees what there is to read. Waits for no longer than this.
    fn step(&mut self, wait: Duration) -> Result<Step, BrokerError> {
        let consumer = self.consumer.clone();
        match consumer.poll(self.until_passed(wait)) {
            None => {
                self.pass_several()?;
                Ok(Step::Nothing)
            }
            Some(Ok(message)) => {
                match self.several {
                    Some(_) => self.take_of_several(&message)?,
                    None => self.take(&message)?,
                }
                Ok(Step::Record)
            }
            Some(Err(KafkaError::PartitionEOF(_))) => match &mut self.several {
                Some(several) => {
                    several.at_end = true;
                    Ok(Step::Record)
                }
                None => {
                    self.pass();
                    Ok(Step::Nothing)
                }
            },
            Some(Err(error)) => self.failed(&error).map(|()| Step::Nothing),
        }
    }

    /// What reading says is wrong, unless it passes.
    fn failed(&self, error: &KafkaError) -> Result<(), BrokerError> {
        match code(error) {
            Some(code) if passes(code) => Ok(()),
            Some(Code::AllBrokersDown) if self.progress.attaching => Ok(()),
            Some(Code::NotImplemented | Code::BadCompression) => Err(self.clients.unavailable(
                "records are compressed in a way that this node cannot read; have them produced without compression, or \
                 with gzip, snappy, lz4 or zstd",
            )),
            _ => Err(self.clients.error("reading the log failed", error)),
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

    /// A record of the only partition was read.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), BrokerError> {
        match self.progress.last.read(message) {
            Checked::Again => {}
            Checked::Another => return Err(self.another_log()),
            Checked::New => {
                let read = Read::new(message, self.clients.event_data());
                self.deliver(place(message.offset()), read);
            }
        }
        Ok(())
    }

    /// What is read now is not what was read before.
    fn another_log(&mut self) -> BrokerError {
        self.progress.another = self.progress.epoch.is_some();
        self.clients.unavailable(format!(
            "the topic {} holds another log than before, or not all of it",
            self.topic
        ))
    }

    /// Looks now and then how many partitions there are.
    fn count(&mut self) -> Result<(), BrokerError> {
        let due = self.progress.count_due;
        if !self.shared.take_outgrown() && due.is_some_and(|due| due > Instant::now()) {
            return Ok(());
        }
        self.progress.count_due = Some(Instant::now() + COUNT.min(self.mark_interval()));
        let known = self
            .several
            .as_ref()
            .map_or(1, |several| several.merge.partitions());
        match topic::partitions_now(&self.consumer, &self.topic, COUNTING) {
            Some(partitions) if partitions > known && known > 1 => self.grow(partitions),
            Some(partitions) if partitions > known => Err(self.clients.unavailable(format!(
                "the topic {} has {partitions} partitions now",
                self.topic
            ))),
            _ => Ok(()),
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
            let headers = record::mark_headers(self.shared.origin(), &mark, self.began());
            // Who begins to read knows what counts from a cut on.
            self.cut();
            if let Err(error) = self.marks().send(None, None, headers) {
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

    /// What marks are sent with.
    fn marks(&self) -> &Sender {
        match &self.several {
            Some(several) => &several.sender,
            None => &self.sender,
        }
    }

    /// The cut that began the order that a mark is about.
    fn began(&self) -> Option<u64> {
        self.several
            .as_ref()
            .and_then(|several| several.merge.began())
    }

    fn mark_interval(&self) -> Duration {
        MARK.min(self.retention.age / 2)
    }
}

/// An offset as it is counted here: there are none below 0.
fn place(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}
