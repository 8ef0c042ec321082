//! Write guests for the Server-Sent Events server Fanfare in Rust.
//!
//! A guest is a WebAssembly component that decides who may open an event stream, which channels a stream hears
//! and what is published. The server, called the host, holds the streams. Implement [`App`], name it in
//! [`export!`], and build with `cargo build --release --target wasm32-wasip2`:
//!
//! ```
//! use fanfare_guest::{App, Event, Publisher, Request, Result, registry};
//!
//! struct Hello;
//!
//! impl App for Hello {
//!     fn start() -> Result<()> {
//!         let publisher = Publisher::in_memory();
//!         publisher.start()?;
//!         registry::set("publisher", &publisher)
//!     }
//!
//!     fn handle(request: Request) -> Result<()> {
//!         let stream = request.upgrade()?;
//!         let publisher: Publisher = registry::get("publisher")?;
//!         publisher.register(&stream, "news")?;
//!         publisher.publish("news", Event::new("hello").event_type("greeting"))?;
//!         Ok(())
//!     }
//! }
//!
//! fanfare_guest::export!(Hello);
//!
//! // The same handler in an ordinary test, without WebAssembly:
//! use fanfare_guest::testing::{self, Host};
//!
//! let host = Host::new();
//! host.start::<Hello>()?;
//! let outcome = host.handle::<Hello>(testing::Request::get("/"));
//! assert_eq!(outcome.stream().heard()[0].event_type, "greeting");
//! # Ok::<(), fanfare_guest::Error>(())
//! ```
//!
//! The crate of a guest has `crate-type = ["cdylib"]` and depends on this crate; bindings to the host's
//! interfaces are in here and never seen.
//!
//! # Layout
//!
//! | module | concept |
//! |---|---|
//! | `app` | what a guest implements: [`App`], [`Disconnected`], and [`export!`] |
//! | `request` | [`Request`]: what a client asks, and how it is answered or upgraded |
//! | `params` | [`Params`]: decoded names and values of queries and forms |
//! | `response` | [`Response`] |
//! | `connection` | [`Connection`], how it is opened ([`Upgrade`]) and how it ended ([`Disconnection`]) |
//! | `event` | [`Event`], [`Message`] |
//! | `publisher` | [`Publisher`] |
//! | [`registry`] | values that outlive a call |
//! | [`redis`] | [`Redis`] and its values |
//! | [`http`] | requests to other servers, and their responses as they come |
//! | [`config`] | the variables of the app |
//! | `error` | [`Error`] |
//! | `time` | [`sleep`] |
//! | `testing` | a host inside a test, for builds that are no WebAssembly |
//! | `sys` | the one place that knows where the host is: `sys/wasm.rs` calls its interfaces, `sys/native.rs` the host of `testing`, both under the same names |
//!
//! Everything here is the blocking flavour of the contract: a call waits and returns. Only `sys` would differ
//! for an asynchronous one.

mod app;
pub mod config;
mod connection;
mod error;
mod event;
pub mod http;
mod params;
mod publisher;
pub mod redis;
pub mod registry;
mod request;
mod response;
mod sys;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;

pub use app::{App, Disconnected};
pub use connection::{CloseReason, Connection, Disconnection, Upgrade};
pub use error::{Error, Result};
pub use event::{Event, EventId, Message, Payload};
pub use params::Params;
pub use publisher::{Publisher, Receipt};
pub use redis::Redis;
pub use request::Request;
pub use response::Response;
pub use time::sleep;

/// Keeps the examples of the READMEs true, this crate's and the project's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../README.md")]
struct Readmes;

/// What the expansion of [`export!`] refers to; nothing for people.
#[doc(hidden)]
pub mod __export {
    #[cfg(target_family = "wasm")]
    pub use crate::sys::{Exports, bindings};

    /// Holds a build that exports nothing to the bounds of one that does.
    pub const fn is_app<A: crate::App>() {}
    /// As `is_app`, for the hook.
    pub const fn is_disconnected<A: crate::Disconnected>() {}
}
