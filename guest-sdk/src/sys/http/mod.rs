//! Requests to others: `wasm.rs` sends them by `wasi:http`, `native.rs` to the upstreams of the host of `testing`. Both
//! offer the functions `start` and `now`, and the types `Pending` and `Body`.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub use native::*;
#[cfg(target_family = "wasm")]
pub use wasm::*;

/// A response whose body is still to come.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Body,
}

/// What came of waiting for a body.
pub enum Chunk {
    /// Bytes, at least one.
    Data(Vec<u8>),
    /// The body is over.
    End,
    /// Nothing came in the time.
    Nothing,
}
