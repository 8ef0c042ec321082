//! What a guest implements, and how it becomes the component's exports.

use crate::{Disconnection, Publisher, Request, Result};

/// A guest: what the host calls.
///
/// A value of the implementing type is never made. Every call may find a fresh instance of the component, so
/// statics do not last either; what is to outlive a call goes into the [`registry`](crate::registry).
pub trait App {
    /// Called once on every node before the app's first request: the place to make and start publishers.
    ///
    /// An error is logged and `start` is called again later; until it has succeeded, the host answers the app's
    /// requests with 503.
    fn start() -> Result<()> {
        Ok(())
    }

    /// Called for every request. It has to be answered ([`Request::respond`]) or turned into an event stream
    /// ([`Request::upgrade`]) exactly once; after that the handler may go on, for instance to publish.
    ///
    /// A stream outlives the handler that opened it: the host goes on holding it, and other handlers publish to it.
    /// Only one that hears no channel when its handler has returned is closed, since nobody could send to it any more.
    ///
    /// An error is logged. If nothing was answered by then, the client gets a 500; a stream that was opened by then goes
    /// on, so a handler that wants it to end with the error calls [`Connection::close`](crate::Connection::close). Some
    /// errors are no mistakes and not logged as such: [`Closed`](crate::Error::Closed) and
    /// [`NotFound`](crate::Error::NotFound) once the client has left or the stream has ended, because clients leave, and
    /// any error after the host has answered by itself, as [`Request::upgrade`] may.
    fn handle(request: Request) -> Result<()>;
}

/// An optional hook beside [`App`]: export it with `export!(MyApp, disconnected)`.
pub trait Disconnected {
    /// Called once for every connection that has ended, for whatever reason, some time after its end.
    ///
    /// There is nobody to report an error to. What is written to standard error becomes a line of the host's log.
    fn disconnected(disconnection: Disconnection);
}

/// An optional hook beside [`App`]: export it with `export!(MyApp, occupancy)`, or `export!(MyApp, disconnected, occupancy)`
/// where both are wanted, in any order. It is the place to begin and to end what is only worth doing while somebody hears
/// it, such as reading a feed.
///
/// What is told is what the host has found at that moment: a channel that is vacated and occupied again at once may be told
/// of neither. Over a broker that knows who hears a channel at other nodes, one node of all is told; over any other, each
/// node of its own connections.
pub trait Occupancy {
    /// Somebody hears the channel, and nobody did before.
    fn channel_occupied(publisher: Publisher, channel: String);

    /// Nobody hears the channel any more.
    fn channel_vacated(publisher: Publisher, channel: String);
}

/// Makes an [`App`] the component's exports; once in every guest. A hook that is not named here is never called.
///
/// ```
/// use fanfare_guest::{App, Disconnected, Disconnection, Request, Response, Result, export};
///
/// struct Chat;
///
/// impl App for Chat {
///     fn handle(request: Request) -> Result<()> {
///         request.respond(Response::text("hello"))
///     }
/// }
///
/// impl Disconnected for Chat {
///     fn disconnected(gone: Disconnection) {
///         eprintln!("{} left {:?}", gone.connection_id, gone.channels);
///     }
/// }
///
/// export!(Chat, disconnected); // or export!(Chat), for an app without the hook
/// ```
///
/// Two hooks are named in any order:
///
/// ```
/// # use fanfare_guest::{App, Disconnected, Disconnection, Occupancy, Publisher, Request, Result, export};
/// # struct Chat;
/// # impl App for Chat {
/// #     fn handle(_: Request) -> Result<()> {
/// #         Ok(())
/// #     }
/// # }
/// # impl Disconnected for Chat {
/// #     fn disconnected(_: Disconnection) {}
/// # }
/// # impl Occupancy for Chat {
/// #     fn channel_occupied(_: Publisher, _: String) {}
/// #     fn channel_vacated(_: Publisher, _: String) {}
/// # }
/// # export!(Chat, disconnected, occupancy);
/// export!(Chat, occupancy, disconnected); // or export!(Chat, disconnected, occupancy)
/// ```
#[macro_export]
macro_rules! export {
    ($app:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exports = $crate::__export::Exports<$app>;
            $crate::__export::bindings::export_app!(Exports with_types_in $crate::__export::bindings);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__export::is_app::<$app>();
    };
    ($app:ty, disconnected) => {
        $crate::export!($app);
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exports = $crate::__export::Exports<$app>;
            $crate::__export::bindings::hooks::export_disconnect_hooks!(
                Exports with_types_in $crate::__export::bindings::hooks
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__export::is_disconnected::<$app>();
    };
    ($app:ty, occupancy) => {
        $crate::export!($app);
        $crate::export!(@occupancy $app);
    };
    ($app:ty, disconnected, occupancy) => {
        $crate::export!($app, disconnected);
        $crate::export!(@occupancy $app);
    };
    ($app:ty, occupancy, disconnected) => {
        $crate::export!($app, disconnected, occupancy);
    };
    (@occupancy $app:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exports = $crate::__export::Exports<$app>;
            $crate::__export::bindings::occupancy::export_occupancy_hooks!(
                Exports with_types_in $crate::__export::bindings::occupancy
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__export::is_occupancy::<$app>();
    };
}
