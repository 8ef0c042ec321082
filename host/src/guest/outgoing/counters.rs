//! How the requests of an app ended, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The response came to its end, whatever its status.
    Complete,
    /// The guest, or its call, ended it before.
    Cancelled,
    /// There was no response, or not all of it.
    Failed,
    /// It was not sent: the origin was not granted.
    Denied,
    /// It was not sent: too many were in flight.
    Limited,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Complete,
        Self::Cancelled,
        Self::Failed,
        Self::Denied,
        Self::Limited,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Limited => "limited",
        }
    }
}

/// Counts since the app was loaded.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Ending::ALL.len()]);

impl Counters {
    /// One more ended like this.
    pub fn count(&self, ending: Ending) {
        self.0[ending as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many ended how.
    pub fn figures(&self) -> [(Ending, u64); Ending::ALL.len()] {
        Ending::ALL.map(|ending| (ending, self.0[ending as usize].load(Ordering::Relaxed)))
    }
}
