//! Fanfare: a Server-Sent Events server that its users program in WebAssembly.
//!
//! # Layout
//!
//! - [`cli`]: the commands of the binary.
//! - [`http`]: the listeners, routing, the upgrade of a request to an event stream; metrics.
//! - [`guest`]: engine, apps, instances, limits, and the functions that guests import.
//! - [`broker`]: what carries events between nodes.
//! - [`hub`]: channels, connections, history and delivery on this node.
//! - [`event`]: an event, its checks and its form on the wire.
//! - [`config`]: the file `fanfare.toml`.
//! - [`redis_pool`]: the node's connections to Redis.
//! - [`lock`]: a file that one process has locked at a time.
//! - [`trust`]: whom the node trusts when it connects with TLS.
//! - [`telemetry`]: where the log goes.
//!
//! Dependencies point one way: `cli → http → guest → broker → hub → event`. `ARCHITECTURE.md` follows an event
//! through the house.

pub mod broker;
pub mod cli;
pub mod config;
pub mod event;
pub mod guest;
pub mod http;
pub mod hub;
pub mod lock;
pub mod redis_pool;
pub mod telemetry;
pub mod trust;
