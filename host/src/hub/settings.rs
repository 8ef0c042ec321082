//! What an app's hub is allowed.

use std::time::Duration;

/// What an app's hub is allowed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Events kept for each channel; 0 keeps none.
    pub history_events: usize,
    /// Bytes of encoded events kept for each channel.
    pub history_bytes: usize,
    /// Bytes kept for all channels together, with what it costs to keep them; the oldest events go first.
    pub history_total_bytes: usize,
    /// How long an event is kept.
    pub history_age: Duration,
    /// Bytes that may wait for one connection.
    pub queue_bytes: usize,
    /// Connections open at a time, with those whose end is not complete.
    pub connections: usize,
    /// Channels that one connection may hear.
    pub channels_per_connection: usize,
    /// The largest data of an event, in bytes.
    pub event_data: usize,
}
