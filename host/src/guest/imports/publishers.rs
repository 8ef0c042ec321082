//! `publishers`: handles to what events are published through.

use wasmtime::component::Resource;

use crate::{
    broker::publisher::Publisher,
    guest::{
        bindings::fanfare::sse::publishers::{Host, HostPublisher},
        error::HostResult,
        state::State,
    },
    redis_pool::RedisClient,
};

impl Host for State {}

impl HostPublisher for State {
    fn in_memory(&mut self) -> wasmtime::Result<Resource<Publisher>> {
        Ok(self.table.push(self.shared.in_memory_publisher())?)
    }

    fn redis(
        &mut self,
        client: Resource<RedisClient>,
        sync_channel: String,
    ) -> HostResult<Resource<Publisher>> {
        let publisher = self
            .shared
            .redis_publisher(self.table.get(&client)?, &sync_channel)?;
        Ok(self.table.push(publisher)?)
    }

    fn open(&mut self, label: String) -> HostResult<Resource<Publisher>> {
        let publisher = self.shared.labelled_publisher(&label)?;
        Ok(self.table.push(publisher)?)
    }

    fn drop(&mut self, publisher: Resource<Publisher>) -> wasmtime::Result<()> {
        // The publisher itself belongs to the app and stays.
        self.table.delete(publisher)?;
        Ok(())
    }
}
