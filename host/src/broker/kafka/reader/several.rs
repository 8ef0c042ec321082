//! Reading a topic with several partitions, and having a part in their order.
//!
//! # Who writes cuts
//!
//! The node whose cut was the newest that counts, the sequencer, writes the next one as soon as it has read something that
//! none has taken, one at a time: so a cut takes all that came while the one before it was under way. Every other node
//! waits for it, and writes one only where it does not come. Nobody is elected and nothing has to be given up: of two
//! cuts at once one counts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use rdkafka::{
    Message as _, Offset, TopicPartitionList, consumer::Consumer as _, message::BorrowedMessage,
    producer::DeliveryFuture,
};

use super::{
    super::{
        super::BrokerError,
        merge::{Merge, Next, Verdict},
        record::{self, Content, Origin},
        sender::{PARTITION, Sender},
    },
    Checked, Last, Read, Reader, place,
    stuck::Stuck,
};

/// A node that is not the sequencer waits for so long for a cut before it writes one, and a random part more; longer each
/// time that it was late.
const PATIENCE: Duration = Duration::from_millis(50);
const LONGEST_PATIENCE: Duration = Duration::from_secs(1);
/// Records that wait for their turn may take this memory, in bytes, before no more of their partitions are read.
const WAITING_BYTES: usize = 16 << 20;
/// Cuts that wait may take so many spans before no more of them are read.
const WAITING_SPANS: usize = 100_000;

/// What is known of a topic with several partitions.
pub(in super::super) struct Several {
    /// The order topic.
    pub(super) order: String,
    /// Puts records into it.
    pub(super) sender: Arc<Sender>,
    pub(super) merge: Merge<Read>,
    /// It is not known where reading may go on.
    pub(super) lost: bool,
    /// Something was read that says so, and where to begin instead.
    pub(super) learnt: bool,
    /// What the order topic says before this offset is not about the log that the topic holds.
    pub(super) wrong: u64,
    /// The record of the order topic that was read last, and those of each partition.
    pub(super) last_of_order: Last,
    pub(super) last: Vec<Last>,
    /// Something was read to its end: it may be that more was passed by.
    pub(super) at_end: bool,
    /// So far the order topic has to be read before this node has a part in the order.
    pub(super) behind: u64,
    /// This node's own cut that is under way.
    cutting: Option<Cutting>,
    /// The newest cut that counts is this node's.
    sequencer: bool,
    patience: Duration,
    /// When this node writes a cut, if nobody else does before.
    due: Option<Instant>,
    /// What is waited for, and since when.
    pub(super) stuck: Option<Stuck>,
    /// Which partitions are not read for now, and whether the order topic is not.
    paused: Vec<bool>,
    order_paused: bool,
}

struct Cutting {
    origin: Origin,
    /// Until it is acknowledged.
    sent: Option<DeliveryFuture>,
    since: Instant,
}

impl Several {
    pub(super) fn new(order: String, sender: Arc<Sender>, merge: Merge<Read>) -> Self {
        Self {
            order,
            sender,
            merge,
            lost: true,
            learnt: false,
            wrong: 0,
            last_of_order: Last::default(),
            last: Vec::new(),
            at_end: false,
            behind: 0,
            cutting: None,
            sequencer: false,
            patience: PATIENCE,
            due: None,
            stuck: None,
            paused: Vec::new(),
            order_paused: false,
        }
    }

    /// Forgets what was under way.
    pub(super) fn calm(&mut self) {
        self.at_end = false;
        self.cutting = None;
        self.sequencer = false;
        self.patience = PATIENCE;
        self.due = None;
        self.stuck = None;
    }

    /// What was read says that reading cannot go on where it was.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.learnt = true;
    }

    /// How many of the records that were read last are still to be read again.
    pub(super) fn unchecked(&self) -> usize {
        let all = self.last.iter().chain([&self.last_of_order]);
        all.filter(|last| last.is_unchecked()).count()
    }

    /// A cut that counts was read.
    fn ordered(&mut self, own: bool) {
        self.sequencer = own;
        self.due = None;
        self.patience = match own {
            true => PATIENCE,
            false => PATIENCE.max(self.patience - self.patience / 16),
        };
    }
}

impl Reader {
    /// A record was read, of one of the partitions or of the order topic.
    pub(super) fn take_of_several(
        &mut self,
        message: &BorrowedMessage<'_>,
    ) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        let of_order = message.topic() == several.order;
        let partition = usize::try_from(message.partition()).unwrap_or(usize::MAX);
        let last = match of_order {
            true => Some(&mut several.last_of_order),
            false => several.last.get_mut(partition),
        };
        let Some(last) = last else { return Ok(()) };
        match last.read(message) {
            Checked::Again => return Ok(()),
            Checked::Another => {
                several.lose();
                if !of_order {
                    several.wrong = several.merge.next_of_order();
                }
                return Err(self.another_log());
            }
            Checked::New => {}
        }
        let read = Read::new(message, self.clients.event_data());
        match of_order {
            true => self.take_order(place(message.offset()), read)?,
            false => {
                several
                    .merge
                    .record(partition, place(message.offset()), read);
                if several.merge.bytes() > WAITING_BYTES && several.merge.waits(partition) {
                    self.pause(Some(partition))?;
                }
            }
        }
        self.release()
    }

    /// A record of the order topic was read.
    fn take_order(&mut self, offset: u64, read: Read) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        if offset < several.merge.next_of_order() {
            return Ok(());
        }
        let origin = read.record().origin;
        let own = several
            .cutting
            .as_ref()
            .is_some_and(|cutting| Some(cutting.origin) == origin);
        if own {
            several.cutting = None;
        }
        match &read.record().content {
            Ok(Content::Cut(cut)) => {
                let (cut, partitions) = (cut.clone(), cut.spans.len());
                match several.merge.cut(offset, cut) {
                    Verdict::Counts => {
                        several.ordered(own);
                        if several.merge.spans() > WAITING_SPANS {
                            self.pause(None)?;
                        }
                        return self.grow(partitions);
                    }
                    Verdict::Begins => {
                        several.lose();
                        return Err(self.clients.unavailable(format!(
                            "another node has begun the order of the topic {} anew",
                            self.topic
                        )));
                    }
                    // Its own wait, so that not all are late again and again.
                    Verdict::Late if own => {
                        // Short enough that whoever waits for something does not give up meanwhile.
                        let longest = LONGEST_PATIENCE.min(self.clients.timeout() / 8);
                        several.patience = longest.min(2 * several.patience);
                    }
                    Verdict::Late | Verdict::Unknown => {}
                    Verdict::Odd => tracing::warn!(
                        topic = several.order,
                        offset,
                        "a record says something about the order of events that cannot be, and is skipped"
                    ),
                }
            }
            Ok(Content::Mark(_)) => {
                let began = read.record().began;
                if let Some(marked) = read.into_mark() {
                    several.merge.mark(offset, began, marked);
                }
            }
            Ok(Content::Event(..)) | Err(_) => {
                several.merge.pass_order(offset + 1);
                tracing::warn!(
                    topic = several.order,
                    offset,
                    "a record is none of a node's and is skipped"
                );
            }
        }
        Ok(())
    }

    /// Where something was read to its end, passes by what is not for applications: the ends of transactions, and what was
    /// aborted.
    pub(super) fn pass_several(&mut self) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        if !std::mem::take(&mut several.at_end) {
            return Ok(());
        }
        if let Ok(positions) = self.consumer.position() {
            for position in positions.elements() {
                let Offset::Offset(offset) = position.offset() else {
                    continue;
                };
                if position.topic() == several.order {
                    several.merge.pass_order(place(offset));
                } else if let Ok(partition) = usize::try_from(position.partition()) {
                    several.merge.pass(partition, place(offset));
                }
            }
        }
        self.release()
    }

    /// What was passed by is looked up at once.
    pub(super) fn until_passed(&self, wait: Duration) -> Duration {
        match &self.several {
            Some(several) if several.at_end => Duration::ZERO,
            _ => wait,
        }
    }

    /// Delivers all whose turn it is.
    fn release(&mut self) -> Result<(), BrokerError> {
        loop {
            let Some(several) = &mut self.several else {
                return Ok(());
            };
            match several.merge.next() {
                Ok(Some(Next::Record { place, record })) => {
                    self.deliver(place, record);
                }
                Ok(Some(Next::Mark { place, marked })) => self.deliver_mark(place, marked),
                Ok(Some(Next::Passed(place))) => self.shared.lock().index.pass(place),
                Ok(None) => return self.resume(),
                Err(another) => {
                    several.lose();
                    several.wrong = several.merge.next_of_order();
                    tracing::warn!(
                        topic = self.topic,
                        partition = another.partition,
                        offset = another.offset,
                        "a record is not the one that another node has read there"
                    );
                    return Err(self.another_log());
                }
            }
        }
    }

    // === cuts ===

    /// Writes a cut if it is time.
    pub(super) fn order(&mut self) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        if let Some(cutting) = &mut several.cutting {
            let ended = cutting.sent.as_mut().and_then(|sent| sent.now_or_never());
            if ended.is_some() {
                // It ends once.
                cutting.sent = None;
            }
            let failed = ended.filter(|sent| !matches!(sent, Ok(Ok(_))));
            // Another one does no harm, even if this one is there.
            if failed.is_some() || cutting.since.elapsed() > self.clients.timeout() {
                tracing::debug!(topic = several.order, ?failed, "a cut was not written");
                several.cutting = None;
                several.sequencer = false;
            }
        }
        self.look_at_front()?;
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        if !several.merge.is_unordered() || several.merge.next_of_order() < several.behind {
            several.due = None;
            return Ok(());
        }
        let wait = match several.sequencer {
            true => Duration::ZERO,
            false => several.patience.mul_f64(rand::random_range(1.0..2.0)),
        };
        let due = *several.due.get_or_insert_with(|| Instant::now() + wait);
        if due <= Instant::now() || several.sequencer {
            self.cut();
        }
        Ok(())
    }

    /// How long to wait for something to read: no longer than until a cut is due.
    pub(super) fn until_order(&self, wait: Duration) -> Duration {
        match &self.several {
            Some(several) if several.cutting.is_none() => several.due.map_or(wait, |due| {
                wait.min(due.saturating_duration_since(Instant::now()))
            }),
            _ => wait,
        }
    }

    /// Writes a cut, unless one is under way.
    pub(super) fn cut(&mut self) {
        let Some(several) = &mut self.several else {
            return;
        };
        if several.cutting.is_some() || several.merge.began().is_none() {
            return;
        }
        several.due = None;
        let origin = self.shared.origin();
        let cut = several.merge.next_cut();
        let headers = record::cut_headers(origin, &cut);
        match several.sender.send(None, Some(&cut.value()), headers) {
            Ok(sent) => {
                several.cutting = Some(Cutting {
                    origin,
                    sent: Some(sent),
                    since: Instant::now(),
                });
            }
            Err(error) => {
                several.sequencer = false;
                tracing::debug!(topic = several.order, %error, "a cut cannot be written now");
            }
        }
    }

    // === what is read ===

    /// Reads so many partitions from now on.
    pub(super) fn grow(&mut self, partitions: usize) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        several.merge.grow(partitions);
        if several.last.len() >= several.merge.partitions() {
            return Ok(());
        }
        tracing::info!(
            topic = self.topic,
            partitions,
            "the topic has more partitions now"
        );
        several.last.resize_with(partitions, Last::default);
        self.shared.has_partitions(partitions);
        self.assign_several()
    }

    /// Reads the order topic and all partitions, from where they were read, or from what was read last where that is to
    /// be read again.
    pub(super) fn assign_several(&mut self) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        let partitions = several.merge.partitions();
        several.paused = vec![false; partitions];
        several.order_paused = false;
        let mut from = TopicPartitionList::with_capacity(partitions + 1);
        let mut add = |topic: &str, partition: i32, last: &Last, next: u64| {
            let again = last.offset().filter(|_| last.is_unchecked());
            let offset = i64::try_from(again.unwrap_or(next)).unwrap_or(i64::MAX);
            from.add_partition_offset(topic, partition, Offset::Offset(offset))
        };
        let next = several.merge.next_of_order();
        let mut added = add(&several.order, PARTITION, &several.last_of_order, next);
        for ((number, last), next) in (0..).zip(&several.last).zip(several.merge.passed()) {
            added = added.and_then(|()| add(&self.topic, number, last, next));
        }
        added
            .and_then(|()| self.consumer.assign(&from))
            .and_then(|()| self.consumer.resume(&from))
            .map_err(|error| self.cannot_read(&error))
    }

    /// Does not read a partition for now, or the order topic.
    fn pause(&mut self, partition: Option<usize>) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        let paused = match partition {
            Some(partition) => several.paused.get_mut(partition),
            None => Some(&mut several.order_paused),
        };
        if paused.is_none_or(|paused| std::mem::replace(paused, true)) {
            return Ok(());
        }
        let done = self.consumer.pause(&one(several, &self.topic, partition));
        done.map_err(|error| self.cannot_read(&error))
    }

    /// Goes on to read what is needed next, or for which there is room again.
    fn resume(&mut self) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        let room = several.merge.bytes() < WAITING_BYTES / 2;
        let mut resumed = Vec::new();
        for (number, paused) in several.paused.iter_mut().enumerate() {
            if *paused && (room || !several.merge.waits(number)) {
                *paused = false;
                resumed.push(Some(number));
            }
        }
        if several.order_paused && several.merge.spans() < WAITING_SPANS / 2 {
            several.order_paused = false;
            resumed.push(None);
        }
        for partition in resumed {
            let done = self.consumer.resume(&one(several, &self.topic, partition));
            done.map_err(|error| self.clients.error("the log cannot be read", &error))?;
        }
        Ok(())
    }
}

/// A partition of the topic, or that of the order topic.
fn one(several: &Several, topic: &str, partition: Option<usize>) -> TopicPartitionList {
    let mut one = TopicPartitionList::new();
    match partition {
        Some(partition) => {
            one.add_partition(topic, i32::try_from(partition).unwrap_or(i32::MAX));
        }
        None => {
            one.add_partition(&several.order, PARTITION);
        }
    }
    one
}
