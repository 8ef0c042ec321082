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
//! | `app` | what a guest implements: [`App`], its hooks [`Disconnected`] and [`Occupancy`], and [`export!`] |
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
//! | [`asynchronous`] | the asynchronous flavour, under the same names |
//! | [`flavour`] | what both flavours share: the handles, generic over the flavour |
//! | `testing` | a host inside a test, for builds that are no WebAssembly |
//! | `sys` | the one place that knows where the host is: `sys/wasm` calls its interfaces, `sys/native` the host of `testing`, both under the same names |
//!
//! # Flavours
//!
//! The contract has two flavours. What stands here is the blocking one: a call has an instance of its own, waits and
//! returns. In the asynchronous one many calls share an instance, and what waits is awaited: take the same names from
//! [`asynchronous`]. What waits for nothing is the same in both. Examples show the blocking flavour.

mod app;
pub mod asynchronous;
pub mod config;
mod connection;
mod error;
mod event;
pub mod flavour;
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

pub use app::{App, Disconnected, Occupancy};
pub use connection::{CloseReason, Disconnection, Upgrade};
pub use error::{Error, Result};
pub use event::{Event, EventId, Message, Payload};
pub use params::Params;
pub use publisher::Receipt;
pub use response::Response;
pub use time::sleep;

/// A handle to a connection.
pub type Connection = flavour::Connection<flavour::Blocking>;
/// A handle to a publisher.
pub type Publisher = flavour::Publisher<flavour::Blocking>;
/// A handle to the host's connection to a Redis server.
pub type Redis = flavour::Redis<flavour::Blocking>;
/// A request.
pub type Request = flavour::Request<flavour::Blocking>;

/// Keeps the examples of the READMEs true, this crate's and the project's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../README.md")]
struct Readmes;

/// What the expansions of the macros `export!` refer to; nothing for people.
#[doc(hidden)]
pub mod __export {
    #[cfg(target_family = "wasm")]
    pub use crate::sys::{
        asynchronous::Exports as AsynchronousExports, bindings, blocking::Exports,
    };

    /// Holds a build that exports nothing to the bounds of one that does.
    pub const fn is_app<A: crate::App>() {}
    /// As `is_app`, for the hook.
    pub const fn is_disconnected<A: crate::Disconnected>() {}
    /// As `is_app`, for the hook for channels.
    pub const fn is_occupancy<A: crate::Occupancy>() {}
    /// As `is_app`, for the asynchronous flavour.
    pub const fn is_asynchronous_app<A: crate::asynchronous::App>() {}
    /// As `is_app`, for the hook of the asynchronous flavour.
    pub const fn is_asynchronous_disconnected<A: crate::asynchronous::Disconnected>() {}
    /// As `is_app`, for the hook for channels of the asynchronous flavour.
    pub const fn is_asynchronous_occupancy<A: crate::asynchronous::Occupancy>() {}
}
