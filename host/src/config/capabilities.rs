//! `[apps.<name>.capabilities]`: what an app may reach. Without a grant it reaches nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::address::Address;
use super::broker::Broker;
use super::checks::Checks;
use super::error::KeyPath;
use super::suggest;
use super::upstream::Upstream;

/// What an app may reach. What is not granted here is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Capabilities {
    /// The Redis servers that the guest may connect to, as `host:port`; `host` alone means port 6379. Exactly
    /// these: there are no patterns.
    pub redis: Vec<Address>,
    /// The servers that the guest may send requests to, as origins: `https://api.example.org`, with a port where it is
    /// not the usual one. Exactly these: there are no patterns. The grant is by name: whoever decides what the name
    /// resolves to decides where requests go.
    pub http: Vec<Upstream>,
    /// The labels of the brokers that the guest may open.
    pub brokers: Vec<String>,
}

impl Capabilities {
    pub(super) fn check(
        &self,
        brokers: &BTreeMap<String, Broker>,
        at: &KeyPath,
        checks: &mut Checks,
    ) {
        for (index, label) in self.brokers.iter().enumerate() {
            if !brokers.contains_key(label) {
                let known = suggest::known(label, "brokers", brokers.keys().map(String::as_str));
                checks.refuse(
                    at.key("brokers").index(index),
                    format!(
                        "no broker has this label; add a table [brokers.<label>] for it; {known}"
                    ),
                );
            }
        }
    }
}
