//! How long to wait before the next attempt to reach a server that is away.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
/// Short enough that nobody notices the wait once the server is back.
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that double, each drawn at random from the upper half of its span: many nodes that lost a server at the
/// same moment do not come back to it at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    span: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { span: FIRST }
    }

    /// How long to wait this time.
    pub(crate) fn next(&mut self) -> Duration {
        let span = self.span;
        self.span = (span * 2).min(LONGEST);
        span.mul_f64(rand::random_range(0.5..1.0))
    }

    /// To be told how long a connection lasted: after a good one the waits are short again. One that broke at
    /// once changes nothing, or a server that takes every connection and drops it would be tried without end.
    pub(crate) fn lasted(&mut self, time: Duration) {
        if time > LONGEST {
            self.span = FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_over_after_a_good_connection() {
        let mut backoff = Backoff::new();
        assert!(backoff.next() <= FIRST);
        for _ in 0..20 {
            assert!(backoff.next() <= LONGEST);
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.lasted(Duration::ZERO);
        assert!(backoff.next() >= LONGEST / 2);
        backoff.lasted(LONGEST * 2);
        assert!(backoff.next() <= FIRST);
    }
}
