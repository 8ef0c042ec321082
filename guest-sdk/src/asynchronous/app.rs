//! What an asynchronous guest implements, and how it becomes the component's exports.

use super::{Disconnection, Publisher, Request, Result};

/// A guest: what the host calls. As the [blocking one](crate::App), and may wait while other calls go on.
///
/// A value of the implementing type is never made. Statics are shared by the calls of one instance, but there are
/// several instances, and any of them may be replaced: what is to outlive a call goes into the
/// [`registry`](super::registry).
#[allow(
    async_fn_in_trait,
    reason = "an instance has one thread: no future has to be `Send`"
)]
pub trait App {
    /// Called once on every node before the app's first request, see [`App::start`](crate::App::start).
    async fn start() -> Result<()> {
        Ok(())
    }

    /// Called for every request, see [`App::handle`](crate::App::handle). What is to go on after the handler has
    /// returned is begun with [`spawn`](super::spawn).
    async fn handle(request: Request) -> Result<()>;
}

/// An optional hook beside [`App`]: export it with `export!(MyApp, disconnected)`.
#[allow(
    async_fn_in_trait,
    reason = "an instance has one thread: no future has to be `Send`"
)]
pub trait Disconnected {
    /// Called once for every connection that has ended, see
    /// [`Disconnected::disconnected`](crate::Disconnected::disconnected).
    async fn disconnected(disconnection: Disconnection);
}

/// An optional hook beside [`App`]: export it with `export!(MyApp, occupancy)`, or `export!(MyApp, disconnected, occupancy)`
/// where both are wanted, in any order. As the [blocking one](crate::Occupancy).
#[allow(
    async_fn_in_trait,
    reason = "an instance has one thread: no future has to be `Send`"
)]
pub trait Occupancy {
    /// Somebody hears the channel, and nobody did before.
    async fn channel_occupied(publisher: Publisher, channel: String);

    /// Nobody hears the channel any more.
    async fn channel_vacated(publisher: Publisher, channel: String);
}

/// Makes an [`App`](crate::asynchronous::App) the component's exports; once in every guest.
///
/// ```
/// use fanfare_guest::asynchronous::{App, Disconnected, Disconnection, Request, Response, Result, export};
///
/// struct Chat;
///
/// impl App for Chat {
///     async fn handle(request: Request) -> Result<()> {
///         request.respond(Response::text("hello"))
///     }
/// }
///
/// impl Disconnected for Chat {
///     async fn disconnected(gone: Disconnection) {
///         eprintln!("{} left {:?}", gone.connection_id, gone.channels);
///     }
/// }
///
/// export!(Chat, disconnected); // or export!(Chat), for an app without the hook
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __export_asynchronous {
    ($app:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exports = $crate::__export::AsynchronousExports<$app>;
            $crate::__export::bindings::asynchronous::export_app_async!(
                Exports with_types_in $crate::__export::bindings::asynchronous
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__export::is_asynchronous_app::<$app>();
    };
    ($app:ty, disconnected) => {
        $crate::__export_asynchronous!($app);
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exports = $crate::__export::AsynchronousExports<$app>;
            $crate::__export::bindings::asynchronous::hooks::export_disconnect_hooks_async!(
                Exports with_types_in $crate::__export::bindings::asynchronous::hooks
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__export::is_asynchronous_disconnected::<$app>();
    };
    ($app:ty, occupancy) => {
        $crate::__export_asynchronous!($app);
        $crate::__export_asynchronous!(@occupancy $app);
    };
    ($app:ty, disconnected, occupancy) => {
        $crate::__export_asynchronous!($app, disconnected);
        $crate::__export_asynchronous!(@occupancy $app);
    };
    ($app:ty, occupancy, disconnected) => {
        $crate::__export_asynchronous!($app, disconnected, occupancy);
    };
    (@occupancy $app:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exports = $crate::__export::AsynchronousExports<$app>;
            $crate::__export::bindings::asynchronous::occupancy::export_occupancy_hooks_async!(
                Exports with_types_in $crate::__export::bindings::asynchronous::occupancy
            );
        };
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__export::is_asynchronous_occupancy::<$app>();
    };
}
