//! Real servers of every broker, which a test may kill, freeze and start again.
//!
//! Each has free ports on `127.0.0.1` and a folder of its own, is there when its `start` returns, and leaves nothing
//! behind when it is dropped. Where its data may live on, that is on disk in its folder.
//!
//! # Layout
//!
//! - [`process`]: what they have in common: start, stop, freeze, thaw, restart.
//! - [`redis`]: one Redis or Valkey server.
//! - [`sentinel`]: a primary and a replica, and those who watch over them.
//! - [`cluster`]: three primaries that share the slots of a Redis Cluster.
//! - [`nats`]: a NATS server with JetStream.
//! - [`postgres`]: a PostgreSQL server.
//! - [`kafka`]: a Kafka broker, which is its own controller.
//! - [`proxy`]: what a test puts between a client and one of these, to cut and to hold back.
//! - [`ports`]: ports that nobody else takes.
//! - `tree`: a process with all that it started.

pub mod cluster;
pub mod kafka;
pub mod nats;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod sentinel;
mod tree;
