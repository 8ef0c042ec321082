use proptest::prelude::*;

use super::*;

/// A record: its time, and that is all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Timed(i64);

impl Waits for Timed {
    fn time(&self) -> Option<i64> {
        Some(self.0)
    }

    fn bytes(&self) -> usize {
        1
    }
}

fn span(from: u64, through: u64) -> Span {
    Span {
        from,
        through,
        time: None,
    }
}

fn cut(seen: u64, began: Option<u64>, spans: &[(u64, u64)]) -> Cut {
    Cut {
        seen,
        began,
        spans: spans
            .iter()
            .map(|(from, through)| span(*from, *through))
            .collect(),
    }
}

fn mark(epoch: &str) -> Marked {
    Marked {
        mark: Mark {
            epoch: epoch.into(),
            base: 0,
            after: 0,
        },
        origin: None,
        time: 0,
    }
}

/// All that comes next, as places and records.
fn all(merge: &mut Merge<Timed>) -> Vec<(u64, i64)> {
    let mut all = Vec::new();
    while let Some(next) = merge.next().unwrap() {
        if let Next::Record { place, record } = next {
            all.push((place, record.0));
        }
    }
    all
}

#[test]
fn records_come_in_the_order_of_cuts() {
    let first = cut(5, None, &[(10, 10), (20, 20)]);
    let mut merge = Merge::new(5, &first, &[0, 0]);
    assert_eq!(merge.cut(5, first), Verdict::Counts);
    merge.record(1, 20, Timed(1));
    merge.record(0, 10, Timed(2));
    merge.record(0, 12, Timed(3));
    assert_eq!(all(&mut merge), []);
    assert!(merge.is_unordered());
    let next = merge.next_cut();
    assert_eq!(next.seen, 6);
    assert_eq!(next.value(), "10+3@3 20+1@1");
    merge.record(1, 21, Timed(4));
    assert_eq!(merge.cut(6, next), Verdict::Counts);
    // The cut itself is at 6 + 10 + 20; there is nothing at 11.
    assert_eq!(all(&mut merge), [(37, 2), (39, 3), (40, 1)]);
    assert_eq!(merge.bytes(), 1);
    assert!(merge.is_unordered());
    assert_eq!(merge.cut(7, merge.next_cut()), Verdict::Counts);
    assert_eq!(all(&mut merge), [(42, 4)]);
    assert!(!merge.is_unordered());
    assert_eq!(merge.released().collect::<Vec<_>>(), [13, 22]);
    assert_eq!((merge.bytes(), merge.spans()), (0, 0));
}

#[test]
fn a_cut_waits_for_what_it_takes() {
    let first = cut(0, None, &[(0, 0), (0, 0)]);
    let mut merge = Merge::new(0, &first, &[0, 0]);
    merge.cut(0, first);
    assert_eq!(
        merge.cut(1, cut(1, Some(0), &[(0, 2), (0, 1)])),
        Verdict::Counts
    );
    merge.record(1, 0, Timed(3));
    merge.record(0, 0, Timed(1));
    assert_eq!(all(&mut merge), [(2, 1)]);
    // The end of a transaction.
    merge.pass(0, 2);
    assert_eq!(all(&mut merge), [(4, 3)]);
    // What was read is not read again.
    merge.record(0, 1, Timed(2));
    assert!(!merge.is_unordered() && !merge.waits(0));
}

#[test]
fn of_cuts_that_were_written_at_once_the_first_counts() {
    let first = cut(0, None, &[(0, 0)]);
    let mut merge = Merge::<Timed>::new(0, &first, &[0]);
    merge.cut(0, first);
    let take = |seen, from, through| cut(seen, Some(0), &[(from, through)]);
    assert_eq!(merge.cut(1, take(1, 0, 1)), Verdict::Counts);
    assert_eq!(merge.cut(2, take(1, 0, 2)), Verdict::Late);
    assert_eq!(merge.cut(3, take(0, 0, 3)), Verdict::Late);
    // Who has seen the one that counts is not late.
    assert_eq!(merge.cut(4, take(2, 1, 2)), Verdict::Counts);
    // What cannot be.
    assert_eq!(merge.cut(5, take(5, 1, 3)), Verdict::Odd);
    assert_eq!(merge.cut(6, take(9, 2, 3)), Verdict::Odd);
    assert_eq!(merge.cut(7, cut(7, Some(1), &[(2, 3)])), Verdict::Odd);
    // Another order begins.
    assert_eq!(merge.cut(8, cut(4, None, &[(0, 0)])), Verdict::Late);
    assert_eq!(merge.cut(9, cut(9, None, &[(0, 0)])), Verdict::Begins);
}

#[test]
fn partitions_may_be_added() {
    let first = cut(0, None, &[(7, 7)]);
    let mut merge = Merge::new(0, &first, &[0]);
    merge.cut(0, first);
    assert_eq!(
        merge.cut(1, cut(1, Some(0), &[(7, 7), (0, 1)])),
        Verdict::Counts
    );
    assert_eq!(merge.partitions(), 2);
    merge.record(1, 0, Timed(1));
    assert_eq!(all(&mut merge), [(9, 1)]);
    assert_eq!(merge.cut(2, cut(2, Some(0), &[(7, 8)])), Verdict::Odd);
}

#[test]
fn marks_are_of_their_order_only() {
    let first = cut(4, None, &[(7, 7)]);
    let mut merge = Merge::<Timed>::new(4, &first, &[0]);
    merge.cut(4, first);
    assert!(!merge.mark(5, Some(3), mark("a")));
    assert!(!merge.mark(6, None, mark("b")));
    assert!(merge.mark(7, Some(4), mark("c")));
    assert_eq!(merge.next(), Ok(Some(Next::Passed(12))));
    let marked = mark("c");
    assert_eq!(merge.next(), Ok(Some(Next::Mark { place: 14, marked })));
    assert_eq!(merge.next(), Ok(None));
}

#[test]
fn another_log_is_told_apart() {
    let first = cut(0, None, &[(0, 0)]);
    let merge = || {
        let mut merge = Merge::new(0, &first, &[0]);
        merge.cut(0, first.clone());
        merge.record(0, 0, Timed(1));
        merge.record(0, 1, Timed(2));
        merge
    };
    let next = merge().next_cut();
    let mut other = Merge::new(0, &first, &[0]);
    other.cut(0, first.clone());
    other.cut(1, next.clone());
    other.record(0, 0, Timed(1));
    other.record(0, 1, Timed(9));
    while let Ok(Some(next)) = other.next() {
        assert!(!matches!(next, Next::Record { place: 3, .. }));
    }
    let mut same = merge();
    same.cut(1, next);
    assert_eq!(all(&mut same), [(2, 1), (3, 2)]);
}

/// The order topic, and the topic.
#[derive(Debug, Default)]
struct Logs {
    order: Vec<Cut>,
    /// `None` where there is no record.
    partitions: Vec<Vec<Option<i64>>>,
}

/// A node.
struct Node {
    merge: Merge<Timed>,
    heard: Vec<(u64, i64)>,
}

impl Node {
    /// Begins at the first cut that counts for certain from an offset on.
    fn begin(logs: &Logs, offset: usize) -> Option<Self> {
        let mut chain = Chain::new(offset as u64);
        let mut cuts = logs.order.iter().enumerate().skip(offset);
        let (at, cut) = cuts.find(|(at, cut)| chain.read(*at as u64, cut) == Verdict::Begins)?;
        Some(Self {
            merge: Merge::new(at as u64, cut, &vec![0; logs.partitions.len()]),
            heard: Vec::new(),
        })
    }

    /// Reads the next of a partition, or of the order. Whether there was any.
    fn read(&mut self, logs: &Logs, partition: usize) -> bool {
        let read = match logs.partitions.get(partition) {
            None => {
                let offset = self.merge.next_of_order();
                let cut = logs.order.get(offset as usize);
                cut.map(|cut| {
                    self.merge.cut(offset, cut.clone());
                })
            }
            Some(records) => {
                let offset = self.merge.passed().nth(partition).unwrap();
                let record = records.get(offset as usize);
                record.map(|record| match record {
                    Some(time) => self.merge.record(partition, offset, Timed(*time)),
                    None => self.merge.pass(partition, offset + 1),
                })
            }
        };
        self.heard.extend(all(&mut self.merge));
        read.is_some()
    }

    fn read_all(&mut self, logs: &Logs) {
        while (0..=logs.partitions.len()).any(|partition| self.read(logs, partition)) {}
    }
}

#[derive(Debug, Clone)]
enum Act {
    Append(usize, bool),
    Read(usize, usize),
    Cut(usize),
    Grow,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6usize, prop::bool::weighted(0.8)).prop_map(|(partition, record)| Act::Append(partition, record)),
        8 => (0..3usize, 0..7usize).prop_map(|(node, partition)| Act::Read(node, partition)),
        3 => (0..3usize).prop_map(Act::Cut),
        1 => Just(Act::Grow),
    ]
}

proptest! {
    #[test]
    fn all_nodes_hear_all_in_one_order_wherever_they_begin(acts in proptest::collection::vec(act(), 0..200)) {
        let mut logs = Logs { order: Vec::new(), partitions: vec![Vec::new(); 2] };
        logs.order.push(cut(0, None, &[(0, 0), (0, 0)]));
        let mut nodes: Vec<_> = (0..3).map(|_| Node::begin(&logs, 0).unwrap()).collect();
        let (mut time, mut written) = (0, 0);
        for act in acts {
            match act {
                Act::Append(partition, record) => {
                    time += 1;
                    written += u64::from(record);
                    let partition = partition % logs.partitions.len();
                    logs.partitions[partition].push(record.then_some(time));
                }
                Act::Read(node, partition) => {
                    let partition = partition % (logs.partitions.len() + 1);
                    if partition < nodes[node].merge.partitions() || partition == logs.partitions.len() {
                        nodes[node].read(&logs, partition);
                    }
                }
                Act::Cut(node) if nodes[node].merge.began().is_some() => {
                    logs.order.push(nodes[node].merge.next_cut());
                }
                Act::Cut(_) => {}
                Act::Grow => {
                    if logs.partitions.len() < 6 {
                        logs.partitions.push(Vec::new());
                        // Not every node sees that at once.
                        nodes[time as usize % 3].merge.grow(logs.partitions.len());
                    }
                }
            }
        }
        let partitions = logs.partitions.len();
        nodes[0].merge.grow(partitions);
        nodes[0].read_all(&logs);
        logs.order.push(nodes[0].merge.next_cut());
        for node in &mut nodes {
            node.merge.grow(partitions);
            node.read_all(&logs);
            prop_assert!(!node.merge.is_unordered());
        }
        // Each record once, in order within its partition, and places that grow.
        let heard = nodes[0].heard.clone();
        prop_assert_eq!(heard.len() as u64, written);
        prop_assert!(heard.is_sorted_by(|a, b| a.0 < b.0));
        for records in &logs.partitions {
            let own: Vec<_> = records.iter().flatten().copied().collect();
            let order: Vec<_> = heard.iter().map(|(_, time)| *time).filter(|time| own.contains(time)).collect();
            prop_assert_eq!(own, order);
        }
        for node in &nodes[1..] {
            prop_assert_eq!(&node.heard, &heard);
        }
        // Who begins later hears the rest of it.
        for offset in 0..logs.order.len() {
            if let Some(mut late) = Node::begin(&logs, offset) {
                late.read_all(&logs);
                prop_assert!(heard.ends_with(&late.heard));
                prop_assert_eq!(late.merge.released().collect::<Vec<_>>(), nodes[0].merge.released().collect::<Vec<_>>());
            }
        }
    }
}
