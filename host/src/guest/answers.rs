//! What an app's requests were answered with, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::request::Answer;

/// Counts since the app was loaded.
#[derive(Debug, Default)]
pub struct Answers {
    response: AtomicU64,
    stream: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
}

impl Answers {
    pub(super) fn count(&self, answer: &Answer) {
        let counter = match answer {
            Answer::Response(_) => &self.response,
            Answer::Stream { .. } => &self.stream,
            Answer::Busy(_) => &self.busy,
            Answer::Failed(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All kinds of answers, and how many there were of each.
    pub fn figures(&self) -> [(&'static str, u64); 4] {
        let kinds = [
            ("response", &self.response),
            ("stream", &self.stream),
            ("busy", &self.busy),
            ("failed", &self.failed),
        ];
        kinds.map(|(kind, counter)| (kind, counter.load(Ordering::Relaxed)))
    }
}
