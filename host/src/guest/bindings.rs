//! The contract as Rust, generated from `wit/`.
//!
//! Functions that wait are `async` here and suspend the guest; all others answer at once.

#![allow(missing_docs, reason = "generated; the documentation is in wit/")]

wasmtime::component::bindgen!({
    world: "app",
    path: "../wit",
    imports: {
        "fanfare:sse/publishing": async | trappable,
        "fanfare:sse/redis": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "fanfare:sse/connections.connection": crate::guest::state::ConnectionHandle,
        "fanfare:sse/publishers.publisher": crate::broker::publisher::Publisher,
        "fanfare:sse/redis-clients.client": crate::redis_pool::RedisClient,
        "fanfare:sse/requests.request": crate::guest::request::RequestHandle,
    },
    trappable_error_type: {
        "fanfare:sse/errors.error" => crate::guest::error::HostError,
    },
});

/// The optional export `disconnect-hook`.
pub mod hooks {
    wasmtime::component::bindgen!({
        world: "disconnect-hooks",
        path: "../wit",
        exports: { default: async },
        with: {
            "fanfare:sse/errors": super::fanfare::sse::errors,
            "fanfare:sse/events": super::fanfare::sse::events,
            "fanfare:sse/requests": super::fanfare::sse::requests,
            "fanfare:sse/connections": super::fanfare::sse::connections,
        },
    });
}
