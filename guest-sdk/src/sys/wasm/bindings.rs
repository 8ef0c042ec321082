//! What wit-bindgen makes of the contract.

#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated code, and calls across the component boundary"
)]

wit_bindgen::generate!({
    path: "wit",
    world: "app",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_app",
});

/// A world of its own, so that only guests that ask for the hook export it.
pub mod hooks {
    wit_bindgen::generate!({
        path: "wit",
        world: "disconnect-hooks",
        with: {
            "fanfare:sse/errors@0.1.0": super::fanfare::sse::errors,
            "fanfare:sse/events@0.1.0": super::fanfare::sse::events,
            "fanfare:sse/requests@0.1.0": super::fanfare::sse::requests,
            "fanfare:sse/connections@0.1.0": super::fanfare::sse::connections,
        },
        pub_export_macro: true,
        export_macro_name: "export_disconnect_hooks",
    });
}

/// As the module before, for the other hook.
pub mod occupancy {
    wit_bindgen::generate!({
        path: "wit",
        world: "occupancy-hooks",
        with: {
            "fanfare:sse/errors@0.1.0": super::fanfare::sse::errors,
            "fanfare:sse/redis-clients@0.1.0": super::fanfare::sse::redis_clients,
            "fanfare:sse/publishers@0.1.0": super::fanfare::sse::publishers,
        },
        pub_export_macro: true,
        export_macro_name: "export_occupancy_hooks",
    });
}

/// What the asynchronous flavour has of its own; the rest is that of the blocking one.
pub mod asynchronous {
    wit_bindgen::generate!({
        path: "wit",
        world: "app-async",
        with: {
            "fanfare:sse/errors@0.1.0": super::fanfare::sse::errors,
            "fanfare:sse/events@0.1.0": super::fanfare::sse::events,
            "fanfare:sse/requests@0.1.0": super::fanfare::sse::requests,
            "fanfare:sse/connections@0.1.0": super::fanfare::sse::connections,
            "fanfare:sse/redis-clients@0.1.0": super::fanfare::sse::redis_clients,
            "fanfare:sse/publishers@0.1.0": super::fanfare::sse::publishers,
            "fanfare:sse/registry@0.1.0": super::fanfare::sse::registry,
            "wasi:config/store@0.2.0-rc.1": super::wasi::config::store,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_app_async",
    });

    /// As the module of this name beside this one.
    pub mod hooks {
        wit_bindgen::generate!({
            path: "wit",
            world: "disconnect-hooks-async",
            with: {
                "fanfare:sse/errors@0.1.0": super::super::fanfare::sse::errors,
                "fanfare:sse/events@0.1.0": super::super::fanfare::sse::events,
                "fanfare:sse/requests@0.1.0": super::super::fanfare::sse::requests,
                "fanfare:sse/connections@0.1.0": super::super::fanfare::sse::connections,
            },
            pub_export_macro: true,
            export_macro_name: "export_disconnect_hooks_async",
        });
    }

    /// As the module of this name beside this one.
    pub mod occupancy {
        wit_bindgen::generate!({
            path: "wit",
            world: "occupancy-hooks-async",
            with: {
                "fanfare:sse/errors@0.1.0": super::super::fanfare::sse::errors,
                "fanfare:sse/redis-clients@0.1.0": super::super::fanfare::sse::redis_clients,
                "fanfare:sse/publishers@0.1.0": super::super::fanfare::sse::publishers,
            },
            pub_export_macro: true,
            export_macro_name: "export_occupancy_hooks_async",
        });
    }
}
