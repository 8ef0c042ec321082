//! How reading begins, and how it comes back.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaError};

use super::{
    super::{
        super::BrokerError,
        index::Index,
        record::{self, Mark},
        sender::PARTITION,
        topic::{self, Wanted},
    },
    LOOK, Last, MARK, Reader, place,
};

/// How often to mark a log whose mark does not count, because others mark it too.
const MARKS: usize = 10;

impl Reader {
    /// Begins to read, where it was or as far back as events are kept, and reads what there is. Returns when the node
    /// knows the log.
    pub(in super::super) fn attach(&mut self) -> Result<(), BrokerError> {
        self.progress.attaching = true;
        self.clients.forget_said();
        self.consumer
            .unassign()
            .map_err(|error| self.cannot_read(&error))?;
        let wanted = Wanted {
            topic: &self.topic,
            partitions: self.partitions,
            one: false,
            kept: self.retention.age,
        };
        let found = topic::open(&self.clients, &self.consumer, &wanted, &self.runtime)?;
        self.sender.spread(found.partitions > 1);
        if let Some(largest) = found.largest {
            self.sender.bound(largest)?;
        }
        match found.partitions {
            0 | 1 => self.attach_one()?,
            partitions => self.attach_several(partitions)?,
        }
        self.progress.attaching = false;
        Ok(())
    }

    /// The same, where the topic has one partition.
    fn attach_one(&mut self) -> Result<(), BrokerError> {
        self.shared.has_partitions(1);
        if self.several.take().is_some() {
            self.progress.last = Last::default();
        }
        let (low, high) = self.ends_of(&self.topic)?;
        let last = self.progress.last.offset();
        match last.filter(|last| (low..high).contains(last)) {
            Some(last) => {
                self.progress.last.check();
                self.assign(last)?;
                self.read_until(|reader| reader.progress.last.is_unchecked().into())
            }
            // It was not read before, or what was read last is not there any more.
            None => self.attach_anew(low, high).inspect_err(|_| {
                // The log may not have been named.
                self.progress.last = Last::default();
            }),
        }
    }

    fn attach_anew(&mut self, low: u64, high: u64) -> Result<(), BrokerError> {
        self.progress.last = Last::default();
        let start = self.start(low, high)?;
        let index = Index::new(self.retention, self.memory, start);
        self.shared.lock().begin(index);
        // Nothing is answered from it until all of it was read.
        self.shared.reached([], 0);
        self.assign(start)?;
        self.read_until(|reader| high.saturating_sub(reader.shared.lock().index.next_offset()))?;
        self.name()
    }

    pub(super) fn cannot_read(&self, error: &KafkaError) -> BrokerError {
        self.clients.error("the log cannot be read", error)
    }

    /// The first and the next offset of a topic with one partition.
    pub(super) fn ends_of(&self, topic: &str) -> Result<(u64, u64), BrokerError> {
        let limit = self.clients.timeout();
        let ends = self.consumer.fetch_watermarks(topic, PARTITION, limit);
        let (low, high) =
            ends.map_err(|error| self.clients.error("the log cannot be looked up", &error))?;
        Ok((place(low), place(high)))
    }

    /// How far back to begin: twice as far as events are kept, because what is kept may have been published before under
    /// the same id; and so far that there is a mark, if somebody uses the log.
    pub(super) fn back(&self) -> Duration {
        2 * self.retention.age.max(2 * MARK)
    }

    /// Where to begin.
    fn start(&self, low: u64, high: u64) -> Result<u64, BrokerError> {
        let found = topic::first_since(&self.clients, &self.consumer, &self.topic, 1, self.back())?;
        let found = found.into_iter().next().flatten();
        Ok(found.map_or(high, |offset| offset.clamp(low, high)))
    }

    fn assign(&self, offset: u64) -> Result<(), BrokerError> {
        let mut assigned = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        let done = assigned.add_partition_offset(&self.topic, PARTITION, offset);
        let done = done.and_then(|()| self.consumer.assign(&assigned));
        done.map_err(|error| self.cannot_read(&error))
    }

    /// Reads until nothing is left of what is to be read, for as long as it becomes less: what else is published meanwhile
    /// does not count.
    pub(super) fn read_until(&mut self, left: impl Fn(&Self) -> u64) -> Result<(), BrokerError> {
        let mut since = Instant::now();
        let mut before = left(self);
        while before > 0 {
            self.step(self.until_order(LOOK))?;
            self.order()?;
            let now = left(self);
            if std::mem::replace(&mut before, now) != now {
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
    pub(super) fn name(&mut self) -> Result<(), BrokerError> {
        for _ in 0..MARKS {
            let mark = {
                let state = self.shared.lock();
                let (index, before) = (&state.index, state.before());
                let renamed = index.epoch() != self.progress.epoch.as_deref();
                let grown = index.newest() >= before;
                match index.mark_again() {
                    Some(mark) if grown && (renamed || !self.progress.another) => mark,
                    _ => index.mark_anew(before),
                }
            };
            self.mark(&mark)?;
            let mut state = self.shared.lock();
            let before = state.before();
            let index = &mut state.index;
            let Some(epoch) = index.epoch().map(str::to_owned) else {
                continue;
            };
            let known = self.progress.epoch.as_ref();
            let renamed = known.is_some_and(|known| *known != epoch);
            let same = self.progress.another && !renamed;
            if same || index.newest() <= before {
                continue;
            }
            if renamed {
                index.forget_up_to(before);
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
        let headers = record::mark_headers(echo.origin, mark, self.began());
        let mut sent = self.marks().send(None, None, headers)?;
        let limit = Instant::now() + self.clients.timeout();
        loop {
            self.step(self.until_order(LOOK))?;
            self.order()?;
            if echo.read.try_recv().is_ok() {
                return Ok(());
            }
            if let Some(Ok(Err((error, _)))) = (&mut sent).now_or_never() {
                return Err(self.marks().failed(&error, 0));
            }
            if Instant::now() > limit {
                return Err(self
                    .clients
                    .unavailable("what this node produces cannot be read in time"));
            }
        }
    }
}
