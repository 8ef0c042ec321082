//! A broker of one node, whose events outlive it: they are kept in a file.
//!
//! # Layout
//!
//! - [`Durable`]: the broker.
//! - [`store`]: the file as this process has it open: its threads, and what waits for them.
//! - [`file`](mod@file): opening it: whose it is, its form, what is wrong with it.
//! - [`log`]: what is in it, and the transactions that change it.
//! - [`reader`]: reading it.
//! - [`writer`]: the thread that accepts events.
//! - [`listeners`]: who in this process listens to which channels.
//!
//! # What is where
//!
//! The file is a database of SQLite in WAL mode; beside it are `-wal` and `-shm`, which belong to it, and `.lock`, which the
//! process that has it open holds. One thread accepts events: it takes what waits, many at a time, keeps it in one
//! transaction, hands it to those who listen, and answers. Other threads read, on connections of their own, and neither
//! waits for the other.
//!
//! A position is the time in microseconds at which the event was accepted, but always greater than the one before, on
//! whatever channel and before whatever restart. So what is too old is known by its position.
//!
//! # What survives
//!
//! [`Sync`] says what an accepted event survives. With [`Sync::Process`] it is with the operating system, and on the disk
//! once nothing was published for a second. Where the machine loses its power before that, the newest events may be lost:
//! then every client that comes back is told a gap.

mod file;
mod listeners;
mod log;
mod reader;
mod store;
#[cfg(test)]
mod testing;
mod writer;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use self::store::Store;
use self::{reader::Reader, store::Opened};
use super::{Accepted, Broker, BrokerError, Page, feed::Sink, started::Started};
use crate::{event::Event, hub::channel::ChannelName};

/// What an event survives once it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The end of the process, however it comes: the event is with the operating system.
    Process,
    /// A loss of power too: the event is on the disk, as far as the disk tells the truth.
    Power,
}

/// Carries a publisher's events on one node, and keeps them in a file.
pub struct Durable {
    store: Arc<Store>,
    running: Started<Running>,
}

/// What there is once it was started.
struct Running {
    opened: Arc<Opened>,
    /// Its number among those who listen.
    listener: u64,
    /// The largest data of an event, in bytes.
    event_data: usize,
}

// === impl Durable ===

impl Durable {
    /// A broker over this store. Those of one store hear each other, but each knows only its own connections. The file is
    /// opened when the first of them is started, and closed when the last one is dropped.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            running: Started::not_yet(),
        }
    }
}

#[async_trait]
impl Broker for Durable {
    async fn start(&self, sink: Sink) -> Result<(), BrokerError> {
        let opened = self.store.open().await?;
        let event_data = sink.event_data();
        let listener = opened.listeners().add(sink);
        self.running.set(Running {
            opened,
            listener,
            event_data,
        });
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError> {
        self.running.get()?.opened.publish(channel, event).await
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        let running = self.running.get()?;
        let listeners = running.opened.listeners();
        Ok(listeners.subscribe(running.listener, channel))
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        if let Ok(running) = self.running.get() {
            let listeners = running.opened.listeners();
            listeners.unsubscribe(running.listener, channel);
        }
    }

    async fn sync(&self) -> Result<u64, BrokerError> {
        let running = self.running.get()?;
        Ok(running.opened.listeners().sync(running.listener))
    }

    async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        let running = self.running.get()?;
        let (channel, event_data) = (channel.clone(), running.event_data);
        let read = move |reader: &mut Reader| reader.read(&channel, after, limit, event_data);
        running.opened.ask(read).await
    }

    async fn place(&self, channel: &ChannelName, id: &str) -> Result<Option<u64>, BrokerError> {
        let running = self.running.get()?;
        if let Some(position) = running.opened.position_of(id) {
            return Ok(Some(position));
        }
        let (channel, id) = (channel.clone(), id.to_owned());
        let place = move |reader: &mut Reader| reader.place(&channel, &id);
        running.opened.ask(place).await
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.opened.listeners().remove(self.listener);
    }
}
