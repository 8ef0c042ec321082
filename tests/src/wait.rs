//! Waiting, which always ends.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that cannot be waited for.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `condition` has a value.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        thread::sleep(LOOK);
    }
}

/// Waits until nothing is wrong; `wrong` says what is.
#[track_caller]
pub fn until_right(mut wrong: impl FnMut() -> String) {
    let begun = Instant::now();
    loop {
        let wrong = wrong();
        if wrong.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {wrong}"
        );
        thread::sleep(LOOK);
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}
