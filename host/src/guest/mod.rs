//! Guests: what is compiled, linked, limited and called.
//!
//! # Layout
//!
//! - [`engine`]: how guests are compiled, and where their instances lie.
//! - [`threads`]: the threads they run on, and whose turn it is; [`ticker`]: the ticks that make them give it up.
//! - [`check`]: what a component must be to serve as a guest; [`shape`]: what it imports and exports;
//!   [`inspect`]: that, and who made it.
//! - [`app`]: a guest under a name: requests, hooks, new code in the place of old.
//! - [`code`]: one version of a guest, ready to be called; [`version`]: what it is known by.
//! - [`versions`]: those that each app has run, and may run again; [`deploys`]: how one takes the place of another.
//! - [`blocking`] and [`asynchronous`]: the two worlds: which instance a call runs in, and what it takes along.
//! - [`call`]: a call, the store it runs in, and what became of it; [`source`]: where in its source a guest trapped.
//! - [`brokers`]: the brokers that the operator configured, made for an app.
//! - [`shared`]: what all calls of an app share: hub, publishers, registry, grants.
//! - [`state`]: what belongs to one instance.
//! - [`limits`]: their names and how often they were reached; memory and CPU time.
//! - [`request`]: a request on its way through a guest, and its answer; [`headers`]: its headers.
//! - [`answers`]: what requests were answered with, counted.
//! - [`origin`]: which pages may read a stream.
//! - [`registry`]: named values that outlive a call.
//! - [`output`]: what guests print; [`log`]: what of it may stand in the log; [`scope`]: what its lines belong to.
//! - [`outgoing`]: requests that guests send to others.
//! - [`imports`]: what guests import, one file for each interface.
//! - [`bindings`]: the contract as generated Rust; [`error`]: its errors.

pub mod answers;
pub mod app;
pub mod asynchronous;
pub mod bindings;
pub mod blocking;
pub mod brokers;
pub mod call;
pub mod check;
pub mod code;
pub mod deploys;
pub mod engine;
pub mod error;
pub mod headers;
pub mod imports;
pub mod inspect;
pub mod limits;
pub mod log;
pub mod origin;
pub mod outgoing;
pub mod output;
pub mod registry;
pub mod request;
pub mod scope;
pub mod shape;
pub mod shared;
pub mod source;
pub mod state;
pub mod threads;
pub mod ticker;
pub mod version;
pub mod versions;
