//! The asynchronous flavour: many calls wait in one instance at the same time.
//!
//! Everything has the name that it has at the top of the crate, and what waits is awaited:
//!
//! ```
//! use std::time::Duration;
//! use fanfare_guest::asynchronous::{App, Publisher, Request, Result, registry, sleep};
//!
//! struct Count;
//!
//! impl App for Count {
//!     async fn start() -> Result<()> {
//!         let publisher = Publisher::in_memory();
//!         publisher.start().await?;
//!         registry::set("publisher", &publisher)
//!     }
//!
//!     async fn handle(request: Request) -> Result<()> {
//!         let stream = request.upgrade()?;
//!         let publisher: Publisher = registry::get("publisher")?;
//!         publisher.register(&stream, "numbers").await?;
//!         for number in 0..10 {
//!             publisher.publish("numbers", number.to_string()).await?;
//!             sleep(Duration::from_secs(2)).await;
//!         }
//!         publisher.remove(&stream.id(), "numbers").await
//!     }
//! }
//!
//! fanfare_guest::asynchronous::export!(Count);
//!
//! // The same handler in an ordinary test, without WebAssembly and without waiting:
//! use fanfare_guest::asynchronous::testing::{self, Host};
//!
//! let host = Host::new();
//! host.start::<Count>()?;
//! let outcome = host.handle::<Count>(testing::Request::get("/"));
//! assert_eq!(outcome.stream().data().len(), 10);
//! assert_eq!(host.elapsed(), Duration::from_secs(20));
//! # Ok::<(), fanfare_guest::Error>(())
//! ```
//!
//! Choose it where many handlers wait at a time: a waiting call costs what its future holds, where the blocking flavour
//! keeps an instance for it. The price is that calls of one instance share its fate. A trap, such as a panic, ends all
//! of them; and a call that computes, or waits outside of `await` ([`std::thread::sleep`]), holds up all others.
//!
//! A future of this module may be combined with others of its call: any crate that does so without a runtime of its own
//! will do, `futures` and its `join!` and `select!` for instance. Calls of one instance may also wake each other,
//! through a channel in a static for instance. A guest is of one flavour: what waits in the other one is not for it.

mod app;

#[doc(inline)]
pub use crate::__export_asynchronous as export;
#[doc(no_inline)]
pub use crate::{
    CloseReason, Disconnection, Error, Event, EventId, Message, Params, Payload, Receipt, Response,
    Result, Upgrade, config, redis, registry,
};
pub use app::{App, Disconnected, Occupancy};

use std::time::Duration;

use crate::{
    flavour::{self, Asynchronous},
    sys,
};

/// A handle to a connection, whose end can be awaited.
pub type Connection = flavour::Connection<Asynchronous>;
/// A handle to a publisher, whose functions are awaited.
pub type Publisher = flavour::Publisher<Asynchronous>;
/// A handle to the host's connection to a Redis server, whose functions are awaited.
pub type Redis = flavour::Redis<Asynchronous>;
/// A request.
pub type Request = flavour::Request<Asynchronous>;

/// Waits. In a test the clock of the `testing` host advances at once.
///
/// ```
/// use std::time::Duration;
/// use fanfare_guest::asynchronous::{sleep, testing::Host};
///
/// let host = Host::new();
/// host.run(sleep(Duration::from_secs(3600)));
/// assert_eq!(host.elapsed(), Duration::from_secs(3600));
/// ```
pub async fn sleep(duration: Duration) {
    sys::asynchronous::sleep(duration).await;
}

/// Begins work beside the handler that goes on when the handler has returned: the answer to a request does not wait for
/// it. A stream that hears no channel when its handler has returned is closed all the same.
///
/// There is nobody to report an error to. What is written to standard error becomes a line of the host's log.
///
/// ```
/// use std::time::Duration;
/// use fanfare_guest::asynchronous::{App, Publisher, Request, Response, Result, registry, sleep, spawn};
///
/// struct Egg;
///
/// impl App for Egg {
///     async fn handle(request: Request) -> Result<()> {
///         let publisher: Publisher = registry::get("publisher")?;
///         spawn(async move {
///             sleep(Duration::from_secs(300)).await;
///             if let Err(error) = publisher.publish("kitchen", "the egg is done").await {
///                 eprintln!("{error}");
///             }
///         });
///         request.respond(Response::text("five minutes\n"))
///     }
/// }
/// # use fanfare_guest::asynchronous::testing::{self, Host};
/// # let host = Host::new();
/// # host.run(async {
/// #     let publisher = Publisher::in_memory();
/// #     publisher.start().await?;
/// #     registry::set("publisher", &publisher)
/// # })?;
/// # assert_eq!(host.handle::<Egg>(testing::Request::get("/")).response().status, 200);
/// # assert!(host.published().is_empty());
/// # host.advance(Duration::from_secs(300));
/// # assert_eq!(host.published().len(), 1);
/// # Ok::<(), fanfare_guest::Error>(())
/// ```
pub fn spawn(work: impl Future<Output = ()> + 'static) {
    sys::asynchronous::spawn(work);
}

/// A host inside a test for this flavour, see [`testing`](crate::testing).
#[cfg(not(target_family = "wasm"))]
pub mod testing {
    #[doc(no_inline)]
    pub use crate::testing::{Heard, Outcome, Published, Request, Stream};

    /// A node that runs one app.
    ///
    /// Handlers that run at the same time take turns, as in one instance:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use fanfare_guest::asynchronous::{App, Request, Result, sleep, testing::{self, Host}};
    /// # struct Waits;
    /// # impl App for Waits {
    /// #     async fn handle(request: Request) -> Result<()> {
    /// #         let stream = request.upgrade()?;
    /// #         sleep(Duration::from_secs(5)).await;
    /// #         stream.send("slept")
    /// #     }
    /// # }
    /// let host = Host::new();
    /// host.after(Duration::from_secs(2), |host| {
    ///     host.handle::<Waits>(testing::Request::get("/?visitor=2"));
    /// });
    /// host.handle::<Waits>(testing::Request::get("/?visitor=1"));
    /// let slept_at = |stream: &testing::Stream| stream.heard()[0].at.as_secs();
    /// assert_eq!(host.streams().iter().map(slept_at).collect::<Vec<_>>(), [5, 7]);
    /// ```
    pub type Host = crate::flavour::Host<crate::flavour::Asynchronous>;
}
