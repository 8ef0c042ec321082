//! What every broker promises, shown on real servers: one suite, run for each of them.
//!
//! - [`kit`]: a server, and the brokers over it.
//! - [`nodes`]: nodes as brokers see them: a hub with clients, and a feed.
//! - [`suite`]: what holds while nothing breaks.
//! - [`faults`]: what holds while something does, with every event accounted for.
//! - One module for each broker: its kit.

/// Has a suite of tests run for a kit.
macro_rules! conformance {
    ($kit:ident) => {
        $crate::suite::tests!($kit);
        $crate::faults::tests!($kit);
    };
}

mod durable;
mod faults;
mod kafka;
mod kit;
mod nats;
mod nodes;
mod postgres;
mod redis;
mod suite;
