//! `[apps.<name>.history]`: the events that wait for clients that come back.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::{Checks, MOST};
use super::error::KeyPath;
use super::schema::{DurationText, SizeText};
use super::units::{self, MOST_BYTES};

/// What is kept of each channel, for clients that come back. The oldest event goes once one of the bounds is
/// reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct History {
    /// The most events of a channel. `0` keeps none: clients that come back miss what was sent meanwhile.
    #[schemars(range(max = 1_000_000_000))]
    pub events: usize,
    /// The most that the events of a channel may take.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub bytes: u64,
    /// The most that the events of all channels of the app may take, with what it costs to keep them.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub total_bytes: u64,
    /// How long an event is kept.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub age: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self {
            events: 100,
            bytes: 256 << 10,
            total_bytes: 256 << 20,
            age: Duration::from_secs(120),
        }
    }
}

impl History {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        checks.count(at, "events", self.events, 0..=MOST);
        if self.bytes > MOST_BYTES {
            checks.size(at, "bytes", self.bytes, 1..=MOST_BYTES);
        }
        let nothing_else = "must not be 0; to keep no history, write `events = 0`";
        if self.bytes == 0 {
            checks.refuse(at.key("bytes"), nothing_else);
        }
        checks.size(at, "total-bytes", self.total_bytes, 1..=MOST_BYTES);
        if self.age.is_zero() {
            checks.refuse(at.key("age"), nothing_else);
        }
    }
}
