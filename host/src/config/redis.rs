//! `[redis]`: what holds for every connection to a Redis server.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::checks::Checks;
use super::error::KeyPath;
use super::schema::{DurationText, PathText};
use super::{path, units};

/// Every connection to a Redis server, of a broker or of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Redis {
    /// A file with the certificates, in PEM, of the authorities to trust for `rediss://`, besides those that
    /// are trusted anyway.
    #[serde(deserialize_with = "path::deserialize_some")]
    #[schemars(with = "PathText")]
    pub ca_file: Option<PathBuf>,
    /// How long connecting, and an answer, may take.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            ca_file: None,
            timeout: Duration::from_secs(5),
        }
    }
}

impl Redis {
    pub(super) fn check(&self, at: &KeyPath, checks: &mut Checks) {
        checks.not_zero(at, "timeout", self.timeout);
    }
}
