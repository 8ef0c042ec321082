//! `[apps.<name>.streams]`: how an app's streams are kept, unless a guest says otherwise.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::Checks;
use super::error::KeyPath;
use super::origin::Origin;
use super::schema::DurationText;
use super::units;

/// The shortest interval at which anything is done for a stream.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// An app's event streams, where its guest does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Streams {
    /// The origins whose pages may read the streams, such as `https://example.org`, or `*` for all. Pages of
    /// the node's own origin, and clients that are no browser, always may.
    pub allowed_origins: Vec<Origin>,
    /// The time without an event after which a comment is sent, so that proxies keep the stream open; `0` for
    /// never, else at least `100ms`.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub ping_interval: Duration,
    /// The time without an event after which a stream is closed; `0` for never, else at least `100ms`. Pings
    /// do not count.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub inactivity_timeout: Duration,
    /// The time after which a stream is closed, whatever it says; `0` for never, else at least `1s`. Its client comes
    /// back and goes on where it was, on whichever node a load balancer chooses. Each stream gets its own part of this
    /// time, from 4/5 of it on, so that they do not all come back at once.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub max_lifetime: Duration,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            ping_interval: Duration::from_secs(15),
            inactivity_timeout: Duration::ZERO,
            max_lifetime: Duration::ZERO,
        }
    }
}

impl Streams {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        let least = SHORTEST_INTERVAL;
        checks.zero_or_at_least(at, "ping-interval", self.ping_interval, least);
        checks.zero_or_at_least(at, "inactivity-timeout", self.inactivity_timeout, least);
        let second = Duration::from_secs(1);
        checks.zero_or_at_least(at, "max-lifetime", self.max_lifetime, second);
    }
}
