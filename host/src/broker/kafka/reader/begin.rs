//! How reading a topic with several partitions begins, and how it comes back.
//!
//! The order topic is read first, to find the cut to begin with, and then again together with the partitions. Where there
//! is none, or what there is cannot be about this topic, the node begins an order itself: with a cut that begins as far
//! back as events are kept, and needs nobody's agreement.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use rdkafka::{
    Message as _, Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaError,
    producer::DeliveryFuture,
};

use super::{
    super::{
        super::BrokerError,
        cut::{Cut, Span},
        index::Index,
        merge::{Chain, Merge, Verdict},
        record::{self, Content, Origin},
        sender::{PARTITION, Sender},
        topic::{self, Wanted},
    },
    LOOK, Last, MARK, Read, Reader, place,
    several::Several,
};

/// How often to begin an order, where others do so too or what was found was of another log.
const BEGINNINGS: usize = 10;
/// How often to look whether a new leader knows of all that was there.
const RETRY: Duration = Duration::from_millis(100);

/// What the order topic says, as far as it was read.
struct Found {
    chain: Chain,
    /// The offset that is read next.
    next: u64,
    /// The cut to begin with, and its offset.
    begin: Option<(u64, Cut)>,
}

/// Where partitions begin and end.
struct Ends {
    first: Vec<u64>,
    next: Vec<u64>,
}

impl Reader {
    /// As [`attach`](Reader::attach), where the topic has so many partitions.
    pub(super) fn attach_several(&mut self, partitions: usize) -> Result<(), BrokerError> {
        let order = topic::order(&self.topic);
        let wanted = Wanted {
            topic: &order,
            partitions: 1,
            one: true,
            kept: self.back() + MARK,
        };
        let found = topic::open(&self.clients, &self.consumer, &wanted, &self.runtime)?;
        if self.several.is_none() {
            let sender = Arc::new(Sender::new(self.clients.clone(), order.clone())?);
            self.progress.last = Last::default();
            let nothing = Cut {
                seen: 0,
                began: None,
                spans: Vec::new(),
            };
            let merge = Merge::new(0, &nothing, &[]);
            self.several = Some(Several::new(order.clone(), sender, merge));
        }
        let limit = self.clients.timeout();
        let (low, high) = self.ends_of(&order)?;
        let edges = |edge| topic::edges(&self.consumer, &self.topic, partitions, edge, limit);
        let (first, next) = (edges(Offset::Beginning), edges(Offset::End));
        let cannot = |error| self.clients.error("the log cannot be looked up", &error);
        let ends = Ends {
            first: first.map_err(cannot)?,
            next: next.map_err(cannot)?,
        };
        self.shared.has_partitions(partitions);
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        if let Some(largest) = found.largest {
            several.sender.bound(largest)?;
        }
        several.calm();
        several.behind = high;
        if several.go_on(low..=high, &ends) {
            several.merge.grow(partitions);
            several.last.resize_with(partitions, Last::default);
            self.assign_several()?;
            return self.read_until(|reader| {
                let several = reader.several.as_ref();
                several.map_or(0, |several| several.unchecked() as u64)
            });
        }
        let mut failed = None;
        for _ in 0..BEGINNINGS {
            match self.begin(low, &ends) {
                Ok(()) => return Ok(()),
                // It is tried again where something was learnt from it.
                Err(error) if self.several.as_ref().is_some_and(|several| several.learnt) => {
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.clients.unavailable("the log cannot be read")))
    }

    /// Begins to read with the cut that is the best to begin with.
    fn begin(&mut self, low: u64, ends: &Ends) -> Result<(), BrokerError> {
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        several.lost = true;
        several.learnt = false;
        let (offset, cut) = self.find(low, ends)?;
        let Some(several) = &mut self.several else {
            return Ok(());
        };
        several.merge = Merge::new(offset, &cut, &ends.first);
        several.last_of_order = Last::default();
        several.last = Vec::new();
        several
            .last
            .resize_with(several.merge.partitions(), Last::default);
        several.behind = several.behind.max(offset + 1);
        several.calm();
        let index = Index::new(self.retention, self.memory, offset + cut.from());
        self.shared.lock().begin(index);
        // Nothing is answered from it until all of it was read.
        self.shared.reached([], 0);
        self.assign_several()?;
        self.read_until(|reader| {
            reader.several.as_ref().map_or(0, |several| {
                let read = several.merge.passed().zip(several.merge.released());
                let left = read.zip(&ends.next).map(|((passed, released), next)| {
                    next.saturating_sub(passed) + next.saturating_sub(released)
                });
                let of_order = several.behind.saturating_sub(several.merge.next_of_order());
                of_order + left.sum::<u64>()
            })
        })?;
        self.name()?;
        if let Some(several) = &mut self.several {
            several.lost = false;
            several.wrong = 0;
        }
        Ok(())
    }

    /// The cut to begin with, and its offset.
    fn find(&mut self, low: u64, ends: &Ends) -> Result<(u64, Cut), BrokerError> {
        let Some(several) = &self.several else {
            return Err(self.clients.unavailable("the topic has one partition"));
        };
        let (order, behind) = (several.order.clone(), several.behind);
        // An order topic that ends before that is another one.
        let wrong = Some(several.wrong).filter(|wrong| *wrong <= behind);
        let (wrong, sender) = (wrong.unwrap_or(0), several.sender.clone());
        let (clients, consumer) = (self.clients.clone(), self.consumer.clone());
        let back = self.back();
        let since = topic::first_since(&clients, &consumer, &order, 1, back)?;
        let start = since.into_iter().next().flatten();
        let start = start.map_or(behind, |start| start.clamp(low, behind));
        let mut found = Found {
            chain: Chain::new(start),
            next: start,
            begin: None,
        };
        let mut from = TopicPartitionList::new();
        let offset = Offset::Offset(i64::try_from(start).unwrap_or(i64::MAX));
        from.add_partition_offset(&order, PARTITION, offset)
            .and_then(|()| consumer.assign(&from))
            .and_then(|()| consumer.resume(&from))
            .map_err(|error| self.cannot_read(&error))?;
        self.read_order(&order, &mut found, behind, None)?;
        for _ in 0..BEGINNINGS {
            if let Some((offset, cut)) = &found.begin
                && *offset >= wrong
                && self.can_be(found.chain.ordered(), &ends.next)?
            {
                return Ok((*offset, cut.clone()));
            }
            let since =
                topic::first_since(&clients, &consumer, &self.topic, ends.next.len(), back)?;
            let spans = since.into_iter().zip(&ends.first).zip(&ends.next);
            let spans = spans.map(|((since, first), next)| {
                // What is newer than all that there is begins at the end.
                Span::empty(since.unwrap_or(*next).clamp(*first, (*next).max(*first)))
            });
            let cut = Cut {
                seen: found.next,
                began: None,
                spans: spans.collect(),
            };
            let origin = self.shared.origin();
            let headers = record::cut_headers(origin, &cut);
            let sent = sender.send(None, Some(&cut.value()), headers)?;
            found.begin = None;
            self.read_order(&order, &mut found, u64::MAX, Some((origin, sent)))?;
        }
        Err(clients.unavailable("other nodes begin the order of the topic all the time; try again"))
    }

    /// Whether a topic that ends at these offsets can be the one whose order was read up to those. It may take its time
    /// until everybody knows of records and partitions that are new.
    fn can_be(&self, ordered: &[u64], next: &[u64]) -> Result<bool, BrokerError> {
        let holds = |next: &[u64]| {
            let mut all = ordered.iter().zip(next);
            next.len() >= ordered.len() && all.all(|(ordered, next)| ordered <= next)
        };
        if holds(next) {
            return Ok(true);
        }
        let limit = self.clients.timeout();
        let until = Instant::now() + limit;
        while Instant::now() < until && !self.stopped() {
            let partitions = topic::partitions_now(&self.consumer, &self.topic, limit);
            if partitions.is_some_and(|partitions| partitions > next.len()) {
                return Err(self
                    .clients
                    .unavailable("the topic has more partitions now"));
            }
            let next = topic::edges(&self.consumer, &self.topic, next.len(), Offset::End, limit);
            if next.is_ok_and(|next| holds(&next)) {
                return Ok(true);
            }
            thread::sleep(RETRY);
        }
        Ok(false)
    }

    /// Reads the order topic, which nothing else is read beside, until all before an offset was read, or what this node
    /// has sent.
    fn read_order(
        &mut self,
        order: &str,
        found: &mut Found,
        end: u64,
        mut sent: Option<(Origin, DeliveryFuture)>,
    ) -> Result<(), BrokerError> {
        let consumer = self.consumer.clone();
        let mut since = Instant::now();
        while found.next < end {
            match consumer.poll(LOOK) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // What is not for applications is passed by.
                    let positions = consumer.position();
                    let position = positions.iter().flat_map(TopicPartitionList::elements);
                    for position in position {
                        if let Offset::Offset(offset) = position.offset() {
                            found.next = found.next.max(place(offset));
                        }
                    }
                }
                Some(Err(error)) => self.failed(&error)?,
                // Nothing else is read, but may have been.
                Some(Ok(message)) if message.topic() != order => {}
                Some(Ok(message)) => {
                    since = Instant::now();
                    let offset = place(message.offset());
                    let read = Read::new(&message, 0);
                    found.next = offset + 1;
                    if let Ok(Content::Cut(cut)) = &read.record().content
                        && found.chain.read(offset, cut) == Verdict::Begins
                    {
                        found.begin = Some((offset, cut.clone()));
                    }
                    let own = sent.as_ref().map(|(origin, _)| *origin);
                    if own.is_some() && own == read.record().origin {
                        return Ok(());
                    }
                }
            }
            if let Some((_, sent)) = &mut sent
                && let Some(Ok(Err((error, _)))) = sent.now_or_never()
            {
                let what = "the order of the topic cannot be written";
                return Err(self.clients.error(what, &error));
            }
            if self.stopped() || since.elapsed() > self.clients.timeout() {
                return Err(self
                    .clients
                    .unavailable("the order of the topic cannot be read in time"));
            }
        }
        Ok(())
    }
}

impl Several {
    /// Whether reading can go on where it was, where the order topic and the partitions are from and up to these offsets.
    /// What was read last is read again, where it is still there.
    fn go_on(&mut self, order: std::ops::RangeInclusive<u64>, ends: &Ends) -> bool {
        let there = |last: &Last, first: u64| last.offset().is_some_and(|last| last >= first);
        let mut good = !self.lost
            && order.contains(&self.merge.next_of_order())
            && self.merge.partitions() <= ends.next.len();
        for (passed, (first, next)) in self.merge.passed().zip(ends.first.iter().zip(&ends.next)) {
            good &= (*first..=*next).contains(&passed);
        }
        let all = self.last.iter_mut().zip(ends.first.iter().copied());
        for (last, first) in all.chain([(&mut self.last_of_order, *order.start())]) {
            match good && there(last, first) {
                true => last.check(),
                false => last.trust(),
            }
        }
        good
    }
}
