//! Event streams of clients: how they are opened, and how they ended.

use std::{fmt, marker::PhantomData, time::Duration};

use crate::{
    Event, Result,
    flavour::{Asynchronous, Blocking, in_both_flavours},
    sys,
    time::{millis, millis_u32},
};

/// How a request becomes an event stream. What is left out, the app's configuration says.
///
/// ```
/// use std::time::Duration;
/// use fanfare_guest::Upgrade;
///
/// let options = Upgrade::new()
///     .allow_origin("https://example.org")
///     .ping_every(Duration::from_secs(30))
///     .close_after_inactivity(Duration::from_secs(600));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "the options have to be given to `Request::upgrade_with`"]
pub struct Upgrade {
    pub(crate) allowed_origins: Option<Vec<String>>,
    pub(crate) ping_interval: Option<u32>,
    pub(crate) inactivity_timeout: Option<u32>,
}

impl Upgrade {
    /// Everything as the app is configured.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an origin whose pages may read the stream: an exact one such as `https://example.org`, or `*` for all.
    /// With the first one added, these origins stand in place of the configured ones. Pages of the host's own
    /// origin and clients that are no browser are always allowed.
    ///
    /// A named origin may send credentials, such as cookies; with `*` browsers do not send them.
    pub fn allow_origin(self, origin: impl Into<String>) -> Self {
        self.allow_origins([origin])
    }

    /// Adds many origins, see [`allow_origin`](Self::allow_origin). Adding none leaves the configured ones.
    pub fn allow_origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        let mut origins = origins.into_iter().map(Into::into).peekable();
        if origins.peek().is_some() {
            self.allowed_origins.get_or_insert_default().extend(origins);
        }
        self
    }

    /// Allows no other origin than the host's own, whatever is configured.
    pub fn own_origin_only(mut self) -> Self {
        self.allowed_origins = Some(Vec::new());
        self
    }

    /// Sends a comment after this long without an event, so that proxies keep the stream open; at least 100 ms,
    /// or [`Duration::ZERO`] for never. A comment is never an event.
    pub fn ping_every(mut self, interval: Duration) -> Self {
        self.ping_interval = Some(millis_u32(interval));
        self
    }

    /// Closes the connection after this long without an event; at least 100 ms, or [`Duration::ZERO`] for never.
    /// Pings do not count.
    pub fn close_after_inactivity(mut self, timeout: Duration) -> Self {
        self.inactivity_timeout = Some(millis_u32(timeout));
        self
    }
}

/// A handle to a connection, from [`Request::upgrade`](crate::Request::upgrade).
///
/// ```
/// # use std::time::Duration;
/// # use fanfare_guest::{Connection, Result};
/// /// Sends a word every second until the client leaves, and stops at that very moment.
/// fn tick(stream: &Connection) -> Result<()> {
///     while stream.closed(Some(Duration::from_secs(1))).is_none() {
///         stream.send("tick")?;
///     }
///     Ok(())
/// }
/// ```
///
/// Dropping it does not close the stream: a handler may return and leave it to the host, which closes it then only if
/// it hears no channel.
pub struct Connection<F> {
    sys: sys::Connection,
    flavour: PhantomData<F>,
}

impl<F> Connection<F> {
    /// The id of the connection: 1 to 64 ASCII letters and digits, unique across nodes and never used again.
    pub fn id(&self) -> String {
        self.sys.id()
    }

    /// What the client last heard before it reconnected: the header `Last-Event-ID`, else the query parameter
    /// `last-event-id`; `None` for a first visit. At most 1,024 bytes, a longer one is taken for none.
    pub fn last_event_id(&self) -> Option<String> {
        self.sys.last_event_id()
    }

    /// The names of the channels that the connection hears now, sorted; none after its end.
    pub fn channels(&self) -> Vec<String> {
        self.sys.channels()
    }

    /// Sends an event to this client alone. It is not kept in any history.
    ///
    /// Errors: [`Closed`](crate::Error::Closed); [`Invalid`](crate::Error::Invalid) and
    /// [`Limited`](crate::Error::Limited) for the event; `Limited`, too, where the node has more to deliver than it
    /// can.
    pub fn send(&self, event: impl Into<Event>) -> Result<()> {
        self.sys.send(event.into())
    }

    /// Whether the stream is still open, as far as the host knows.
    pub fn is_open(&self) -> bool {
        self.sys.is_open()
    }

    /// Ends the stream after the events that were sent before. Closing a closed connection does nothing.
    pub fn close(&self) {
        self.sys.close();
    }

    pub(crate) fn from_sys(connection: sys::Connection) -> Self {
        Self {
            sys: connection,
            flavour: PhantomData,
        }
    }

    pub(crate) fn sys(&self) -> &sys::Connection {
        &self.sys
    }
}

macro_rules! waiting {
    ($flavour:ident, $sys:ident, [$($async:tt)*], [$($await:tt)*]) => {
        impl Connection<$flavour> {
            /// Waits until the stream has ended, at most for so long, and returns why it ended; `None` where it is
            /// still open. Without a bound it waits for the end.
            pub $($async)* fn closed(&self, within: Option<Duration>) -> Option<CloseReason> {
                sys::$sys::closed(&self.sys, within.map(millis)) $($await)*
            }
        }
    };
}

in_both_flavours!(waiting);

impl<F> fmt::Debug for Connection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.id()).finish()
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client went away, or the network did.
    ClientGone,
    /// A handler closed the connection, or removed it from its last channel.
    Closed,
    /// Its inactivity timeout.
    Inactive,
    /// It has lasted for as long as the operator lets streams last. The client comes back.
    Expired,
    /// It did not read what was sent: more than the app's `queue-bytes` waited for it, or most of all on a node on
    /// which too much waited.
    Slow,
    /// The node is shutting down. The client was told to come back.
    Shutdown,
}

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnection {
    /// The id of the connection.
    pub connection_id: String,
    /// The names of the channels that it heard when it ended, sorted. Its registrations have ended already.
    pub channels: Vec<String>,
    /// Why it ended.
    pub reason: CloseReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_origins_leave_the_configured_ones() {
        assert_eq!(
            Upgrade::new().allow_origins(Vec::<String>::new()),
            Upgrade::new()
        );
        assert_eq!(
            Upgrade::new().own_origin_only().allowed_origins,
            Some(vec![])
        );
        let both = Upgrade::new()
            .allow_origin("https://a.example")
            .allow_origins(["https://b.example"]);
        assert_eq!(
            both.allowed_origins.as_deref(),
            Some(
                &[
                    "https://a.example".to_owned(),
                    "https://b.example".to_owned()
                ][..]
            )
        );
    }
}
