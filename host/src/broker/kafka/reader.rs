//! What reads the log, on a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::BorrowedMessage,
};
use tokio::runtime::Handle;

use super::{
    super::{Accepted, BrokerError, Pushed, Retention, feed::Sink},
    client::{Clients, Consumer, code},
    index::{Index, Taken},
    record::{self, Content, Mark, Record},
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
/// How often to mark a log whose mark does not count, because others mark it too.
const MARKS: usize = 10;

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
    /// The newest position that was told until then.
    position: u64,
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
                // One server of several is away; or the group, which is not used.
                Some(
                    Code::BrokerTransportFailure
                    | Code::Resolve
                    | Code::SSL
                    | Code::OperationTimedOut
                    | Code::GroupAuthorizationFailed
                    | Code::CoordinatorNotAvailable
                    | Code::NotCoordinator,
                ) => Ok(Step::Nothing),
                Some(Code::AllBrokersDown) if self.progress.attaching => Ok(Step::Nothing),
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
                tracing::warn!(
                    topic = self.topic,
                    offset,
                    %error,
                    "a record is not an event of a publisher and is skipped"
                );
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

    // === attaching ===

    /// Begins to read, where it was or as far back as events are kept, and reads what there is. Returns when the node
    /// knows the log.
    pub(super) fn attach(&mut self) -> Result<(), BrokerError> {
        self.progress.attaching = true;
        self.clients.forget_said();
        self.consumer
            .unassign()
            .map_err(|error| self.cannot_read(&error))?;
        topic::open(
            &self.clients,
            &self.consumer,
            &self.topic,
            self.retention,
            &self.runtime,
        )?;
        let (low, high) = self.ends()?;
        let last = self.progress.last.as_ref().map(|last| last.offset);
        match last.filter(|last| (low..high).contains(last)) {
            Some(last) => {
                self.progress.check = true;
                self.assign(last)?;
                self.read_until(|reader| !reader.progress.check)?;
            }
            // It was not read before, or what was read last is not there any more.
            None => self.attach_anew(low, high)?,
        }
        self.progress.attaching = false;
        Ok(())
    }

    fn attach_anew(&mut self, low: u64, high: u64) -> Result<(), BrokerError> {
        self.progress.check = false;
        self.progress.last = None;
        let start = self.start(low, high)?;
        {
            let index = &mut self.shared.lock().index;
            self.progress.position = self.progress.position.max(index.newest());
            *index = Index::new(self.retention, self.memory, start);
        }
        // Nothing is answered from it until all of it was read.
        self.shared.reached(0);
        self.assign(start)?;
        self.read_until(|reader| reader.shared.lock().index.next_offset() >= high)?;
        self.name()
    }

    fn cannot_read(&self, error: &KafkaError) -> BrokerError {
        self.clients.error("the log cannot be read", error)
    }

    /// The first and the next offset of the log.
    fn ends(&self) -> Result<(u64, u64), BrokerError> {
        let limit = self.clients.timeout();
        let ends = self
            .consumer
            .fetch_watermarks(&self.topic, PARTITION, limit);
        let (low, high) =
            ends.map_err(|error| self.clients.error("the log cannot be looked up", &error))?;
        Ok((place(low), place(high)))
    }

    /// Where to begin: twice as far back as events are kept, because what is kept may have been published before under
    /// the same id; and so far that there is a mark, if somebody uses the log.
    fn start(&self, low: u64, high: u64) -> Result<u64, BrokerError> {
        let failed = |error: KafkaError| self.clients.error("the log cannot be looked up", &error);
        let back = 2 * self.retention.age.max(2 * MARK);
        let back = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
        let time = i64::try_from(now().saturating_sub(back)).unwrap_or(0);
        let mut asked = TopicPartitionList::new();
        asked
            .add_partition_offset(&self.topic, PARTITION, Offset::Offset(time))
            .map_err(failed)?;
        let found = self
            .consumer
            .offsets_for_times(asked, self.clients.timeout())
            .map_err(failed)?;
        let found = found.find_partition(&self.topic, PARTITION);
        Ok(match found.map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => place(offset).clamp(low, high),
            _ => high,
        })
    }

    fn assign(&self, offset: u64) -> Result<(), BrokerError> {
        let mut assigned = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        let done = assigned.add_partition_offset(&self.topic, PARTITION, offset);
        let done = done.and_then(|()| self.consumer.assign(&assigned));
        done.map_err(|error| self.cannot_read(&error))
    }

    /// Reads until something is so, for as long as there is something to read.
    fn read_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), BrokerError> {
        let mut since = Instant::now();
        while !done(self) {
            if self.step(LOOK)? == Step::Record {
                since = Instant::now();
            }
            if self.stopped() || since.elapsed() > self.clients.timeout() {
                return Err(self.clients.unavailable("the log cannot be read in time"));
            }
        }
        Ok(())
    }

    /// Sees that the log has a name, and that its positions come after all that this node has told: else it is another
    /// log, or not all of it.
    fn name(&mut self) -> Result<(), BrokerError> {
        for _ in 0..MARKS {
            let mark = {
                let index = &self.shared.lock().index;
                let renamed = index.epoch() != self.progress.epoch.as_deref();
                let grown = index.newest() >= self.progress.position;
                match index.mark_again() {
                    Some(mark) if grown && (renamed || !self.progress.another) => mark,
                    _ => index.mark_anew(self.progress.position),
                }
            };
            self.mark(&mark)?;
            let mut state = self.shared.lock();
            let index = &mut state.index;
            let Some(epoch) = index.epoch().map(str::to_owned) else {
                continue;
            };
            let known = self.progress.epoch.as_ref();
            let renamed = known.is_some_and(|known| *known != epoch);
            let same = self.progress.another && !renamed;
            if same || index.newest() <= self.progress.position {
                continue;
            }
            if renamed {
                // What was before the mark may not be all that there was.
                index.forget();
            }
            drop(state);
            self.progress.epoch = Some(epoch);
            self.progress.another = false;
            self.mark_later();
            self.tell();
            return Ok(());
        }
        Err(self
            .clients
            .unavailable("other nodes name the log all the time; try again"))
    }

    /// Marks the log, and reads until the mark.
    fn mark(&mut self, mark: &Mark) -> Result<(), BrokerError> {
        let shared = self.shared.clone();
        let mut echo = shared.expect();
        let headers = record::mark_headers(echo.origin, mark);
        let mut sent = self.sender.send(None, None, headers)?;
        let limit = Instant::now() + self.clients.timeout();
        loop {
            self.step(LOOK)?;
            if echo.read.try_recv().is_ok() {
                return Ok(());
            }
            if let Some(Ok(Err((error, _)))) = (&mut sent).now_or_never() {
                return Err(self.sender.failed(&error));
            }
            if Instant::now() > limit {
                return Err(self
                    .clients
                    .unavailable("what this node produces cannot be read in time"));
            }
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
