//! `closing`: waiting for the end of a connection.

use std::time::Duration;

use tokio::time::timeout;
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::behind;
use crate::guest::{
    bindings::{
        asynchronous::fanfare::sse::closing_async,
        fanfare::sse::{closing::Host, connections::CloseReason},
    },
    state::{ConnectionHandle, State},
};

async fn closed(connection: ConnectionHandle, within: Option<u64>) -> Option<CloseReason> {
    let reason = match within {
        None => connection.ended().await,
        Some(within) => {
            let within = Duration::from_millis(within);
            timeout(within, connection.ended()).await.ok()?
        }
    };
    Some(reason.into())
}

impl Host for State {
    async fn closed(
        &mut self,
        connection: Resource<ConnectionHandle>,
        within: Option<u64>,
    ) -> wasmtime::Result<Option<CloseReason>> {
        Ok(closed(self.of(&connection)?, within).await)
    }
}

impl closing_async::Host for State {}

impl<T: Send> closing_async::HostWithStore<T> for HasSelf<State> {
    async fn closed(
        accessor: &Accessor<T, Self>,
        connection: Resource<ConnectionHandle>,
        within: Option<u64>,
    ) -> wasmtime::Result<Option<CloseReason>> {
        Ok(closed(behind(accessor, &connection)?, within).await)
    }
}
