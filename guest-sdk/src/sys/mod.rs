//! Where the host is.
//!
//! `wasm.rs` calls the host's interfaces, `native.rs` the host of `testing`. Both offer the same names with the same
//! signatures, in the types of this crate: `Request`, `Connection`, `Publisher`, `Redis`, the modules `registry` and
//! `config`, and `sleep`. The public modules are written once, on top of them. Requests to others are in `http`.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

pub mod http;

#[cfg(not(target_family = "wasm"))]
pub use native::*;
#[cfg(target_family = "wasm")]
pub use wasm::*;
