//! `publishing`: channels, and what is published on them.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::{
    behind,
    events::{for_guest, message},
};
use crate::{
    broker::publisher::Publisher,
    guest::{
        bindings::{
            asynchronous::fanfare::sse::publishing_async,
            fanfare::sse::{
                events::{Event, Message},
                publishers::Receipt,
                publishing::Host,
            },
        },
        error::HostResult,
        state::{ConnectionHandle, Held, State},
    },
};

async fn publish(
    publisher: &Publisher,
    channel: &str,
    published: Message,
    event_data: u64,
) -> HostResult<Receipt> {
    let event = message(published, event_data as usize)?;
    let published = publisher.publish(channel, event).await?;
    Ok(Receipt {
        id: published.id,
        delivered: published.delivered,
        duplicate: published.duplicate,
    })
}

/// While a broker is asked, the connection stays held: what its client missed is still being put together.
async fn register(
    publisher: &Publisher,
    connection: &ConnectionHandle,
    channel: &str,
    held: &Held,
) -> HostResult<()> {
    let _kept = publisher.has_broker().then(|| Kept::take(held, connection));
    Ok(publisher.register(connection, channel).await?)
}

/// A connection that is not let go while this is there, however the call of the guest ends.
struct Kept<'a> {
    held: &'a Held,
    /// `None` where it was let go before.
    connection: Option<ConnectionHandle>,
}

impl<'a> Kept<'a> {
    fn take(held: &'a Held, connection: &ConnectionHandle) -> Self {
        let mut all = held.lock();
        let at = all.iter().position(|held| Arc::ptr_eq(held, connection));
        let connection = at.map(|at| all.swap_remove(at));
        drop(all);
        Self { held, connection }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.held.lock().extend(self.connection.take());
    }
}

async fn history(publisher: &Publisher, channel: &str, limit: u32) -> HostResult<Vec<Event>> {
    let events = publisher.history(channel, limit as usize).await?;
    Ok(events.iter().map(for_guest).collect())
}

impl Host for State {
    async fn start(&mut self, publisher: Resource<Publisher>) -> HostResult<()> {
        Ok(self.table.get(&publisher)?.start().await?)
    }

    async fn register(
        &mut self,
        publisher: Resource<Publisher>,
        connection: Resource<ConnectionHandle>,
        channel: String,
    ) -> HostResult<()> {
        let connection = self.table.get(&connection)?;
        let publisher = self.table.get(&publisher)?;
        register(publisher, connection, &channel, &self.held).await
    }

    async fn publish(
        &mut self,
        publisher: Resource<Publisher>,
        channel: String,
        published: Message,
    ) -> HostResult<Receipt> {
        let event_data = self.shared.limits.event_data;
        publish(self.table.get(&publisher)?, &channel, published, event_data).await
    }

    async fn remove(
        &mut self,
        publisher: Resource<Publisher>,
        connection_id: String,
        channel: String,
    ) -> HostResult<()> {
        let publisher = self.table.get(&publisher)?;
        Ok(publisher.remove(&connection_id, &channel)?)
    }

    async fn subscribers(
        &mut self,
        publisher: Resource<Publisher>,
        channel: String,
    ) -> HostResult<u64> {
        Ok(self.table.get(&publisher)?.subscribers(&channel).await?)
    }

    async fn presence(
        &mut self,
        publisher: Resource<Publisher>,
        channel: String,
    ) -> HostResult<Vec<String>> {
        Ok(self.table.get(&publisher)?.presence(&channel).await?)
    }

    async fn history(
        &mut self,
        publisher: Resource<Publisher>,
        channel: String,
        limit: u32,
    ) -> HostResult<Vec<Event>> {
        history(self.table.get(&publisher)?, &channel, limit).await
    }
}

impl publishing_async::Host for State {}

impl<T: Send> publishing_async::HostWithStore<T> for HasSelf<State> {
    async fn start(accessor: &Accessor<T, Self>, publisher: Resource<Publisher>) -> HostResult<()> {
        Ok(behind(accessor, &publisher)?.start().await?)
    }

    async fn register(
        accessor: &Accessor<T, Self>,
        publisher: Resource<Publisher>,
        connection: Resource<ConnectionHandle>,
        channel: String,
    ) -> HostResult<()> {
        let connection = behind(accessor, &connection)?;
        let publisher = behind(accessor, &publisher)?;
        let held = accessor.with(|mut access| access.get().held.clone());
        register(&publisher, &connection, &channel, &held).await
    }

    async fn publish(
        accessor: &Accessor<T, Self>,
        publisher: Resource<Publisher>,
        channel: String,
        published: Message,
    ) -> HostResult<Receipt> {
        let event_data = accessor.with(|mut access| access.get().shared.limits.event_data);
        let publisher = behind(accessor, &publisher)?;
        publish(&publisher, &channel, published, event_data).await
    }

    async fn remove(
        accessor: &Accessor<T, Self>,
        publisher: Resource<Publisher>,
        connection_id: String,
        channel: String,
    ) -> HostResult<()> {
        let publisher = behind(accessor, &publisher)?;
        Ok(publisher.remove(&connection_id, &channel)?)
    }

    async fn subscribers(
        accessor: &Accessor<T, Self>,
        publisher: Resource<Publisher>,
        channel: String,
    ) -> HostResult<u64> {
        Ok(behind(accessor, &publisher)?.subscribers(&channel).await?)
    }

    async fn presence(
        accessor: &Accessor<T, Self>,
        publisher: Resource<Publisher>,
        channel: String,
    ) -> HostResult<Vec<String>> {
        Ok(behind(accessor, &publisher)?.presence(&channel).await?)
    }

    async fn history(
        accessor: &Accessor<T, Self>,
        publisher: Resource<Publisher>,
        channel: String,
        limit: u32,
    ) -> HostResult<Vec<Event>> {
        history(&behind(accessor, &publisher)?, &channel, limit).await
    }
}
