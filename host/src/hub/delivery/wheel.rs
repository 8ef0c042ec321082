//! A timer wheel: one for all connections of a shard.
//!
//! Pings and timeouts need no precision and most of them never happen, because events come before. So a connection
//! has one entry, events do not touch it, and when it comes up the connection is looked at and entered anew.

use std::time::Duration;

/// The time of the wheel: ticks since the shard began. There are 6 years of them.
pub(super) type Tick = u32;
/// No time.
pub(super) const NEVER: Tick = Tick::MAX;
/// How long a tick is. Nothing happens early, and nothing later than two of them.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Ticks of one turn of the wheel. What is due later comes up at the end of the turn, and is entered anew.
const TURN: u32 = 1024;

/// Numbers of connections by the tick at which to look at them.
#[derive(Debug)]
pub(super) struct Wheel {
    now: Tick,
    buckets: Vec<Vec<u32>>,
    /// A bit for each bucket that has something.
    occupied: [u64; TURN as usize / 64],
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            buckets: vec![Vec::new(); TURN as usize],
            occupied: [0; TURN as usize / 64],
        }
    }

    /// Looks at a connection at this tick, or at an earlier one. Says at which.
    pub(super) fn enter(&mut self, number: u32, due: Tick) -> Tick {
        let due = due.clamp(self.now + 1, self.now + (TURN - 1));
        let bucket = (due % TURN) as usize;
        self.buckets[bucket].push(number);
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        due
    }

    /// Goes on to this tick, and tells what came up: each number with the tick it was entered for.
    pub(super) fn advance(&mut self, to: Tick, mut look: impl FnMut(u32, Tick)) {
        while self.now < to {
            let Some(next) = self.next().filter(|next| *next <= to) else {
                break;
            };
            self.now = next;
            let bucket = (next % TURN) as usize;
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
            for number in std::mem::take(&mut self.buckets[bucket]) {
                look(number, next);
            }
        }
        self.now = self.now.max(to);
    }

    /// The next tick at which something comes up.
    pub(super) fn next(&self) -> Option<Tick> {
        let first = self.now + 1;
        let start = first % TURN;
        let words = self.occupied.len() as u32;
        // The word of the first bucket is looked at twice: its upper bits first, its lower bits last.
        for step in 0..=words {
            let at = (start / 64 + step) % words;
            let mut word = self.occupied[at as usize];
            let before = (1 << (start % 64)) - 1;
            match step {
                0 => word &= !before,
                _ if step == words => word &= before,
                _ => {}
            }
            if word != 0 {
                let bucket = at * 64 + word.trailing_zeros();
                return Some(first + (bucket + TURN - start) % TURN);
            }
        }
        None
    }
}

/// So long in ticks, and never less.
pub(super) fn ticks(duration: Duration) -> Tick {
    let ticks = duration.as_millis().div_ceil(TICK.as_millis());
    // Part of the tick in which it begins has passed already.
    Tick::try_from(ticks).map_or(NEVER, |ticks| ticks.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everything_comes_up_once_and_when_it_was_said(
            entries in proptest::collection::vec((0..2000u32, 0..3000u32), 0..100),
            step in 1..200u32,
        ) {
            let mut wheel = Wheel::new();
            let mut entered = Vec::new();
            let mut came = Vec::new();
            let mut now = 0;
            for (number, (wait, due)) in entries.iter().enumerate() {
                now += wait % step;
                wheel.advance(now, |number, tick| came.push((number, tick)));
                entered.push((number as u32, wheel.enter(number as u32, *due)));
                let next = wheel.next().unwrap();
                let expected = entered.iter().filter(|entry| !came.contains(entry)).map(|entry| entry.1).min();
                prop_assert_eq!(Some(next), expected);
            }
            wheel.advance(now + TURN, |number, tick| came.push((number, tick)));
            prop_assert_eq!(wheel.next(), None);
            came.sort_unstable();
            prop_assert_eq!(came, entered);
        }
    }

    #[test]
    fn a_duration_is_never_shorter_in_ticks() {
        assert_eq!(ticks(TICK), 2);
        assert_eq!(ticks(TICK + Duration::from_millis(1)), 3);
        assert_eq!(ticks(Duration::MAX), NEVER);
    }
}
