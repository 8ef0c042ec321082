//! `[apps.<name>.instances]`: how many instances an app has, and for how long.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{Checks, MOST};
use super::error::KeyPath;
use super::schema::DurationText;
use super::units;

/// The most instances of an app of the asynchronous world. Each takes gigabytes of address space.
const MOST_INSTANCES: usize = 256;

/// The instances of a guest, on one node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Instances {
    /// How many calls one instance serves before another takes its place; `0` for what suits the guest's world. In the
    /// blocking world calls take turns on an instance, and that is 1: every call has an instance of its own, so nothing
    /// that one leaves behind, a secret or a half-done change, is seen by the next. With more, calls are several times
    /// cheaper, and statics last from one to the next. In the asynchronous world calls wait in an instance side by side,
    /// and that is 100000.
    #[schemars(range(max = 1_000_000_000))]
    pub calls: usize,
    /// How many instances a guest of the asynchronous world has at a time. The app's calls are spread over them.
    #[schemars(range(min = 1, max = 256))]
    pub count: usize,
    /// How long calls may go on in code that was replaced by newer code. Streams are not calls: they stay open.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub retire_time: Duration,
}

impl Default for Instances {
    fn default() -> Self {
        Self {
            calls: 0,
            count: 2,
            retire_time: Duration::from_secs(60),
        }
    }
}

impl Instances {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        checks.count(at, "calls", self.calls, 0..=MOST);
        checks.count(at, "count", self.count, 1..=MOST_INSTANCES);
    }
}
