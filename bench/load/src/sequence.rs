//! Whether a stream heard all events of its channel, once, in order and whole.

use std::ops::{AddAssign, Range};

use fanfare_bench_protocol::Payload;
use serde::Serialize;

use crate::plan::Expect;

/// What streams heard that they should not have, or did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Events that never came.
    pub lost: u64,
    /// Events that came again.
    pub duplicated: u64,
    /// Events that came after a later one.
    pub reordered: u64,
    /// Events whose data is not what was published.
    pub corrupt: u64,
}

impl Faults {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
    }
}

/// What one stream has heard of its channel.
#[derive(Debug)]
pub struct Sequence {
    check: Check,
    /// The number of the next event.
    next: Option<u64>,
    /// What was left out so far. Empty, and so nowhere, while all is well.
    missing: Vec<Range<u64>>,
}

#[derive(Clone, Copy, Debug)]
enum Check {
    /// The first event decides.
    Undecided,
    /// The events are somebody else's.
    Off,
    /// Payloads, of that size if it is known.
    On(Option<usize>),
}

impl Sequence {
    /// A stream that has heard nothing.
    pub fn new(expect: Expect) -> Self {
        let (check, next) = match expect {
            Expect::Any => (Check::Undecided, None),
            Expect::Payloads { size } => (Check::On(Some(size)), None),
            Expect::PayloadsFrom { size, number } => (Check::On(Some(size)), Some(number)),
        };
        Self {
            check,
            next,
            missing: Vec::new(),
        }
    }

    /// A stream opens again: what it has missed in between is nobody's fault where its server keeps no history.
    pub fn forget(&mut self) {
        self.next = None;
        self.missing.clear();
    }

    /// Looks at the data of an event: the payload, if it is a whole one of the benchmark.
    pub fn hear(&mut self, text: &[u8], faults: &mut Faults) -> Option<Payload> {
        let payload = match self.check {
            Check::Off => return None,
            Check::On(Some(size)) if text.len() < size => None,
            _ => Payload::read(text),
        };
        let Some(payload) = payload else {
            match self.check {
                Check::Undecided => self.check = Check::Off,
                _ => faults.corrupt += 1,
            }
            return None;
        };
        if let Check::Undecided = self.check {
            self.check = Check::On(None);
        }
        self.number(payload.number, faults);
        Some(payload)
    }

    fn number(&mut self, number: u64, faults: &mut Faults) {
        let next = self.next.unwrap_or(number);
        if number < next {
            if self.found(number) {
                faults.lost = faults.lost.saturating_sub(1);
                faults.reordered += 1;
            } else {
                faults.duplicated += 1;
            }
            return;
        }
        self.skip_to(number, faults);
        self.next = Some(number + 1);
    }

    /// The stream is over: `end` is the number after that of the last event it should have heard.
    pub fn finish(&mut self, end: u64, faults: &mut Faults) {
        match self.check {
            Check::Off | Check::Undecided => {}
            Check::On(_) => self.skip_to(end, faults),
        }
    }

    /// Everything before that number should have come by now.
    fn skip_to(&mut self, number: u64, faults: &mut Faults) {
        let next = self.next.unwrap_or(number);
        if next < number {
            faults.lost += number - next;
            self.missing.push(next..number);
            self.next = Some(number);
        }
    }

    /// Whether an event had been missing; it is not any more.
    fn found(&mut self, number: u64) -> bool {
        let Some(index) = self.missing.iter().position(|gap| gap.contains(&number)) else {
            return false;
        };
        let gap = self.missing.swap_remove(index);
        let parts = [gap.start..number, number + 1..gap.end];
        self.missing
            .extend(parts.into_iter().filter(|part| !part.is_empty()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64;

    fn text(number: u64) -> String {
        Payload { number, nanos: 1 }.text(SIZE)
    }

    fn heard(expect: Expect, numbers: &[u64], end: u64) -> Faults {
        let (mut sequence, mut faults) = (Sequence::new(expect), Faults::default());
        for number in numbers {
            let payload = sequence.hear(text(*number).as_bytes(), &mut faults);
            assert_eq!(payload.map(|payload| payload.number), Some(*number));
        }
        sequence.finish(end, &mut faults);
        faults
    }

    const ALL: Expect = Expect::PayloadsFrom {
        size: SIZE,
        number: 0,
    };

    #[test]
    fn all_is_well() {
        assert!(heard(ALL, &[0, 1, 2, 3], 4).is_none());
        assert!(heard(Expect::Payloads { size: SIZE }, &[7, 8, 9], 10).is_none());
        assert!(heard(Expect::Any, &[7, 8, 9], 10).is_none());
        assert!(heard(Expect::Any, &[], 10).is_none());
    }

    #[test]
    fn a_loss_is_found() {
        let lost = |lost| Faults {
            lost,
            ..Faults::default()
        };
        assert_eq!(heard(ALL, &[0, 2, 3], 4), lost(1));
        assert_eq!(heard(ALL, &[3], 4), lost(3));
        assert_eq!(heard(ALL, &[0, 1], 4), lost(2));
        assert_eq!(heard(ALL, &[], 4), lost(4));
        assert_eq!(heard(Expect::Any, &[7, 9], 10), lost(1));
    }

    #[test]
    fn a_duplicate_is_found() {
        let duplicated = |duplicated| Faults {
            duplicated,
            ..Faults::default()
        };
        assert_eq!(heard(ALL, &[0, 1, 1, 2, 3], 4), duplicated(1));
        assert_eq!(heard(ALL, &[0, 1, 2, 3, 0, 1], 4), duplicated(2));
    }

    #[test]
    fn a_reordering_is_found() {
        let reordered = |reordered| Faults {
            reordered,
            ..Faults::default()
        };
        assert_eq!(heard(ALL, &[0, 2, 1, 3], 4), reordered(1));
        assert_eq!(heard(ALL, &[3, 1, 2, 0], 4), reordered(3));
        let twice = Faults {
            duplicated: 1,
            ..reordered(1)
        };
        assert_eq!(heard(ALL, &[0, 2, 1, 1, 3], 4), twice);
    }

    #[test]
    fn wrong_content_is_found() {
        let (mut sequence, mut faults) = (Sequence::new(ALL), Faults::default());
        let short = &text(0)[..SIZE - 1];
        for wrong in ["hello", short, &text(0).replace("defg", "DEFG")] {
            assert_eq!(sequence.hear(wrong.as_bytes(), &mut faults), None);
        }
        assert_eq!(faults.corrupt, 3);
    }

    #[test]
    fn what_somebody_else_sends_is_left_alone() {
        let (mut sequence, mut faults) = (Sequence::new(Expect::Any), Faults::default());
        for any in ["hello", "world"] {
            assert_eq!(sequence.hear(any.as_bytes(), &mut faults), None);
        }
        // Once it is ours, it stays ours.
        let mut ours = Sequence::new(Expect::Any);
        ours.hear(text(0).as_bytes(), &mut faults);
        assert!(faults.is_none());
        ours.hear(b"hello", &mut faults);
        assert_eq!(faults.corrupt, 1);
    }
}
