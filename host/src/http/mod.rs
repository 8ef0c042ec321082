//! HTTP: from a socket to an app, and back to the socket.
//!
//! # Layout
//!
//! - [`listener`]: accepts sockets, speaks HTTP/1.1 and HTTP/2 on them, and drains.
//! - [`tls`]: certificate and key.
//! - [`service`]: a request: its app, its body, its answer.
//! - [`routes`]: which app a path belongs to.
//! - [`response`]: an answer as HTTP.
//! - [`health`]: whether the node lives, and whether it serves.

pub mod health;
pub mod listener;
pub mod response;
pub mod routes;
pub mod service;
pub mod tls;
