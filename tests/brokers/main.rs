//! What every broker promises, shown on real servers: one suite, run for each of them.
//!
//! - [`kit`]: a server, and the brokers over it.
//! - [`nodes`]: nodes as brokers see them: a hub with clients, and a feed.
//! - [`suite`]: what holds while nothing breaks.
//! - [`members`]: who hears channels, across nodes.
//! - [`kept`]: what is kept for clients that come back.
//! - [`faults`]: what holds while something does, with every event accounted for.
//! - [`feed`]: what a node does with a push that breaks, over a broker that does as it is told.
//! - One module for each broker: its kit.

/// Has a suite of tests run for a kit.
macro_rules! conformance {
    ($kit:ident) => {
        $crate::suite::tests!($kit);
        $crate::members::tests!($kit);
        $crate::kept::tests!($kit);
        $crate::faults::tests!($kit);
    };
}

/// What breaks a kit that is one server of the harness.
macro_rules! breaks_as_its_server {
    () => {
        fn kill(&mut self) {
            self.0.stop();
        }

        fn restart(&mut self) {
            self.0.restart();
        }

        fn freeze(&self) {
            self.0.freeze();
        }

        fn thaw(&self) {
            self.0.thaw();
        }
    };
}

mod durable;
mod faults;
mod feed;
mod kafka;
mod kept;
mod kit;
mod members;
mod nats;
mod nodes;
mod postgres;
mod redis;
mod suite;
