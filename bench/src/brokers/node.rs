//! A node: a hub with a client, and a feed over the broker. No HTTP, no guest.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use fanfare::{
    broker::{Retention, feed::Feed},
    event::{Data, Event},
    hub::{
        Hub, Settings,
        channel::ChannelName,
        connection::{Connection, OpenOptions},
        delivery::{self, Engine, body::Body},
    },
};
use futures_util::StreamExt;
use tokio::runtime::Handle;

use super::{SIZE, Server};

const PLENTY: usize = 1 << 30;

pub struct Node {
    pub hub: Hub,
    pub feed: Feed,
}

/// A client of a node.
pub struct Client {
    _connection: Arc<Connection>,
    body: Body,
}

impl Node {
    pub async fn start(server: &dyn Server, log: &str, retention: Retention) -> Result<Self> {
        let engine = Engine::new(&delivery::Settings {
            shards: 1,
            connections: PLENTY,
            connections_per_address: PLENTY,
            queued_bytes: PLENTY,
            write_timeout: Duration::from_secs(30),
        })?;
        let settings = Settings {
            history_events: retention.events,
            history_bytes: PLENTY,
            history_total_bytes: PLENTY,
            history_age: retention.age,
            queue_bytes: PLENTY,
            connections: PLENTY,
            channels_per_connection: PLENTY,
            event_data: 1 << 20,
        };
        let (hub, _ended) = Hub::new(settings, engine);
        let broker = server.broker(log, retention)?;
        let feed = Feed::new(hub.space(), broker, Handle::current());
        feed.start().await?;
        Ok(Self { hub, feed })
    }

    /// A client that hears a channel.
    pub async fn client(&self, channel: &ChannelName) -> Result<Client> {
        let (connection, delivery) = self.hub.open(OpenOptions::default())?;
        self.feed.register(&connection, channel).await??;
        Ok(Client {
            _connection: connection,
            body: delivery.into_body(Default::default()),
        })
    }
}

impl Client {
    /// Waits for bytes.
    pub async fn heard(&mut self) -> Result<()> {
        self.body.next().await.context("the stream has ended")?;
        Ok(())
    }
}

/// An event of the benchmark.
pub fn event() -> Result<Event> {
    Ok(Event::new(Data::Text("x".repeat(SIZE)), SIZE)?)
}
