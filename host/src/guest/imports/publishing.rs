//! `publishing`: channels, and what is published on them.

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
        state::{ConnectionHandle, State},
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

fn history(publisher: &Publisher, channel: &str, limit: u32) -> HostResult<Vec<Event>> {
    let events = publisher.history(channel, limit as usize)?;
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
        Ok(self.table.get(&publisher)?.register(connection, &channel)?)
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
        Ok(self.table.get(&publisher)?.subscribers(&channel)?)
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
        history(self.table.get(&publisher)?, &channel, limit)
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
        Ok(behind(accessor, &publisher)?.register(&connection, &channel)?)
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
        Ok(behind(accessor, &publisher)?.subscribers(&channel)?)
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
        history(&behind(accessor, &publisher)?, &channel, limit)
    }
}
