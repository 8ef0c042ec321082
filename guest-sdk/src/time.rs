//! Waiting, and durations as the contract counts them.

use std::time::Duration;

use crate::sys;

/// Waits. In a guest only this call waits; the host goes on with all others. In a test the clock of the
/// `testing` host advances at once.
///
/// ```
/// use std::time::Duration;
/// use fanfare_guest::{sleep, testing::Host};
///
/// let host = Host::new();
/// host.run(|| sleep(Duration::from_secs(3600)));
/// assert_eq!(host.elapsed(), Duration::from_secs(3600));
/// ```
pub fn sleep(duration: Duration) {
    sys::blocking::sleep(duration);
}

/// Whole milliseconds, rounded up: the contract reads 0 as "never", and a short time is not that.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// As [`millis`]; what is past the range (49 days) becomes its end.
pub(crate) fn millis_u32(duration: Duration) -> u32 {
    u32::try_from(millis(duration)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_do_not_become_never() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_micros(1500)), 2);
        assert_eq!(millis(Duration::MAX), u64::MAX);
        assert_eq!(millis_u32(Duration::from_secs(u64::MAX)), u32::MAX);
    }
}
