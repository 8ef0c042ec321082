//! The broker of one node alone: what is published goes to the hub and nowhere else.

use async_trait::async_trait;

use super::{Broker, BrokerError};
use crate::{
    event::Event,
    hub::{Published, Space, channel::ChannelName},
};

/// Delivers to one space.
#[derive(Debug)]
pub struct Memory {
    space: Space,
}

impl Memory {
    /// A broker that delivers to this space.
    pub fn new(space: Space) -> Self {
        Self { space }
    }
}

#[async_trait]
impl Broker for Memory {
    async fn start(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: Event) -> Result<Published, BrokerError> {
        let published = self.space.publish(channel, &event);
        self.space.room().await;
        Ok(published)
    }
}
