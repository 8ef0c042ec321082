//! What the load generator, the servers it measures and the bench guest agree on. It depends on nothing, so that a
//! guest can use it too.
//!
//! | module | concept |
//! |---|---|
//! | [`payload`] | the data of an event: a number, a time and padding that can be checked |
//! | [`publish`] | what `POST /publish` asks for: [`Publish`], its query and its rounds; [`Published`], its answer |
//! | [`park`] | what `GET /park` asks for: [`Park`] |
//! | `query` | queries of these |

pub mod park;
pub mod payload;
pub mod publish;
mod query;

pub use park::Park;
pub use payload::Payload;
pub use publish::{Publish, Published};

/// The answer to `GET /hello`, wherever that is served.
pub const HELLO: &str = "hello\n";
