//! The contract as Rust, generated from `wit/`.
//!
//! Functions that wait are `async` here. In the blocking world they suspend the guest; in the asynchronous one they are
//! futures beside each other. All others answer at once, and both worlds share them.

#![allow(missing_docs, reason = "generated; the documentation is in wit/")]

wasmtime::component::bindgen!({
    world: "app",
    path: "../wit",
    imports: {
        "fanfare:sse/publishing": async | trappable,
        "fanfare:sse/closing": async | trappable,
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

/// The world `app-async`.
pub mod asynchronous {
    wasmtime::component::bindgen!({
        world: "app-async",
        path: "../wit",
        imports: { default: trappable },
        with: {
            "fanfare:sse/errors": super::fanfare::sse::errors,
            "fanfare:sse/events": super::fanfare::sse::events,
            "fanfare:sse/requests": super::fanfare::sse::requests,
            "fanfare:sse/connections": super::fanfare::sse::connections,
            "fanfare:sse/redis-clients": super::fanfare::sse::redis_clients,
            "fanfare:sse/publishers": super::fanfare::sse::publishers,
            "fanfare:sse/registry": super::fanfare::sse::registry,
            "wasi:config": super::wasi::config,
            "wasi:clocks": wasmtime_wasi::p3::bindings::clocks,
        },
        trappable_error_type: {
            "fanfare:sse/errors.error" => crate::guest::error::HostError,
        },
    });
}

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

/// The optional export `disconnect-hook-async`.
pub mod asynchronous_hooks {
    wasmtime::component::bindgen!({
        world: "disconnect-hooks-async",
        path: "../wit",
        with: {
            "fanfare:sse/errors": super::fanfare::sse::errors,
            "fanfare:sse/events": super::fanfare::sse::events,
            "fanfare:sse/requests": super::fanfare::sse::requests,
            "fanfare:sse/connections": super::fanfare::sse::connections,
        },
    });
}

/// The optional export `occupancy-hook`.
pub mod occupancy {
    wasmtime::component::bindgen!({
        world: "occupancy-hooks",
        path: "../wit",
        exports: { default: async },
        with: {
            "fanfare:sse/errors": super::fanfare::sse::errors,
            "fanfare:sse/redis-clients": super::fanfare::sse::redis_clients,
            "fanfare:sse/publishers": super::fanfare::sse::publishers,
        },
    });
}

/// The optional export `occupancy-hook-async`.
pub mod asynchronous_occupancy {
    wasmtime::component::bindgen!({
        world: "occupancy-hooks-async",
        path: "../wit",
        with: {
            "fanfare:sse/errors": super::fanfare::sse::errors,
            "fanfare:sse/redis-clients": super::fanfare::sse::redis_clients,
            "fanfare:sse/publishers": super::fanfare::sse::publishers,
        },
    });
}
