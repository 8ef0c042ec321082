//! Nodes as brokers see them: a hub with clients, and a feed. No HTTP, no guests.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use fanfare::{
    broker::{Broker, BrokerError, Retention, feed::Feed},
    event::{Data, Event, IdForm},
    hub::{
        Hub, Published, Settings, Space,
        channel::ChannelName,
        connection::{Connection, OpenOptions},
        delivery::{self, Engine, body::Body},
    },
};
use fanfare_tests::wait::PATIENCE;
use futures_util::StreamExt;
use tokio::runtime::Handle;

use crate::kit::{Kit, RETENTION};

/// The largest data of an event.
const EVENT_DATA: usize = 1 << 20;

/// A node.
pub struct Node {
    pub hub: Hub,
    pub space: Space,
    pub feed: Feed,
}

/// A client of a node.
pub struct Client {
    pub connection: Arc<Connection>,
    body: Body,
    read: String,
    /// What was read and not yet asked for, each with its id. A block of nothing but an id is no event.
    events: VecDeque<(Option<String>, Option<Heard>)>,
    /// The last id that it heard.
    pub last: Option<String>,
}

/// An event that a client heard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Heard {
    /// Its id and data.
    Event(String, String),
    /// What it missed is not kept any more, on this channel.
    Gap(String),
}

impl Node {
    /// A node that was started.
    pub async fn start(kit: &impl Kit, log: &str) -> Self {
        Self::with(kit, log, RETENTION).await
    }

    /// A node that was started, and keeps so much, as its broker does.
    pub async fn with(kit: &impl Kit, log: &str, retention: Retention) -> Self {
        let node = Self::new(kit, log, retention);
        node.feed.start().await.unwrap();
        node
    }

    /// A node.
    pub fn new(kit: &impl Kit, log: &str, retention: Retention) -> Self {
        Self::over(kit.broker(log, retention), retention)
    }

    /// A node that was started, and has room for so many bytes of all channels only.
    pub async fn with_room(kit: &impl Kit, log: &str, bytes: usize) -> Self {
        let node = Self::over_with_room(kit.broker(log, RETENTION), RETENTION, bytes);
        node.feed.start().await.unwrap();
        node
    }

    /// A node over this broker.
    pub fn over(broker: Box<dyn Broker>, retention: Retention) -> Self {
        Self::over_with_room(broker, retention, 64 << 20)
    }

    fn over_with_room(broker: Box<dyn Broker>, retention: Retention, bytes: usize) -> Self {
        let engine = Engine::new(&delivery::Settings {
            shards: 2,
            connections: 10_000,
            connections_per_address: 10_000,
            queued_bytes: 1 << 30,
            write_timeout: PATIENCE,
        });
        let settings = Settings {
            history_events: retention.events,
            history_bytes: 64 << 20,
            history_total_bytes: bytes,
            history_age: retention.age,
            queue_bytes: 64 << 20,
            connections: 10_000,
            channels_per_connection: 1000,
            event_data: EVENT_DATA,
        };
        let (hub, _ended) = Hub::new(settings, engine.unwrap());
        let space = hub.space();
        let feed = Feed::new(space.clone(), broker, Handle::current());
        Self { hub, space, feed }
    }

    /// A client that heard this last, and hears these channels.
    pub async fn client(&self, last: Option<&str>, channels: &[&str]) -> Client {
        let options = OpenOptions {
            last_event_id: last.map(str::to_owned),
            ..OpenOptions::default()
        };
        let (connection, delivery) = self.hub.open(options).unwrap();
        let begun = std::time::Instant::now();
        for channel in channels {
            // Where the broker does not answer in time, or the node does not hear soon enough what the client has heard, the
            // client is to try again.
            loop {
                match self.feed.register(&connection, &name(channel)).await {
                    Err(BrokerError::Unavailable(_)) if begun.elapsed() < PATIENCE => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    registered => break registered.unwrap().unwrap(),
                }
            }
        }
        connection.release();
        Client {
            connection,
            body: delivery.into_body(Default::default()),
            read: String::new(),
            events: VecDeque::new(),
            last: last.map(str::to_owned),
        }
    }

    pub async fn publish(&self, channel: &str, data: &str) -> Result<Published, BrokerError> {
        self.feed.publish(&name(channel), &event(data)).await
    }

    /// Publishes an event with this id, which is its data too.
    pub async fn publish_own(&self, channel: &str, id: &str) -> Result<Published, BrokerError> {
        let event = event(id).with_id(id.into(), IdForm::Any).unwrap();
        self.feed.publish(&name(channel), &event).await
    }

    /// Waits until these hear a channel.
    pub async fn until_members(&self, channel: &str, members: &[String]) {
        let begun = std::time::Instant::now();
        loop {
            let present = self.feed.presence(&name(channel), 100).await;
            if present.as_deref() == Ok(members) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{present:?} and not {members:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Publishes events with these numbers as their data, and returns their ids.
    pub async fn publish_numbers(
        &self,
        channel: &str,
        numbers: std::ops::Range<usize>,
    ) -> Vec<String> {
        let mut ids = Vec::new();
        for number in numbers {
            ids.push(self.publish(channel, &number.to_string()).await.unwrap().id);
        }
        ids
    }
}

impl Client {
    /// The next thing that it hears.
    pub async fn next(&mut self) -> Heard {
        self.next_within(PATIENCE).await
    }

    /// The same, where it may take so long.
    pub async fn next_within(&mut self, patience: Duration) -> Heard {
        loop {
            if let Some((id, heard)) = self.events.pop_front() {
                self.last = id.or(self.last.take());
                match heard {
                    Some(heard) => return heard,
                    None => continue,
                }
            }
            let next = tokio::time::timeout(patience, self.body.next()).await;
            let bytes = next
                .expect("nothing more is heard")
                .expect("the stream ended");
            self.take(&bytes);
        }
    }

    /// So many events, of which none may be a gap.
    pub async fn data(&mut self, count: usize) -> Vec<String> {
        let mut data = Vec::new();
        while data.len() < count {
            match self.next().await {
                Heard::Event(_, text) => data.push(text),
                gap => panic!("{gap:?} after {data:?}"),
            }
        }
        data
    }

    /// What it hears until an event with this data, which is left out.
    pub async fn until(&mut self, end: &str) -> Vec<Heard> {
        let mut heard = Vec::new();
        loop {
            match self.next().await {
                Heard::Event(_, data) if data == end => return heard,
                other => heard.push(other),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.read.push_str(std::str::from_utf8(bytes).unwrap());
        while let Some((block, rest)) = self.read.split_once("\n\n") {
            let field = |name: &str| {
                let mut lines = block.lines();
                lines
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::to_owned)
            };
            let (id, data) = (field("id: "), field("data: "));
            let heard = match (field("event: ").as_deref(), &id, data) {
                (Some("fanfare-gap"), None, Some(data)) => {
                    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
                    Some(Heard::Gap(data["channel"].as_str().unwrap().to_owned()))
                }
                (None, Some(id), Some(data)) => Some(Heard::Event(id.clone(), data)),
                (None, Some(_), None) => None,
                other => panic!("an odd block: {other:?}"),
            };
            self.events.push_back((id, heard));
            self.read = rest.to_owned();
        }
    }
}

pub fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).unwrap()
}

pub fn event(data: &str) -> Event {
    Event::new(Data::Text(data.into()), EVENT_DATA).unwrap()
}

pub fn numbers(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

/// Runs a test, which is too long for ever after a while.
pub fn run(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let test: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(test);
    runtime.block_on(async {
        tokio::spawn(tokio::time::timeout(9 * PATIENCE, test))
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
            .expect("the test does not end")
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}
