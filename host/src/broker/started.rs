//! What a broker has once it was started.

use std::sync::{Arc, OnceLock};

use super::BrokerError;

/// What there is once a broker was started, which it is once.
#[derive(Debug)]
pub(super) struct Started<T>(OnceLock<Arc<T>>);

impl<T> Started<T> {
    /// It was not started yet.
    pub(super) fn not_yet() -> Self {
        Self(OnceLock::new())
    }

    /// It is started now.
    pub(super) fn set(&self, started: T) {
        // Whoever starts it twice has what it had.
        let _ = self.0.set(Arc::new(started));
    }

    /// What there is, or that there is nothing yet.
    pub(super) fn get(&self) -> Result<Arc<T>, BrokerError> {
        let started = self.0.get().cloned();
        started.ok_or_else(|| BrokerError::Unavailable("the broker was not started".into()))
    }

    /// What there is, if it was started.
    pub(super) fn peek(&self) -> Option<&T> {
        self.0.get().map(|started| &**started)
    }
}
