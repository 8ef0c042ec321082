//! PostgreSQL, as a broker of many nodes.
//!
//! # Layout
//!
//! - [`Postgres`]: the broker.
//! - [`url`]: where a database is and how to log in.
//! - [`session`]: a connection: TLS, settings, setting up the database, prepared statements, notifications.
//! - [`log`]: what is kept on the server, and the statements that change and read it.
//! - [`columns`]: an event as it is kept.
//! - [`writer`]: publishing, many events in one call.
//! - [`presence`]: who hears channels at which node.
//! - [`reader`]: reading on from a cursor, and waking for it.
//! - [`failure`]: what went wrong at the server, and what it means.
//! - `sql/`: the tables and functions (`setup.sql`), and a file for each statement.
//!
//! # What is where
//!
//! A publisher is a log of events, which are rows of the table `fanfare.events`. Each node has a cursor, a position in the
//! log, and reads the rows after it. Nothing is locked while it does, and no row is marked as delivered. `NOTIFY` only
//! wakes: a node that hears none finds what there is within a second.
//!
//! # Positions
//!
//! Transactions do not commit in the order in which a sequence gave them numbers, so a reader that goes by these would
//! skip what commits late. Here positions are given under a lock of the log that lasts until they are committed: whoever
//! sees one sees all before it. This takes one function call for all that waits on a node.
//!
//! Rows that others insert, in transactions that may last as long as they like, go to the table `fanfare.outbox`, for
//! which nothing is locked. Once they are committed, the first node to look moves them to the events, in a short
//! transaction of its own: that is when they get their places, those of one transaction together and in the order in which
//! they were inserted. What could be no event is refused by the table, so that whoever inserts it is told. What only the
//! node can tell, such as data over its limit, is skipped with a line in the log.
//!
//! # What is deleted
//!
//! Publishing deletes what is over `events` of the channel, an eighth of that at a time. Every second what has grown too
//! old is deleted, oldest first, at most so many rows in a transaction. A position in front of which something was
//! deleted is told by the row after it, or by the log where no row of the channel is left.

mod columns;
mod failure;
mod log;
mod presence;
mod reader;
mod session;
pub mod url;
mod writer;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

pub use self::session::SETUP;
pub use self::url::PostgresUrl;
use self::{
    failure::Failure,
    log::Log,
    presence::Node,
    reader::{Reader, Requests},
    session::{Opener, Session},
    writer::{Publications, Writer},
};
use super::{
    Accepted, Broker, BrokerError, Page, Presence, Retention, feed::Sink, started::Started,
};
use crate::{event::Event, hub::channel::ChannelName, trust::Trust};

/// Pages that are read at a time, so that what is pushed over the same connection need not wait for many.
const READERS: usize = 4;

/// Where a database is, and how to reach it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub url: PostgresUrl,
    /// Whom to trust where the server speaks TLS.
    pub trust: Arc<Trust>,
    /// How long connecting, and whatever the broker is asked for, may take.
    pub timeout: Duration,
}

/// Carries a publisher's events over a PostgreSQL database.
pub struct Postgres {
    opener: Arc<Opener>,
    /// The name of the log.
    name: String,
    retention: Retention,
    /// What this node is called among those that hear channels.
    node: Mutex<Node>,
    running: Started<Running>,
}

/// What there is once it was started.
struct Running {
    log: Arc<Log>,
    publications: Publications,
    requests: Requests,
    sessions: watch::Receiver<Option<Arc<Session>>>,
    readers: Semaphore,
    _tasks: [AbortOnDropHandle<()>; 2],
}

// === impl Postgres ===

impl Postgres {
    /// A broker over the log of this name in this database. It connects when it is started. Connections live on this
    /// runtime.
    pub fn new(settings: Settings, log: String, retention: Retention, runtime: Handle) -> Self {
        let Settings {
            url,
            trust,
            timeout,
        } = settings;
        Self {
            opener: Arc::new(Opener {
                url,
                trust,
                timeout,
                runtime,
            }),
            name: log,
            retention,
            node: Mutex::new(Node::new()),
            running: Started::not_yet(),
        }
    }

    /// Does something where connections live, within the timeout: callers come from threads that guests keep busy, and
    /// an answer that is not taken holds up all others.
    async fn away<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let limit = self.opener.timeout;
        let work = self.opener.runtime.spawn(timeout(limit, work));
        match AbortOnDropHandle::new(work).await {
            Ok(Ok(done)) => Ok(done?),
            Ok(Err(_)) => Err(Failure::late(&self.opener.url, what, limit).into()),
            Err(_) => Err(BrokerError::Unavailable("the node is shutting down".into())),
        }
    }
}

#[async_trait]
impl Broker for Postgres {
    async fn start(&self, sink: Sink) -> Result<(), BrokerError> {
        let opener = self.opener.clone();
        let log = Arc::new(Log::new(
            self.name.clone(),
            opener.url.address(),
            self.retention,
            sink.event_data(),
        ));
        let started = self.away("connecting", async move {
            let (writer, publications) = Writer::open(opener.clone(), log.clone()).await?;
            let (reader, requests, sessions) =
                Reader::open(opener.clone(), log.clone(), sink).await?;
            let tasks = [
                opener.runtime.spawn(writer.run()),
                opener.runtime.spawn(reader.run()),
            ];
            Ok(Running {
                log,
                publications,
                requests,
                sessions,
                readers: Semaphore::new(READERS),
                _tasks: tasks.map(AbortOnDropHandle::new),
            })
        });
        self.running.set(started.await?);
        Ok(())
    }

    async fn publish(&self, channel: &ChannelName, event: &Event) -> Result<Accepted, BrokerError> {
        let running = self.running.get()?;
        let publications = &running.publications;
        publications.publish(channel.clone(), event.clone()).await
    }

    async fn subscribe(&self, channel: &ChannelName) -> Result<u64, BrokerError> {
        self.running.get()?.requests.subscribe(channel).await
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        if let Ok(running) = self.running.get() {
            running.requests.unsubscribe(channel);
        }
    }

    async fn sync(&self) -> Result<u64, BrokerError> {
        self.running.get()?.requests.sync().await
    }

    async fn read(
        &self,
        channel: &ChannelName,
        after: u64,
        limit: usize,
    ) -> Result<Page, BrokerError> {
        let (running, channel) = (self.running.get()?, channel.clone());
        self.away("reading", async move {
            let _reader = running.readers.acquire().await;
            let session = running.session().await?;
            running.log.read(&session, &channel, after, limit).await
        })
        .await
    }

    fn presence(&self) -> Option<&dyn Presence> {
        Some(self)
    }

    async fn place(&self, channel: &ChannelName, id: &str) -> Result<Option<u64>, BrokerError> {
        let running = self.running.get()?;
        if let Some(position) = running.log.position_of(id) {
            return Ok(Some(position));
        }
        // PostgreSQL refuses such a text, and so no event has it.
        if id.contains('\0') {
            return Ok(None);
        }
        let (channel, id) = (channel.clone(), id.to_owned());
        self.away("looking up an id", async move {
            let session = running.session().await?;
            running.log.place(&session, &channel, &id).await
        })
        .await
    }
}

impl Running {
    /// The connection to read over, as soon as there is one.
    async fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut sessions = self.sessions.clone();
        let session = sessions.wait_for(Option::is_some).await;
        let session = session.ok().and_then(|session| session.clone());
        session.ok_or_else(|| {
            Failure::lost(format!(
                "there is no connection to PostgreSQL at {} any more",
                self.log.address()
            ))
        })
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("url", &self.opener.url)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
