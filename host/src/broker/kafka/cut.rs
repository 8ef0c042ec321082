//! Cuts: records of the order topic, which say in what order the records of several partitions come.
//!
//! A cut has neither key nor mark. Its headers say what its author had seen of the order; its value says for each
//! partition, in their order and with spaces between them, what it takes: `17` is none of it, and the next offset is 17;
//! `17+3` is what has the offsets 17, 18 and 19; `17+3@1700000000000` says as well what time the record at 19 has.

use std::str;

/// The most partitions that a topic may have.
pub(super) const PARTITIONS: usize = 1000;
/// The greatest offset: so that no place overflows, however many are added.
const LARGEST: u64 = 1 << 50;

/// What a record of the order topic orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Its author had merged all cuts before this offset of the order topic.
    pub(super) seen: u64,
    /// The offset of the cut that began this order; `None` for one that begins one itself.
    pub(super) began: Option<u64>,
    /// What it takes of each partition.
    pub(super) spans: Vec<Span>,
}

/// What a cut takes of a partition: the records from an offset on and before another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) through: u64,
    /// The time of the last one of them, in milliseconds since 1970, where its author has read one there: who finds
    /// another one there reads another log.
    pub(super) time: Option<i64>,
}

impl Span {
    /// Takes nothing.
    pub(super) fn empty(from: u64) -> Self {
        Self {
            from,
            through: from,
            time: None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (offsets, time) = match text.split_once('@') {
            Some((offsets, time)) => (offsets, Some(time.parse().ok()?)),
            None => (text, None),
        };
        let (from, count) = match offsets.split_once('+') {
            Some((from, count)) => (from, count.parse().ok()?),
            None => (offsets, 0),
        };
        let from: u64 = from.parse().ok()?;
        let through = from.checked_add(count)?;
        (through <= LARGEST).then_some(Self {
            from,
            through,
            time,
        })
    }
}

impl Cut {
    /// Reads what the value of a record says.
    pub(super) fn parse(seen: u64, began: Option<u64>, value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?;
        let spans = text.split(' ').take(PARTITIONS + 1).map(Span::parse);
        let spans = spans.collect::<Option<Vec<_>>>()?;
        let good = seen <= LARGEST && (1..=PARTITIONS).contains(&spans.len());
        good.then_some(Self { seen, began, spans })
    }

    /// The value of its record.
    pub(super) fn value(&self) -> String {
        let spans = self.spans.iter().map(|span| {
            let Span {
                from,
                through,
                time,
            } = span;
            match (through - from, time) {
                (0, _) => format!("{from}"),
                (count, None) => format!("{from}+{count}"),
                (count, Some(time)) => format!("{from}+{count}@{time}"),
            }
        });
        spans.collect::<Vec<_>>().join(" ")
    }

    /// Where it begins, all partitions together.
    pub(super) fn from(&self) -> u64 {
        self.spans.iter().map(|span| span.from).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Option<Cut> {
        Cut::parse(7, Some(3), value.as_bytes())
    }

    #[test]
    fn what_is_no_cut_is_none() {
        let many = vec!["0"; PARTITIONS];
        assert!(parse(&many.join(" ")).is_some());
        assert_eq!(parse(&[&many[..], &["0"]].concat().join(" ")), None);
        for value in [
            "",
            " ",
            "1 ",
            "1  2",
            "-1",
            "1+",
            "1+-1",
            "+1",
            "1+1@",
            "1+1@x",
            "18446744073709551615+1",
            "1125899906842624+1",
            "x",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
        assert_eq!(Cut::parse(u64::MAX, None, b"1"), None);
        assert_eq!(Cut::parse(0, None, b"\xff"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            spans in proptest::collection::vec((0..LARGEST / 2, 0..LARGEST / 2, any::<Option<i64>>()), 1..20),
        ) {
            let span = |(from, count, time): (u64, u64, Option<i64>)| Span {
                from,
                through: from + count,
                time: time.filter(|_| count > 0),
            };
            let spans = spans.into_iter().map(span).collect();
            let cut = Cut { seen: 7, began: Some(3), spans };
            prop_assert_eq!(parse(&cut.value()), Some(cut));
        }
    }
}
