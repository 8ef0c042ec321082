//! Guests: what is compiled, linked, limited and called.
//!
//! # Layout
//!
//! - [`engine`]: how guests are compiled, and the threads they run on.
//! - [`ticker`]: the ticks that make them give up the CPU.
//! - [`check`]: what a file must be to serve as a guest.
//! - [`app`]: a guest under a name; calls of `start`, `handle` and `disconnected`.
//! - [`call`]: one call: a fresh instance, its limits, what became of it.
//! - [`shared`]: what all calls of an app share: hub, publishers, registry, grants.
//! - [`state`]: what belongs to one instance.
//! - [`limits`]: memory and CPU time.
//! - [`request`]: a request on its way through a guest, and its answer.
//! - [`answers`]: what requests were answered with, counted.
//! - [`origin`]: which pages may read a stream.
//! - [`registry`]: named values that outlive a call.
//! - [`output`]: what guests print.
//! - [`imports`]: what guests import, one file for each interface.
//! - [`bindings`]: the contract as generated Rust; [`error`]: its errors.

pub mod answers;
pub mod app;
pub mod bindings;
pub mod call;
pub mod check;
pub mod engine;
pub mod error;
pub mod imports;
pub mod limits;
pub mod origin;
pub mod output;
pub mod registry;
pub mod request;
pub mod shared;
pub mod state;
pub mod ticker;
