//! A guest of wit-bindgen alone: the contract is usable without the SDK.
//!
//! Every request becomes a stream that hears one event and ends.

#![cfg(target_arch = "wasm32")]

wit_bindgen::generate!({ world: "app", path: "../../../wit", generate_all });

use exports::fanfare::sse::{handler, lifecycle};
use fanfare::sse::{
    connections::{self, UpgradeOptions},
    errors::Error,
    events::{Message, Payload},
    publishers::Publisher,
    publishing, registry,
    requests::Request,
};

struct Raw;

export!(Raw);

impl lifecycle::Guest for Raw {
    fn start() -> Result<(), Error> {
        let publisher = Publisher::in_memory();
        publishing::start(&publisher)?;
        registry::set_publisher("publisher", &publisher)
    }
}

impl handler::Guest for Raw {
    fn handle(request: Request) -> Result<(), Error> {
        let options = UpgradeOptions {
            allowed_origins: None,
            ping_interval: None,
            inactivity_timeout: None,
        };
        let connection = connections::upgrade(&request, &options)?;
        let publisher = registry::get_publisher("publisher")?;
        publishing::register(&publisher, &connection, "raw")?;
        let message = Message {
            event: None,
            id: None,
            event_type: Some("raw".into()),
            data: Some(Payload::Text("hello".into())),
            retry: None,
        };
        publishing::publish(&publisher, "raw", &message)?;
        publishing::remove(&publisher, &connection.id(), "raw")
    }
}
