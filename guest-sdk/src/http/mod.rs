//! Requests to other servers, whose responses are read as they come.
//!
//! The operator grants the origins that an app may send to: `--allow-http https://api.example.org`, or
//! `http = ["https://api.example.org"]` among its capabilities. Others are [`Denied`](crate::Error::Denied). Redirects
//! are not followed.
//!
//! ```
//! use fanfare_guest::{Error, http, testing::{Host, Upstream}};
//!
//! let host = Host::new();
//! host.upstream("https://api.example.org", |request| {
//!     assert_eq!(request.header_value("authorization"), Some("Bearer key"));
//!     Upstream::new(200).data("Once").data("upon").data("[DONE]")
//! });
//! host.run(|| {
//!     let response = http::Request::post("https://api.example.org/v1/tell")
//!         .header("authorization", "Bearer key")
//!         .json(&["a tale"])?
//!         .send()?;
//!     let mut words = Vec::new();
//!     for event in response.ok()?.events() {
//!         words.push(event?.data);
//!     }
//!     assert_eq!(words, ["Once", "upon", "[DONE]"]);
//!     Ok::<(), Error>(())
//! })?;
//! # Ok::<(), Error>(())
//! ```
//!
//! A request ends when its [`Pending`] or its [`Response`] is dropped, or what was made of it: the connection is closed then, and the
//! server hears that nobody listens any more. So it does when the handler returns or traps.

mod events;
mod request;
mod response;
mod url;

pub use events::{Events, ServerEvent};
pub use request::{Pending, Request};
pub use response::Response;
pub(crate) use url::Url;
