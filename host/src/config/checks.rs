//! Collects what is wrong with the values of a configuration, so that one run names every mistake.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::{KeyPath, Problem};
use super::units;

/// The most of anything that is counted. Far above use, and below what semaphores and allocators bear.
pub(super) const MOST: usize = 1_000_000_000;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Checks {
    problems: Vec<Problem>,
}

impl Checks {
    /// The problems found, if there are any.
    pub(super) fn end(self) -> Result<(), Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self.problems)
        }
    }

    /// The value at `path` is wrong, and may be shown as the file has it.
    pub(super) fn refuse(&mut self, path: KeyPath, message: impl ToString) {
        self.push(path, message, true, None);
    }

    /// The value at `path` is wrong, and may hold a secret.
    pub(super) fn refuse_secret(&mut self, path: KeyPath, message: impl ToString) {
        self.push(path, message, false, None);
    }

    /// The values at `path` and `other` do not go together.
    pub(super) fn refuse_pair(&mut self, path: KeyPath, other: KeyPath, message: impl ToString) {
        self.push(path, message, true, Some(other));
    }

    fn push(&mut self, path: KeyPath, message: impl ToString, quote: bool, other: Option<KeyPath>) {
        self.problems.push(Problem {
            path,
            message: message.to_string(),
            quote,
            other,
        });
    }

    pub(super) fn count(
        &mut self,
        at: &KeyPath,
        key: &str,
        value: usize,
        range: RangeInclusive<usize>,
    ) {
        if !range.contains(&value) {
            let message = format!("must be from {} to {}", range.start(), range.end());
            self.refuse(at.key(key), message);
        }
    }

    pub(super) fn size(&mut self, at: &KeyPath, key: &str, value: u64, range: RangeInclusive<u64>) {
        if !range.contains(&value) {
            let (least, most) = (
                units::show_size(*range.start()),
                units::show_size(*range.end()),
            );
            self.refuse(at.key(key), format!("must be from {least} to {most}"));
        }
    }

    pub(super) fn not_zero(&mut self, at: &KeyPath, key: &str, value: Duration) {
        if value.is_zero() {
            self.refuse(
                at.key(key),
                "must be longer than 0, or nothing would ever be in time",
            );
        }
    }

    pub(super) fn zero_or_at_least(
        &mut self,
        at: &KeyPath,
        key: &str,
        value: Duration,
        least: Duration,
    ) {
        if !value.is_zero() && value < least {
            let least = units::show_duration(least);
            self.refuse(
                at.key(key),
                format!("must be 0 (never) or at least {least}"),
            );
        }
    }
}
