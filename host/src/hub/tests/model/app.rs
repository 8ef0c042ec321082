//! An app as it is, beside that of the model, and what each step does to both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::sample::Index;
use tokio::sync::Semaphore;

use super::{
    super::{channel, settings, text},
    BIG, CHANNELS_PER_CONNECTION, INACTIVITY, Id, KEPT, Last, QUEUE_BYTES, SPACES, Step,
    client::Wire,
    reference::{Publication, Reference, name, space},
};
use crate::{
    event::IdForm,
    hub::{
        CloseReason, EndedReceiver, Engine, Hub, HubError, Settings, Space,
        connection::{Connection, OpenOptions, Timing},
    },
};
/// An app and its clients.
pub struct App {
    pub hub: Hub,
    pub spaces: Vec<Space>,
    pub ended: EndedReceiver,
    pub drained: bool,
    pub clients: Vec<Client>,
    pub reference: Reference,
    /// Ids of events, in the order of publishing.
    pub ids: Vec<String>,
    /// Numbers that events have as their data.
    pub events: usize,
}

/// A client as it is.
pub struct Client {
    pub connection: Arc<Connection>,
    pub wire: Wire,
    pub quiet: bool,
    /// It has left.
    pub left: bool,
    /// It took nothing for so long that it may have been given up.
    pub stuck: bool,
    /// More may have waited for it than may.
    pub slow: bool,
    /// Its end was told, with the channels that it heard until then.
    pub told: bool,
    pub expected_names: Option<Vec<String>>,
    /// When it last took something, or something was published for it.
    pub last_read: Instant,
    pub last_event: Instant,
}

impl App {
    pub fn new(engine: Engine) -> Self {
        let (hub, ended) = Hub::new(
            Settings {
                history_events: KEPT,
                history_bytes: BIG / 2,
                queue_bytes: QUEUE_BYTES,
                channels_per_connection: CHANNELS_PER_CONNECTION,
                ..settings()
            },
            engine,
        );
        Self {
            spaces: (0..SPACES).map(|_| hub.space()).collect(),
            hub,
            ended,
            drained: false,
            clients: Vec::new(),
            reference: Reference::default(),
            ids: Vec::new(),
            events: 0,
        }
    }

    pub fn take(&mut self, step: Step, seats: &Arc<Semaphore>, now: Instant) {
        let clients = self.clients.len();
        let which = |client: Index| (clients > 0).then(|| client.index(clients));
        match step {
            Step::Open { last, quiet, way } => {
                self.open_one(&last, quiet, now);
                if let (Some(way), Some(client)) = (way, self.clients.last_mut()) {
                    client.wire.attach(way, seats);
                }
            }
            Step::Publish { channel, id, big } => self.publish(channel, &id, big, now),
            Step::Expire => {
                self.hub
                    .expire(Instant::now() + self.hub.settings().history_age);
                self.reference.expire();
            }
            Step::Drain => {
                for number in 0..clients {
                    self.expect_end(number);
                }
                self.hub.drain(Duration::from_secs(1));
                self.reference.drain();
                self.drained = true;
            }
            Step::Attach(client, way) => {
                if let Some(client) = which(client) {
                    self.clients[client].wire.attach(way, seats);
                    self.clients[client].last_read = now;
                }
            }
            Step::Release(client) => {
                if let Some(client) = which(client) {
                    self.clients[client].connection.release();
                    self.reference.release(client);
                }
            }
            Step::Register(client, number) => {
                if let Some(client) = which(client) {
                    self.register(client, number, now);
                }
            }
            Step::Remove(client, number) => {
                if let Some(client) = which(client) {
                    self.remove(client, number);
                }
            }
            Step::Send(client) => {
                if let Some(client) = which(client) {
                    let data = self.data(false);
                    let sent = self
                        .hub
                        .send(&self.clients[client].connection, &text(&data));
                    assert_eq!(sent.is_ok(), self.reference.send(client, data));
                    self.clients[client].last_event = now;
                }
            }
            Step::Close(client) => {
                if let Some(client) = which(client) {
                    self.expect_end(client);
                    self.hub
                        .close(&self.clients[client].connection, CloseReason::Closed);
                    self.reference.end(client, CloseReason::Closed);
                }
            }
            Step::Leave(client) => {
                if let Some(client) = which(client) {
                    self.clients[client].left = true;
                    self.clients[client].wire.leave();
                }
            }
            Step::Read(client) => {
                if let Some(client) = which(client) {
                    self.clients[client].wire.read();
                    self.clients[client].last_read = now;
                }
            }
            Step::Wait(_) | Step::Watch(_) | Step::Work(_) => {}
        }
    }

    fn open_one(&mut self, last: &Last, quiet: bool, now: Instant) {
        let last = match last {
            Last::Nowhere => None,
            Last::Of(client) if !self.clients.is_empty() => {
                client.get(&self.clients).wire.last_id.clone()
            }
            Last::Event(event) if !self.ids.is_empty() => Some(event.get(&self.ids).clone()),
            _ => Some("0123456789-7".to_owned()),
        };
        let options = OpenOptions {
            last_event_id: last.clone(),
            timing: Timing {
                ping: Some(Duration::from_secs(2)),
                inactivity: quiet.then_some(INACTIVITY),
                lifetime: None,
            },
            client: Some([127, 0, 0, 1].into()),
        };
        match self.hub.open(options) {
            Err(error) => assert_eq!((error, self.drained), (HubError::Draining, true)),
            Ok((connection, delivery)) => {
                assert!(!self.drained);
                self.reference.open(last);
                self.clients.push(Client {
                    connection,
                    wire: Wire::new(delivery),
                    quiet,
                    left: false,
                    stuck: false,
                    slow: false,
                    told: false,
                    expected_names: None,
                    last_read: now,
                    last_event: now,
                });
            }
        }
    }

    fn register(&mut self, client: usize, number: usize, now: Instant) {
        let space = &self.spaces[space(number)];
        let registered = space.register(&self.clients[client].connection, &channel(&name(number)));
        let heard = self.reference.clients[client].items.len();
        assert_eq!(registered.is_ok(), self.reference.register(client, number));
        let mut new = self.reference.clients[client].items[heard..].iter();
        if new.any(|item| item.1.is_sure()) {
            self.clients[client].last_event = now;
        }
    }

    fn remove(&mut self, client: usize, number: usize) {
        self.expect_end(client);
        let id = self.clients[client].connection.id().to_string();
        let removed = self.spaces[space(number)].remove(&id, &channel(&name(number)));
        assert_eq!(removed.is_ok(), self.reference.remove(client, number));
    }

    fn publish(&mut self, number: usize, id: &Id, big: bool, now: Instant) {
        let own = match id {
            Id::Own(number) => Some(format!("own-{number}")),
            Id::Again(event) if !self.ids.is_empty() => Some(event.get(&self.ids).clone()),
            _ => None,
        };
        let data = self.data(big);
        let mut event = text(&data);
        if let Some(id) = own.clone() {
            event = event.with_id(id, IdForm::Plain).unwrap();
        }
        let receipt = self.spaces[space(number)].publish(&channel(&name(number)), &event);
        if let Some(id) = &own {
            assert_eq!(*id, receipt.id);
            let duplicate = self.reference.is_duplicate(number, id);
            assert_eq!(receipt.duplicate, duplicate, "{id}");
            if duplicate {
                self.reference.duplicates += 1;
                assert_eq!(receipt.delivered, 0);
                return;
            }
        }
        assert!(!receipt.duplicate);
        assert!(own.is_some() || !self.ids.contains(&receipt.id));
        self.ids.push(receipt.id.clone());
        let delivered = self.reference.publish(Publication {
            channel: number,
            data,
            id: receipt.id,
            own_id: own.is_some(),
        });
        assert_eq!(receipt.delivered, delivered);
        for client in self.reference.subscribers(number) {
            self.clients[client].last_event = now;
        }
    }

    /// The next event's data.
    fn data(&mut self, big: bool) -> String {
        self.events += 1;
        let width = if big { BIG } else { 0 };
        format!("{:<width$}", self.events)
    }
}
