//! `[node]`: the process as a whole.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::schema::DurationText;
use super::units;

/// The node: this process as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Node {
    /// Whether clients see why a handler failed. Otherwise they see an id, under which the log has the reason.
    pub development: bool,
    /// How long handlers that run may go on when the node is told to stop.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub drain_timeout: Duration,
    /// Clients that are told to come back, when the node stops or is full, spread over this time.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub reconnect_within: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            development: false,
            drain_timeout: Duration::from_secs(10),
            reconnect_within: Duration::from_secs(5),
        }
    }
}
