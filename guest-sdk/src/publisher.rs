//! Publishers: what connections are registered with and events are published through.

use std::{fmt, marker::PhantomData};

use crate::{
    Event, Message, Result,
    flavour::{Asynchronous, Blocking, Connection, Redis, in_both_flavours},
    sys,
};

/// What became of a published event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The id of the event: its own, or the one it was given.
    pub id: String,
    /// How many connections of this node it went to.
    pub delivered: u32,
    /// An event of this id was published on this channel before and is still in its history. The channel heard
    /// it then, and not again.
    pub duplicate: bool,
}

/// A handle to a publisher.
///
/// Publishers belong to the app: handles made in the same way lead to the same publisher, in every call, and
/// each publisher has channels of its own. A channel is named by 1 to 255 bytes without control characters.
///
/// Everything but [`start`](Self::start) answers [`NotStarted`](crate::Error::NotStarted) for a publisher that
/// was not started.
///
/// ```
/// use fanfare_guest::{Event, Publisher, testing::Host};
///
/// Host::new().run(|| {
///     let publisher = Publisher::in_memory();
///     publisher.start()?;
///     let receipt = publisher.publish("news", Event::new("hello").id("first"))?;
///     assert_eq!(receipt.id, "first");
///     assert!(publisher.publish("news", Event::new("hello").id("first"))?.duplicate);
///     assert_eq!(publisher.history("news", 10)?.len(), 1);
///     Ok::<(), fanfare_guest::Error>(())
/// })?;
/// # Ok::<(), fanfare_guest::Error>(())
/// ```
pub struct Publisher<F> {
    sys: sys::Publisher,
    flavour: PhantomData<F>,
}

impl<F> Publisher<F> {
    /// The app's publisher on this node alone.
    pub fn in_memory() -> Self {
        Self::from_sys(sys::Publisher::in_memory())
    }

    /// The publisher that carries events between the nodes which run this app, over a Redis server, and keeps them there.
    /// Its keys and channels in Redis begin with `{fanfare:` + app + `:` + `sync_channel` + `}`.
    ///
    /// Errors: [`Invalid`](crate::Error::Invalid) for a sync channel that is not 1 to 255 bytes without control
    /// characters.
    pub fn redis(client: &Redis<F>, sync_channel: &str) -> Result<Self> {
        sys::Publisher::redis(client.sys(), sync_channel).map(Self::from_sys)
    }

    /// The publisher over the broker that the operator configured under this label.
    ///
    /// Errors: [`Denied`](crate::Error::Denied) where the app was not granted that broker.
    pub fn open(label: &str) -> Result<Self> {
        sys::Publisher::open(label).map(Self::from_sys)
    }

    pub(crate) fn from_sys(publisher: sys::Publisher) -> Self {
        Self {
            sys: publisher,
            flavour: PhantomData,
        }
    }

    pub(crate) fn sys(&self) -> &sys::Publisher {
        &self.sys
    }
}

macro_rules! waiting {
    ($flavour:ident, $sys:ident, [$($async:tt)*], [$($await:tt)*]) => {
        impl Publisher<$flavour> {
            /// Connects to the broker and begins to deliver what is published elsewhere. Starting a started publisher
            /// does nothing.
            ///
            /// Errors: [`Unavailable`](crate::Error::Unavailable) and [`Denied`](crate::Error::Denied) where the broker
            /// cannot be reached or refuses; it may be tried again.
            pub $($async)* fn start(&self) -> Result<()> {
                sys::$sys::publishing::start(&self.sys) $($await)*
            }

            /// Lets the connection hear the channel from now on, after what it missed since its [last event
            /// id](Connection::last_event_id), which may be of any of the publisher's channels. A connection that hears
            /// the channel already goes on doing so.
            ///
            /// Where the history does not reach back that far, an event says so first: its type is `fanfare-gap`, its
            /// data is `{"channel": …, "last-event-id": …}`, and it has no id. What the history still holds of the time
            /// after that id follows; nothing does where the id is unknown.
            ///
            /// Errors: [`Closed`](crate::Error::Closed); [`Invalid`](crate::Error::Invalid) for the name;
            /// [`Limited`](crate::Error::Limited) past the app's `channels-per-connection`.
            pub $($async)* fn register(&self, connection: &Connection<$flavour>, channel: &str) -> Result<()> {
                sys::$sys::publishing::register(&self.sys, connection.sys(), channel) $($await)*
            }

            /// Publishes an [`Event`], or what else turns into a [`Message`], on a channel. Returns when the broker has
            /// accepted it and it is on its way to the connections of this node.
            ///
            /// An error means that it was not published: [`Invalid`](crate::Error::Invalid) and
            /// [`Limited`](crate::Error::Limited) for the message or the channel's name,
            /// [`Unavailable`](crate::Error::Unavailable) while the broker cannot be reached.
            pub $($async)* fn publish(&self, channel: &str, message: impl Into<Message>) -> Result<Receipt> {
                sys::$sys::publishing::publish(&self.sys, channel, message.into()) $($await)*
            }

            /// The connection no longer hears the channel. One that is left with no channel at all is closed, after the
            /// events that were published before.
            ///
            /// Errors: [`NotFound`](crate::Error::NotFound) where this node has no such connection of this app, or
            /// where it does not hear the channel. A connection that has ended is no longer there.
            pub $($async)* fn remove(&self, connection_id: &str, channel: &str) -> Result<()> {
                sys::$sys::publishing::remove(&self.sys, connection_id, channel) $($await)*
            }

            /// How many connections hear the channel: of this node, and of all nodes where the broker can count them.
            pub $($async)* fn subscribers(&self, channel: &str) -> Result<u64> {
                sys::$sys::publishing::subscribers(&self.sys, channel) $($await)*
            }

            /// The ids of the connections that hear the channel, sorted: of the same nodes as in
            /// [`subscribers`](Self::subscribers), and at most 10,000 of them.
            pub $($async)* fn presence(&self, channel: &str) -> Result<Vec<String>> {
                sys::$sys::publishing::presence(&self.sys, channel) $($await)*
            }

            /// The newest events of the channel's history, oldest first: at most `limit` of them.
            pub $($async)* fn history(&self, channel: &str, limit: u32) -> Result<Vec<Event>> {
                sys::$sys::publishing::history(&self.sys, channel, limit) $($await)*
            }
        }
    };
}

in_both_flavours!(waiting);

impl<F> fmt::Debug for Publisher<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}
