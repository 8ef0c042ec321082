//! The thread that accepts events.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rusqlite::ErrorCode;
use tokio::sync::oneshot;

use super::{
    super::{Accepted, BrokerError, ids},
    file::FileError,
    listeners::Listeners,
    log::{Chores, Kept, Log},
    store::Waiting,
};
use crate::{
    event::{Event, IdForm},
    hub::{carried::Placed, channel::ChannelName},
};

/// What one transaction takes at most: so many events, and not many more bytes.
const BATCH: usize = 256;
const BYTES: usize = 4 << 20;
/// How long nothing must have been published before something else is done, and how long it waits at most.
const IDLE: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(600);

/// An event that is to be accepted.
pub(super) struct Publication {
    pub(super) channel: ChannelName,
    pub(super) event: Event,
    /// The event as it is kept.
    pub(super) payload: Vec<u8>,
    pub(super) answer: oneshot::Sender<Result<Accepted, BrokerError>>,
}

/// What the thread has.
pub(super) struct Writer {
    file: PathBuf,
    log: Log,
    waiting: Waiting<Publication>,
    listeners: Arc<Listeners>,
    /// The last transaction failed.
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        file: PathBuf,
        log: Log,
        waiting: Waiting<Publication>,
        listeners: Arc<Listeners>,
    ) -> Self {
        Self {
            file,
            log,
            waiting,
            listeners,
            failing: false,
        }
    }

    /// Accepts what comes until nothing can come any more, and closes the file.
    pub(super) fn run(mut self) {
        let mut rest = IDLE;
        while let Ok(first) = self.waiting.next(rest) {
            rest = match first {
                Some(first) => {
                    let batch = self.batch(first);
                    self.publish(batch);
                    IDLE
                }
                None => match self.log.chores() {
                    Ok(Chores::More) => Duration::ZERO,
                    Ok(Chores::After(time)) => time.clamp(IDLE, REST),
                    Err(error) => {
                        self.failed(&FileError::new(&self.file, &error));
                        IDLE
                    }
                },
            };
        }
        self.log.close();
    }

    /// What waits, as much as one transaction takes.
    fn batch(&mut self, first: Publication) -> Vec<Publication> {
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while batch.len() < BATCH && bytes < BYTES {
            let Ok(Some(next)) = self.waiting.next(Duration::ZERO) else {
                break;
            };
            bytes += next.payload.len();
            batch.push(next);
        }
        batch
    }

    fn publish(&mut self, mut batch: Vec<Publication>) {
        // Who has given up was told that it was not accepted, as far as could be known.
        batch.retain(|publication| !publication.answer.is_closed());
        if batch.is_empty() {
            return;
        }
        match self.log.append(&batch) {
            Ok(kept) => self.accepted(batch, kept),
            // There may be room for some of them.
            Err(error)
                if batch.len() > 1 && error.sqlite_error_code() == Some(ErrorCode::DiskFull) =>
            {
                for publication in batch {
                    self.publish(vec![publication]);
                }
            }
            Err(error) => {
                let unknown = error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
                let error = FileError::new(&self.file, &error);
                self.failed(&error);
                let text = match unknown {
                    true => format!(
                        "{error}; should the node end now, the event may be there when it is started again, so publish \
                         it again under the same id only"
                    ),
                    false => error.to_string(),
                };
                for publication in batch {
                    let error = BrokerError::Unavailable(text.clone());
                    // Who waited may have given up.
                    let _ = publication.answer.send(Err(error));
                }
            }
        }
    }

    fn accepted(&mut self, batch: Vec<Publication>, kept: Vec<Kept>) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(file = %self.file.display(), "the events file can be written again");
        }
        let (mut events, mut answers) = (Vec::new(), Vec::new());
        for (publication, kept) in batch.into_iter().zip(kept) {
            let Publication { channel, event, .. } = publication;
            let position = kept.position;
            let (own_id, id) = match event.id() {
                Some(id) => (true, id.to_owned()),
                None => (false, ids::id_of(self.log.epoch(), position)),
            };
            answers.push((
                publication.answer,
                Accepted {
                    id: id.clone(),
                    position,
                    duplicate: kept.duplicate,
                },
            ));
            if kept.duplicate {
                continue;
            }
            let event = match own_id {
                true => Ok(event),
                false => event.with_id(id, IdForm::Plain),
            };
            // The epoch is of letters and digits.
            if let Ok(event) = event {
                let placed = Placed {
                    position,
                    event,
                    own_id,
                    age: Duration::ZERO,
                };
                events.push((channel, placed));
            }
        }
        self.listeners.push(&events, self.log.last());
        for (answer, accepted) in answers {
            // Who waited may have given up.
            let _ = answer.send(Ok(accepted));
        }
    }

    /// Logs the first of many errors.
    fn failed(&mut self, error: &FileError) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "the events file cannot be written");
        }
    }
}

#[cfg(test)]
mod tests;
