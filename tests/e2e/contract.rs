//! Every operation that a guest may call: what it answers, and how it refuses.

mod asynchronous;
mod connections;
mod events;
mod publishing;
mod registry;
mod requests;

use crate::probe::Probe;
use fanfare_tests::node::Node;
use serde_json::Value;

/// Holds that a step is refused with this case, in a sentence that has all these parts.
#[track_caller]
fn assert_refused(node: &Node, step: Value, case: &str, parts: &[&str]) {
    let (found, text) = node.refused(step.clone());
    assert_eq!(found, case, "{step}: {text}");
    for part in parts {
        assert!(text.contains(part), "{step}: {part:?} is not in {text:?}");
    }
}
