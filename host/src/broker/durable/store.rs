//! The file as this process has it open: its threads, and what waits for them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{
    super::{Accepted, BrokerError, Retention, ids, payload},
    Sync,
    file::{self, FileError, Lock},
    listeners::Listeners,
    log::Log,
    reader::Reader,
    writer::{Publication, Writer},
};
use crate::{event::Event, hub::channel::ChannelName};

/// What may wait for a thread. Who comes later waits outside.
const PLACES: usize = 1024;
/// Threads that read.
const READERS: usize = 2;

/// A file that events are kept in, which brokers of this process share. Of all processes, one at a time has it open.
pub struct Store {
    file: PathBuf,
    retention: Retention,
    sync: Sync,
    timeout: Duration,
    /// Open as long as somebody needs it.
    opened: tokio::sync::Mutex<Weak<Opened>>,
}

/// A file that is open. It is closed a little after this is dropped.
pub(super) struct Opened {
    file: PathBuf,
    timeout: Duration,
    epoch: String,
    listeners: Arc<Listeners>,
    publications: Queue<Publication>,
    questions: Queue<Question>,
}

/// What a reader is asked; it answers by itself.
type Question = Box<dyn FnOnce(&mut Reader) + Send>;

/// What waits for threads.
pub(super) struct Queue<T> {
    places: Arc<Semaphore>,
    sender: mpsc::Sender<(T, OwnedSemaphorePermit)>,
}

/// The end of a queue that a thread has.
pub(super) struct Waiting<T>(mpsc::Receiver<(T, OwnedSemaphorePermit)>);

/// What the thread that writes has made of the file.
struct Made {
    epoch: String,
    listeners: Arc<Listeners>,
    readers: Vec<Connection>,
    lock: Arc<Lock>,
}

// === impl Store ===

impl Store {
    /// Events are kept in this file, which is made where it is missing, and so is its folder. Nothing that is asked of a
    /// broker over it takes longer than the timeout.
    pub fn new(file: PathBuf, retention: Retention, sync: Sync, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            file,
            retention,
            sync,
            timeout,
            opened: Default::default(),
        })
    }

    /// Opens the file, unless it is open.
    pub(super) async fn open(&self) -> Result<Arc<Opened>, BrokerError> {
        let open = async {
            let mut known = self.opened.lock().await;
            if let Some(opened) = known.upgrade() {
                return Ok(opened);
            }
            let opened = Arc::new(self.open_anew().await?);
            *known = Arc::downgrade(&opened);
            Ok(opened)
        };
        let opened = timeout(self.timeout, open).await;
        opened.unwrap_or_else(|_| Err(late(&self.file, self.timeout, "")))
    }

    async fn open_anew(&self) -> Result<Opened, BrokerError> {
        let (publications, waiting) = queue();
        let (questions, asked) = queue::<Question>();
        let (sender, made) = oneshot::channel();
        let (file, retention, sync) = (self.file.clone(), self.retention, self.sync);
        let patience = self.timeout / 2;
        start("durable-write", move || {
            let (log, made) = match make(&file, retention, sync, patience) {
                Ok(made) => made,
                Err(error) => {
                    // Who waited may have given up.
                    let _ = sender.send(Err(error));
                    return;
                }
            };
            let (listeners, _lock) = (made.listeners.clone(), made.lock.clone());
            let _ = sender.send(Ok(made));
            Writer::new(file, log, waiting, listeners).run();
        })?;
        let made = made.await.map_err(|_| ended(&self.file))??;
        let asked = Arc::new(Mutex::new(asked));
        for connection in made.readers {
            let (epoch, listeners) = (made.epoch.clone(), made.listeners.clone());
            let mut reader = Reader::new(connection, retention.age, epoch, listeners);
            let (asked, lock) = (asked.clone(), made.lock.clone());
            start("durable-read", move || {
                let _lock = lock;
                loop {
                    let next = asked.lock().next(Duration::MAX);
                    match next {
                        Ok(Some(question)) => question(&mut reader),
                        Ok(None) => {}
                        Err(_) => return,
                    }
                }
            })?;
        }
        Ok(Opened {
            file: self.file.clone(),
            timeout: self.timeout,
            epoch: made.epoch,
            listeners: made.listeners,
            publications,
            questions,
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("file", &self.file)
            .field("retention", &self.retention)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}

/// Opens the file for the thread that writes, and for those that read.
fn make(
    file: &Path,
    retention: Retention,
    sync: Sync,
    patience: Duration,
) -> Result<(Log, Made), FileError> {
    let lock = Lock::take(file, patience)?;
    let connection = file::open(file, sync, patience, &lock)?;
    let log = Log::attach(connection, file.to_owned(), retention, sync)?;
    let readers = (0..READERS).map(|_| file::open_reader(file, patience));
    let made = Made {
        epoch: log.epoch().to_owned(),
        listeners: Arc::new(Listeners::new(log.last())),
        readers: readers.collect::<Result<_, _>>()?,
        lock: Arc::new(lock),
    };
    Ok((log, made))
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), BrokerError> {
    let started = thread::Builder::new().name(name.into()).spawn(run);
    started.map(drop).map_err(|error| {
        BrokerError::Unavailable(format!(
            "a thread for the events file cannot be started: {error}"
        ))
    })
}

// === impl Opened ===

impl Opened {
    pub(super) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Accepts an event.
    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        event: &Event,
    ) -> Result<Accepted, BrokerError> {
        let (answer, answered) = oneshot::channel();
        let publication = Publication {
            channel: channel.clone(),
            event: event.clone(),
            payload: payload::encode(event),
            answer,
        };
        let answered = async {
            if !self.publications.push(publication).await {
                return Err(ended(&self.file));
            }
            answered.await.unwrap_or_else(|_| Err(ended(&self.file)))
        };
        let answered = timeout(self.timeout, answered).await;
        answered.unwrap_or_else(|_| Err(late(&self.file, self.timeout, UNKNOWN)))
    }

    /// Asks a reader.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Reader) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let question: Question = Box::new(move |reader| {
                let answered = question(reader);
                // Who waited may have given up.
                let _ = answer.send(answered);
            });
            if !self.questions.push(question).await {
                return Err(ended(&self.file));
            }
            let answered = answered.await.map_err(|_| ended(&self.file))?;
            Ok(answered.map_err(|error| FileError::new(&self.file, &error))?)
        };
        let answered = timeout(self.timeout, asked).await;
        answered.unwrap_or_else(|_| Err(late(&self.file, self.timeout, "")))
    }

    /// The position in an id that this log gave.
    pub(super) fn position_of(&self, id: &str) -> Option<u64> {
        let position = ids::position_of(&self.epoch, id);
        // One that is yet to come was never given.
        position.filter(|position| *position <= self.listeners.newest())
    }
}

/// What an error means for an event that was to be accepted.
const UNKNOWN: &str = "; whether the event was accepted is not known, and publishing it again under the same id is safe";

fn late(file: &Path, timeout: Duration, meaning: &str) -> BrokerError {
    BrokerError::Unavailable(format!(
        "the events file {} has not answered within {timeout:?}: its disk is slow, or another program holds it{meaning}",
        file.display()
    ))
}

fn ended(file: &Path) -> BrokerError {
    BrokerError::Unavailable(format!(
        "the events file {} was closed, because its thread has ended; start the node again",
        file.display()
    ))
}

// === impl Queue ===

pub(super) fn queue<T>() -> (Queue<T>, Waiting<T>) {
    let (sender, receiver) = mpsc::channel();
    let places = Arc::new(Semaphore::new(PLACES));
    (Queue { places, sender }, Waiting(receiver))
}

impl<T> Queue<T> {
    /// Waits until there is a place. False if nobody takes anything any more.
    pub(super) async fn push(&self, item: T) -> bool {
        match self.places.clone().acquire_owned().await {
            Ok(place) => self.sender.send((item, place)).is_ok(),
            Err(_) => false,
        }
    }
}

impl<T> Waiting<T> {
    /// Waits for the next one, for so long. An error if none can come any more.
    pub(super) fn next(&self, wait: Duration) -> Result<Option<T>, mpsc::RecvError> {
        match self.0.recv_timeout(wait) {
            Ok((item, _place)) => Ok(Some(item)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(mpsc::RecvError),
        }
    }
}
