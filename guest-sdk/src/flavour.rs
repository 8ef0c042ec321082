//! What both flavours share: the handles, generic over the flavour.
//!
//! The blocking flavour stands at the top of this crate, the asynchronous one in [`asynchronous`](crate::asynchronous),
//! both under the same names, which are aliases of the types here. Nothing of these is for one flavour alone but the
//! methods that wait. Code that waits for nothing, such as a look at a request, can serve guests of both:
//!
//! ```
//! use fanfare_guest::flavour::Request;
//!
//! fn language<F>(request: &Request<F>) -> String {
//!     request.header("accept-language").unwrap_or_else(|| "en".to_owned())
//! }
//! ```

pub use crate::{connection::Connection, publisher::Publisher, redis::Redis, request::Request};

#[cfg(not(target_family = "wasm"))]
pub use crate::testing::host::Host;

/// A call has an instance of its own and waits by standing still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {}

/// Many calls share an instance, and wait in it at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asynchronous {}

/// Calls a macro once for each flavour, so that what waits is written once for both. The macro gets the flavour's type,
/// its module in `sys`, what stands before `fn` there, and what stands after a call that waits.
macro_rules! in_both_flavours {
    ($waiting:ident) => {
        $waiting!(Blocking, blocking, [], []);
        $waiting!(Asynchronous, asynchronous, [async], [.await]);
    };
}

pub(crate) use in_both_flavours;
