//! A connection: one client's stream, as a guest holds it.

use std::{
    fmt,
    net::IpAddr,
    num::NonZero,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::Hub;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client went away, or the network did.
    ClientGone,
    /// A guest closed it, or removed it from its last channel.
    Closed,
    /// No event for as long as its inactivity timeout.
    Inactive,
    /// It has lasted for as long as a stream may.
    Expired,
    /// More waited for it than may, or it was the one for which most waited when too much did on the node.
    Slow,
    /// The node is shutting down.
    Shutdown,
}

impl CloseReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ClientGone,
        Self::Closed,
        Self::Inactive,
        Self::Expired,
        Self::Slow,
        Self::Shutdown,
    ];

    /// Its name, as guests and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientGone => "client-gone",
            Self::Closed => "closed",
            Self::Inactive => "inactive",
            Self::Expired => "expired",
            Self::Slow => "slow",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether nothing of what waits is delivered any more: nobody would take it.
    pub(super) fn is_abrupt(self) -> bool {
        matches!(self, Self::Slow | Self::ClientGone)
    }
}

/// When a quiet stream is pinged and when it is closed; `None` is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// After so long without a byte the client gets a comment.
    pub ping: Option<Duration>,
    /// After so long without an event the connection is closed.
    pub inactivity: Option<Duration>,
    /// After so long the connection is closed, or a little earlier: from 4/5 of it on.
    pub lifetime: Option<Duration>,
}

/// How a connection is opened.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// The last event that the client heard, as it says.
    pub last_event_id: Option<String>,
    /// When it is pinged and closed.
    pub timing: Timing,
    /// The client's address, if it counts against the connections of one address.
    pub client: Option<IpAddr>,
}

/// Names a connection: random, so that it is unique across nodes and restarts, and nobody guesses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(
    /// Two halves and one of them never zero: a number of 128 bits would cost every connection 24 bytes more.
    NonZero<u64>,
    u64,
);

/// One client's stream.
#[derive(Debug)]
pub struct Connection {
    hub: Hub,
    id: ConnectionId,
    last_event_id: Option<Arc<str>>,
    /// It was registered with a channel, or an event was sent to it.
    was_used: AtomicBool,
    end: Arc<End>,
}

/// The end of a connection, for those who hold a handle to it. The hub has it for as long as there is a handle.
#[derive(Debug, Default)]
pub(super) struct End {
    reason: OnceLock<CloseReason>,
    /// Whoever waits for it.
    told: Notify,
}

impl End {
    /// The connection has ended: to be said under the hub's lock.
    pub(super) fn set(&self, reason: CloseReason) {
        let _ = self.reason.set(reason);
    }

    /// Wakes those who wait for it: not under the lock, because there may be many.
    pub(super) fn tell(&self) {
        self.told.notify_waiters();
    }
}

impl ConnectionId {
    pub(super) fn random() -> Self {
        Self(rand::random(), rand::random())
    }

    /// Reads what was written.
    pub fn parse(text: &str) -> Option<Self> {
        let digits =
            text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (high, low) = text.split_at_checked(16).filter(|_| digits)?;
        let half = |text| u64::from_str_radix(text, 16).ok();
        Some(Self(NonZero::new(half(high)?)?, half(low)?))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Connection {
    pub(super) fn new(
        hub: Hub,
        id: ConnectionId,
        last_event_id: Option<Arc<str>>,
        end: Arc<End>,
    ) -> Self {
        Self {
            hub,
            id,
            last_event_id,
            was_used: AtomicBool::new(false),
            end,
        }
    }

    #[cfg(test)]
    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Its id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The last event that the client heard before it came back.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    /// Whether it was ever registered with a channel, or sent an event.
    pub fn was_used(&self) -> bool {
        self.was_used.load(Ordering::Relaxed)
    }

    pub(super) fn set_used(&self) {
        self.was_used.store(true, Ordering::Relaxed);
    }

    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        self.end.reason.get().is_none()
    }

    /// Waits until it has ended, and returns why.
    pub async fn ended(&self) -> CloseReason {
        loop {
            let mut told = pin!(self.end.told.notified());
            // Before the look at the reason: it may be set between the two.
            told.as_mut().enable();
            if let Some(reason) = self.end.reason.get() {
                return *reason;
            }
            told.await;
        }
    }

    /// Lets a client that came back hear what was put together for it, in order. What its handler registers it for
    /// before this is merged; what it is registered for later comes after what it has heard by then.
    pub fn release(&self) {
        if self.last_event_id.is_some() {
            self.hub.release(self.id);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.let_go(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let id = ConnectionId::random();
        assert_eq!(ConnectionId::parse(&id.to_string()), Some(id));
        let zero = "0".repeat(32);
        for wrong in [
            &zero,
            "",
            "0",
            "+0",
            &format!("+{}", &zero[1..]),
            &"A".repeat(32),
            &"0".repeat(33),
        ] {
            assert_eq!(ConnectionId::parse(wrong), None, "{wrong}");
        }
    }
}
