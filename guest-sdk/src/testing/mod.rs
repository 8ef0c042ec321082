//! A host inside a test: handlers run as ordinary functions, without WebAssembly, server and waiting.
//!
//! A [`Host`] keeps what a node would keep: connections, channels and their histories, the registry, variables,
//! Redis servers in memory, and a clock that [`sleep`](crate::sleep) advances at once. It answers as the contract
//! says, errors included, so a test may look at those too. Every `Host` is a node of its own, and tests run in
//! parallel.
//!
//! ```
//! use std::time::Duration;
//! use fanfare_guest::{App, Request, Response, Result, sleep, testing::{self, Host}};
//!
//! struct Clock;
//!
//! impl App for Clock {
//!     fn handle(request: Request) -> Result<()> {
//!         if request.path() != "/ticks" {
//!             return request.respond(Response::not_found());
//!         }
//!         let stream = request.upgrade()?;
//!         for tick in 1.. {
//!             sleep(Duration::from_secs(1));
//!             if !stream.is_open() {
//!                 break;
//!             }
//!             stream.send(tick.to_string())?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let host = Host::new();
//! let outcome = host.handle::<Clock>(testing::Request::get("/ticks").hang_up_after(Duration::from_millis(2500)));
//! assert_eq!(outcome.result(), &Ok(()));
//! assert_eq!(outcome.stream().data(), ["1", "2"]);
//! assert_eq!(host.elapsed(), Duration::from_secs(3));
//!
//! assert_eq!(host.handle::<Clock>(testing::Request::get("/")).response().status, 404);
//! ```

pub(crate) mod fake;
pub(crate) mod host;
mod outcome;
mod request;
mod stream;
pub(crate) mod upstream;

pub use host::Published;
pub use outcome::Outcome;
pub use request::Request;
pub use stream::{Heard, Stream};
pub use upstream::Upstream;

/// A node that runs one app, of the blocking flavour.
pub type Host = host::Host<crate::flavour::Blocking>;
