//! Where the host is.
//!
//! `wasm` calls the host's interfaces, `native` the host of `testing`. Both offer the same names with the same
//! signatures, in the types of this crate: the handles `Request`, `Connection`, `Publisher`, `Redis` with what does not
//! wait, the modules `registry` and `config`, and what waits, in the modules `blocking` and `asynchronous` alike. The
//! public modules are written once, on top of them. Requests to
//! others are in `http`.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

pub mod http;

#[cfg(not(target_family = "wasm"))]
pub use native::*;
#[cfg(target_family = "wasm")]
pub use wasm::*;
