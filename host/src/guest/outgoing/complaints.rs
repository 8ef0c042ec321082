//! How often the log says what went wrong: a guest may fail as fast as it likes.

use std::time::{Duration, Instant};

/// So many lines in each [`WINDOW`].
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// What was logged of late.
#[derive(Debug, Default)]
pub struct Complaints {
    window: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Complaints {
    /// Whether one more line may be logged, and how many were left out since the last.
    pub fn next(&mut self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&mut self, now: Instant) -> Option<u64> {
        if self
            .window
            .is_none_or(|begun| now.duration_since(begun) >= WINDOW)
        {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut complaints = Complaints::default();
        let begun = Instant::now();
        let logged = (0..100).filter_map(|_| complaints.at(begun)).count();
        assert_eq!(logged, LINES as usize);
        assert_eq!(complaints.at(begun + WINDOW), Some(100 - u64::from(LINES)));
        assert_eq!(complaints.at(begun + WINDOW), Some(0));
    }
}
