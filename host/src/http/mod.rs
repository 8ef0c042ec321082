//! HTTP: from a socket to an app, and back to the socket.
//!
//! # Layout
//!
//! - [`listener`]: accepts sockets, speaks HTTP/1.1 and HTTP/2 on them, and drains.
//! - [`takeover`]: the way of a socket out of the HTTP library, once the head of an event stream has left.
//! - [`socket`]: a socket that does not wait for ever for its client.
//! - [`stuck`]: streams that share a socket and whose client takes nothing.
//! - [`tls`]: certificate and key.
//! - [`service`]: a request: its app, its answer.
//! - [`body`]: the body of a request, within limits.
//! - [`routes`]: which app a path belongs to.
//! - [`response`]: an answer as HTTP; [`failure`]: what is shown of a guest that failed.
//! - [`health`]: whether the node lives, and whether it serves.
//! - [`admin`]: what the admin listener answers.
//! - [`metrics`]: which metrics there are; [`exposition`]: how they are written.

pub mod admin;
pub mod body;
pub mod exposition;
mod failure;
pub mod health;
pub mod listener;
pub mod metrics;
pub mod response;
pub mod routes;
pub mod service;
pub mod socket;
pub mod stuck;
pub mod takeover;
pub mod tls;
