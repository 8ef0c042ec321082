//! A node that is fuzzed: it serves the guest `probe`, which does what scripts tell it.

use std::ops::Deref;

use fanfare_tests::node::Node;

use crate::guests;

/// A line of the log that begins so was made by a text that somebody sent.
pub(crate) const INJECTED: &str = "INJECTED";

/// The node.
pub(crate) struct Fuzzed(Node);

impl Fuzzed {
    /// A node with this besides in its `fanfare.toml`.
    pub(crate) fn start(tables: &str) -> Self {
        let toml = format!("{tables}\n[apps.probe]\ncomponent = {:?}\n", guests::PROBE);
        Self(Node::config(&toml).start())
    }

    /// Holds that it serves, and that nothing in its log is not the host's own.
    #[track_caller]
    pub(crate) fn assert_whole(self) {
        assert_eq!(self.get("/page").status(), 200);
        for line in self.0.stop().stderr.lines() {
            assert!(!line.contains("panicked"), "{line}");
            assert!(!line.starts_with(INJECTED), "{line}");
            let is_odd = |c: char| c.is_control() && c != '\t';
            assert!(!line.contains(is_odd), "{line:?}");
        }
    }
}

impl Deref for Fuzzed {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.0
    }
}
