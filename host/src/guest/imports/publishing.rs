//! `publishing`: channels, and what is published on them.

use wasmtime::component::Resource;

use super::events::{for_guest, message};
use crate::{
    broker::publisher::Publisher,
    guest::{
        bindings::fanfare::sse::{
            events::{Event, Message},
            publishers::Receipt,
            publishing::Host,
        },
        error::HostResult,
        state::{ConnectionHandle, State},
    },
};

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
        let publisher = self.table.get(&publisher)?;
        let event = message(published, self.shared.limits.event_data as usize)?;
        let published = publisher.publish(&channel, event).await?;
        Ok(Receipt {
            id: published.id,
            delivered: published.delivered,
            duplicate: published.duplicate,
        })
    }

    async fn remove(
        &mut self,
        publisher: Resource<Publisher>,
        connection_id: String,
        channel: String,
    ) -> HostResult<()> {
        Ok(self
            .table
            .get(&publisher)?
            .remove(&connection_id, &channel)?)
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
        let events = self
            .table
            .get(&publisher)?
            .history(&channel, limit as usize)?;
        Ok(events.iter().map(for_guest).collect())
    }
}
