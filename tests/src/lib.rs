//! The harness of the end-to-end tests: the real host, and clients that show every byte.
//!
//! # Layout
//!
//! - [`node`]: the host as a process: how it is started, told to end, and what it logs.
//! - [`cli`]: the other commands of the binary.
//! - [`client`]: HTTP/1.1 over a socket of its own, plain or TLS: requests, answers, event streams.
//! - [`http2`]: the same over HTTP/2.
//! - [`stream`]: an event stream, whatever it came over.
//! - [`sse`]: a parser of event streams, written from the standard and not from the host.
//! - [`metrics`]: a strict parser of metrics, written from the format's description and not from the host.
//! - [`tls`]: certificates that last for a test.
//! - [`nginx`]: a proxy in between.
//! - [`servers`]: the servers of every broker, which a test may kill, freeze and start again.
//! - [`browser`]: Chromium, driven over the DevTools protocol.
//! - [`site`]: a page of another origin.
//! - [`upstream`]: a server that guests send requests to.
//! - [`account`]: what became of events that were published while something broke.
//! - [`wait`]: waiting, which always ends.
//!
//! Everything blocks, panics where it cannot go on, and waits at most [`wait::PATIENCE`].

pub mod account;
pub mod browser;
pub mod cli;
pub mod client;
pub mod http2;
pub mod metrics;
pub mod nginx;
pub mod node;
pub mod servers;
pub mod site;
pub mod sse;
pub mod stream;
pub mod tls;
pub mod upstream;
pub mod wait;
