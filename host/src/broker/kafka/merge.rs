//! One order over several partitions: what is read of them, merged as the cuts say.
//!
//! # Which cuts count
//!
//! Anybody may write a cut at any time. It counts if no cut that counts is between what its author had seen and itself:
//! a compare-and-swap on the log. So of two that were written at the same moment one counts, the same one on every
//! node, and no node has to be elected. A reader that begins in the middle does not know what counted before; the
//! first cut before which its author had seen all that is there counts for certain.
//!
//! # What has which place
//!
//! The cut at the offset `k` of the order topic has the place `k` + all offsets that it begins with. What it takes has
//! the places after it: of each partition, in their order, its offsets. So the place of a record follows from the cut
//! that takes it, wherever a reader began. Offsets without a record (the ends of transactions, and what was aborted)
//! have places too, of which nothing is heard. A mark at the offset `k` has the place `k` + all offsets that are in
//! order by then.
//!
//! # What waits
//!
//! A record waits for the cut that takes it, and a cut for the records that it takes.

use std::{collections::VecDeque, iter};

use super::{
    cut::{Cut, Span},
    record::{Mark, Origin},
};

/// What the cuts say, so far.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// Cuts before this offset of the order topic were not read: as long as none is known to count, they may.
    clear: u64,
    /// The offset of the newest cut that counts, and of the one that began this order.
    newest: Option<Newest>,
    /// For each partition the next offset that no cut has taken.
    ordered: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    offset: u64,
    began: u64,
}

/// What a cut is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts, and goes on where the one before it ended.
    Counts,
    /// It counts, and begins: it is the first one that is known to count, or begins another order.
    Begins,
    /// Another one was faster.
    Late,
    /// It may count: what was before is not known.
    Unknown,
    /// It does not count: it goes on with something else than there was.
    Odd,
}

/// What can wait.
pub(super) trait Waits {
    /// Its time, in milliseconds since 1970.
    fn time(&self) -> Option<i64>;

    /// The memory that it takes, in bytes.
    fn bytes(&self) -> usize;
}

/// Merges records of type `R`.
#[derive(Debug)]
pub(super) struct Merge<R> {
    chain: Chain,
    /// The offset of the cut that it began with.
    begin: u64,
    /// The offset of the order topic that comes next.
    next: u64,
    partitions: Vec<Partition<R>>,
    /// What comes next, in order.
    turns: VecDeque<Turn>,
    /// The spans of all of these.
    spans: usize,
    /// What all records that wait take, in bytes.
    bytes: usize,
}

#[derive(Debug)]
struct Partition<R> {
    /// The next offset to be released.
    released: u64,
    /// The next offset to be read.
    passed: u64,
    /// The time of the record before that one, if there is a record.
    time: Option<i64>,
    /// What was read and waits, by offsets.
    records: VecDeque<(u64, R)>,
}

#[derive(Debug)]
enum Turn {
    Cut {
        /// The place of what it takes of the partition that is next.
        place: u64,
        cut: Cut,
        /// The partition that is next.
        partition: usize,
    },
    Mark {
        place: u64,
        marked: Marked,
    },
}

/// A mark of the order topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) mark: Mark,
    pub(super) origin: Option<Origin>,
    /// Its time, in milliseconds since 1970.
    pub(super) time: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<R> {
    /// A record, with its place.
    Record { place: u64, record: R },
    /// A mark, with its place.
    Mark { place: u64, marked: Marked },
    /// All places before this one have had their turn.
    Passed(u64),
}

/// What was read is not what the author of a cut had read: it is another log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnotherLog {
    pub(super) partition: usize,
    pub(super) offset: u64,
}

// === impl Chain ===

impl Chain {
    /// Nothing was read yet of the order topic, which is read from this offset on.
    pub(super) fn new(offset: u64) -> Self {
        Self {
            clear: offset,
            newest: None,
            ordered: Vec::new(),
        }
    }

    /// For each partition the next offset that no cut has taken.
    pub(super) fn ordered(&self) -> &[u64] {
        &self.ordered
    }

    /// The same, and that of partitions that are added, which begin at 0.
    fn all_ordered(&self) -> impl Iterator<Item = u64> {
        self.ordered.iter().copied().chain(iter::repeat(0))
    }

    /// The offset of the cut that began this order.
    pub(super) fn began(&self) -> Option<u64> {
        self.newest.map(|newest| newest.began)
    }

    /// Reads the cut at an offset, which is greater than those before.
    pub(super) fn read(&mut self, offset: u64, cut: &Cut) -> Verdict {
        let verdict = self.judge(offset, cut);
        if let Verdict::Counts | Verdict::Begins = verdict {
            self.ordered.clear();
            self.ordered
                .extend(cut.spans.iter().map(|span| span.through));
            let began = cut.began.unwrap_or(offset);
            self.newest = Some(Newest { offset, began });
        }
        self.clear = offset + 1;
        verdict
    }

    fn judge(&self, offset: u64, cut: &Cut) -> Verdict {
        let Some(newest) = self.newest else {
            return match (self.clear..=offset).contains(&cut.seen) {
                true => Verdict::Begins,
                false => Verdict::Unknown,
            };
        };
        if cut.seen <= newest.offset {
            return Verdict::Late;
        }
        if cut.began.is_none() && cut.seen <= offset {
            return Verdict::Begins;
        }
        let goes_on = cut.began == Some(newest.began)
            && cut.seen <= offset
            && cut.spans.len() >= self.ordered.len()
            && cut
                .spans
                .iter()
                .zip(self.all_ordered())
                .all(|(span, ordered)| span.from == ordered);
        match goes_on {
            true => Verdict::Counts,
            false => Verdict::Odd,
        }
    }
}

// === impl Merge ===

impl<R: Waits> Merge<R> {
    /// Begins with the cut at an offset of the order topic, which counts, and is to be read first. For each partition
    /// there is nothing before the offset given for it.
    pub(super) fn new(offset: u64, cut: &Cut, first: &[u64]) -> Self {
        let mut chain = Chain::new(cut.seen);
        chain.ordered = cut.spans.iter().map(|span| span.from).collect();
        let mut merge = Self {
            chain,
            begin: offset,
            next: offset,
            partitions: cut
                .spans
                .iter()
                .map(|span| Partition::new(span.from))
                .collect(),
            turns: VecDeque::new(),
            spans: 0,
            bytes: 0,
        };
        merge.grow(first.len());
        for (partition, first) in merge.partitions.iter_mut().zip(first) {
            partition.passed = partition.passed.max(*first);
        }
        merge
    }

    /// There are so many partitions now.
    pub(super) fn grow(&mut self, partitions: usize) {
        while self.partitions.len() < partitions {
            self.partitions.push(Partition::new(0));
        }
    }

    /// How many partitions are read.
    pub(super) fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// The offset of the order topic that comes next.
    pub(super) fn next_of_order(&self) -> u64 {
        self.next
    }

    /// For each partition the offset that is to be read next.
    pub(super) fn passed(&self) -> impl Iterator<Item = u64> {
        self.partitions.iter().map(|partition| partition.passed)
    }

    /// For each partition the offset that is to be released next.
    pub(super) fn released(&self) -> impl Iterator<Item = u64> {
        self.partitions.iter().map(|partition| partition.released)
    }

    /// The offset of the cut that began this order.
    pub(super) fn began(&self) -> Option<u64> {
        self.chain.began()
    }

    /// What all records that wait take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What all cuts that wait take, counted in spans.
    pub(super) fn spans(&self) -> usize {
        self.spans
    }

    /// Whether a record of a partition waits.
    pub(super) fn waits(&self, partition: usize) -> bool {
        let partition = self.partitions.get(partition);
        partition.is_some_and(|partition| !partition.records.is_empty())
    }

    /// A record was read of a partition.
    pub(super) fn record(&mut self, partition: usize, offset: u64, record: R) {
        let Some(partition) = self.partitions.get_mut(partition) else {
            return;
        };
        if offset < partition.passed {
            return;
        }
        partition.passed = offset + 1;
        partition.time = record.time();
        self.bytes += record.bytes();
        partition.records.push_back((offset, record));
    }

    /// All records of a partition before this offset were read.
    pub(super) fn pass(&mut self, partition: usize, offset: u64) {
        if let Some(partition) = self.partitions.get_mut(partition)
            && offset > partition.passed
        {
            partition.passed = offset;
            partition.time = None;
        }
    }

    /// All records of the order topic before this offset were read.
    pub(super) fn pass_order(&mut self, offset: u64) {
        self.next = self.next.max(offset);
    }

    /// A cut was read.
    pub(super) fn cut(&mut self, offset: u64, cut: Cut) -> Verdict {
        self.pass_order(offset + 1);
        let verdict = self.chain.read(offset, &cut);
        let counts = match verdict {
            Verdict::Counts => true,
            Verdict::Begins => offset == self.begin,
            _ => false,
        };
        if counts {
            self.grow(cut.spans.len());
            self.spans += cut.spans.len();
            self.turns.push_back(Turn::Cut {
                place: offset + cut.from() + 1,
                cut,
                partition: 0,
            });
        }
        match counts {
            true => Verdict::Counts,
            false => verdict,
        }
    }

    /// A mark was read, which says what cut began the order that it is about. Whether it is this one.
    pub(super) fn mark(&mut self, offset: u64, began: Option<u64>, marked: Marked) -> bool {
        self.pass_order(offset + 1);
        let this = began.is_some() && began == self.chain.began();
        if this {
            let place = offset + self.chain.ordered.iter().sum::<u64>();
            self.turns.push_back(Turn::Mark { place, marked });
        }
        this
    }

    /// Whether something was read that no cut has taken.
    pub(super) fn is_unordered(&self) -> bool {
        let mut partitions = self.partitions.iter().zip(self.chain.all_ordered());
        partitions.any(|(partition, ordered)| partition.passed > ordered)
    }

    /// A cut that takes all that was read and that none has taken.
    pub(super) fn next_cut(&self) -> Cut {
        let spans =
            self.partitions
                .iter()
                .zip(self.chain.all_ordered())
                .map(|(partition, from)| {
                    let through = partition.passed.max(from);
                    Span {
                        from,
                        through,
                        time: partition.time.filter(|_| through > from),
                    }
                });
        Cut {
            seen: self.next,
            began: self.chain.began(),
            spans: spans.collect(),
        }
    }

    /// What the cut in front waits for, if it does: a partition, the offset that is to be read next of it, and the one that
    /// it takes it up to.
    pub(super) fn waits_for(&self) -> Option<(usize, u64, u64)> {
        let Some(Turn::Cut { cut, partition, .. }) = self.turns.front() else {
            return None;
        };
        let through = cut.spans.get(*partition)?.through;
        let passed = self.partitions.get(*partition)?.passed;
        (passed < through).then_some((*partition, passed, through))
    }

    /// What comes next; `None` where something has to be read before.
    pub(super) fn next(&mut self) -> Result<Option<Next<R>>, AnotherLog> {
        let (place, cut, number) = match self.turns.front_mut() {
            None => return Ok(None),
            Some(Turn::Cut {
                place,
                cut,
                partition,
            }) => (place, cut, partition),
            Some(Turn::Mark { .. }) => {
                return Ok(match self.turns.pop_front() {
                    Some(Turn::Mark { place, marked }) => Some(Next::Mark { place, marked }),
                    _ => None,
                });
            }
        };
        while let Some(span) = cut.spans.get(*number)
            && let Some(partition) = self.partitions.get_mut(*number)
        {
            if let Some((offset, _)) = partition.records.front()
                && *offset < span.through
                && let Some((offset, record)) = partition.records.pop_front()
            {
                self.bytes -= record.bytes();
                partition.released = offset + 1;
                let another = span.time.is_some_and(|time| Some(time) != record.time());
                if another && offset + 1 == span.through {
                    let partition = *number;
                    return Err(AnotherLog { partition, offset });
                }
                let place = *place + offset.saturating_sub(span.from);
                return Ok(Some(Next::Record { place, record }));
            }
            if partition.passed < span.through {
                return Ok(None);
            }
            partition.released = partition.released.max(span.through);
            *place += span.through - span.from;
            *number += 1;
        }
        let passed = *place;
        self.spans -= cut.spans.len();
        self.turns.pop_front();
        Ok(Some(Next::Passed(passed)))
    }
}

impl<R> Partition<R> {
    fn new(offset: u64) -> Self {
        Self {
            released: offset,
            passed: offset,
            time: None,
            records: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests;
