//! Why a hub refused.

use thiserror::Error;

/// Why the hub refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HubError {
    /// The connection has ended.
    #[error("the connection is closed")]
    Closed,
    /// No such connection, or it does not hear the channel.
    #[error("{0}")]
    NotFound(String),
    /// A limit of the app.
    #[error("the app's limit `{name}` of {limit} is reached")]
    Limited {
        /// The setting.
        name: &'static str,
        /// Its value.
        limit: usize,
    },
    /// A limit of the node.
    #[error("the node's limit `{name}` of {limit} is reached")]
    Full {
        /// The setting.
        name: &'static str,
        /// Its value.
        limit: usize,
    },
    /// It has more to deliver than it can, and this cannot wait.
    #[error("the node has more to deliver than it can; try again later")]
    Overloaded,
    /// No new connections: the node is shutting down.
    #[error("the node is shutting down")]
    Draining,
}
