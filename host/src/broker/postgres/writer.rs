//! Publishing: all that waits goes to the server in one call, over a connection of its own.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    super::{Accepted, BrokerError},
    failure::Failure,
    log::Log,
    session::{Opener, Session},
};
use crate::{event::Event, hub::channel::ChannelName, redis_pool::Backoff};

/// Events that are published in one call, for which others wait that publish to the log.
const EVENTS: usize = 500;
/// Bytes of their data.
const BYTES: usize = 4 << 20;

/// What is added to an error where the server may have done it.
const UNKNOWN: &str =
    "it is not known whether the event was accepted; publishing it again under the same id is safe";
/// What is added to an error else.
const REFUSED: &str = "the event was not accepted";

/// Publishes.
pub(super) struct Writer {
    opener: Arc<Opener>,
    log: Arc<Log>,
    publications: mpsc::UnboundedReceiver<Publication>,
    session: Option<Session>,
    backoff: Backoff,
    /// No connection is tried before this, and why the last one failed.
    failed: Option<(Instant, Failure)>,
}

/// Where events are published.
pub(super) struct Publications {
    opener: Arc<Opener>,
    publications: mpsc::UnboundedSender<Publication>,
}

/// An event that is to be published.
struct Publication {
    channel: ChannelName,
    event: Event,
    answer: oneshot::Sender<Result<Accepted, BrokerError>>,
}

// === impl Publications ===

impl Publications {
    pub(super) async fn publish(
        &self,
        channel: ChannelName,
        event: Event,
    ) -> Result<Accepted, BrokerError> {
        let (answer, accepted) = oneshot::channel();
        let publication = Publication {
            channel,
            event,
            answer,
        };
        // The writer ends only with the broker.
        let _ = self.publications.send(publication);
        let limit = self.opener.timeout;
        match timeout(limit, accepted).await {
            Ok(Ok(answer)) => answer,
            _ => Err(Failure::late(&self.opener.url, "publishing", limit).with(UNKNOWN)),
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Opens the connection.
    pub(super) async fn open(
        opener: Arc<Opener>,
        log: Arc<Log>,
    ) -> Result<(Self, Publications), Failure> {
        let (sender, publications) = mpsc::unbounded_channel();
        let mut writer = Self {
            opener: opener.clone(),
            log,
            publications,
            session: None,
            backoff: Backoff::new(),
            failed: None,
        };
        writer.connect().await?;
        let publications = Publications {
            opener,
            publications: sender,
        };
        Ok((writer, publications))
    }

    /// Publishes what comes, for ever.
    pub(super) async fn run(mut self) {
        let mut waiting = Vec::new();
        while self.publications.recv_many(&mut waiting, EVENTS).await > 0 {
            while !waiting.is_empty() {
                let batch = first_of(&mut waiting);
                self.publish(batch).await;
            }
        }
    }

    async fn publish(&mut self, mut batch: Vec<Publication>) {
        // Nobody is told any more what becomes of these, and they were told that it failed.
        batch.retain(|publication| !publication.answer.is_closed());
        if batch.is_empty() {
            return;
        }
        let events: Vec<_> = batch
            .iter()
            .map(|publication| (&publication.channel, &publication.event))
            .collect();
        let published = match self.connect().await {
            Ok(()) => self.write(&events).await,
            Err(failure) => Err(failure.with(REFUSED)),
        };
        match published {
            Ok(accepted) => {
                for (publication, accepted) in batch.into_iter().zip(accepted) {
                    // Whoever waited may have given up.
                    let _ = publication.answer.send(Ok(accepted));
                }
            }
            Err(error) => {
                for publication in batch {
                    let _ = publication.answer.send(Err(error.clone()));
                }
            }
        }
    }

    async fn write(
        &mut self,
        events: &[(&ChannelName, &Event)],
    ) -> Result<Vec<Accepted>, BrokerError> {
        let Some(session) = &self.session else {
            return Err(BrokerError::Unavailable(REFUSED.into()));
        };
        let written = async {
            if let Some(accepted) = self.log.publish(session, events).await? {
                return Ok(accepted);
            }
            // Somebody has removed the log.
            self.log.attach(session).await?;
            let accepted = self.log.publish(session, events).await?;
            accepted.ok_or_else(|| Failure::lost("the log is removed again and again".into()))
        };
        let written: Result<_, Failure> = written.await;
        written.map_err(|failure| {
            if failure.is_lost {
                tracing::warn!(
                    address = self.log.address(),
                    reason = failure.text(),
                    "the connection to PostgreSQL that events are published over is made anew"
                );
                self.session = None;
                failure.with(UNKNOWN)
            } else {
                failure.with(REFUSED)
            }
        })
    }

    /// Sees that there is a connection. Fails at once where one failed just now.
    async fn connect(&mut self) -> Result<(), Failure> {
        if self
            .session
            .as_ref()
            .is_some_and(|session| !session.is_over())
        {
            return Ok(());
        }
        self.session = None;
        if let Some((until, failure)) = &self.failed
            && Instant::now() < *until
        {
            return Err(failure.clone());
        }
        let opened = async {
            let session = self.opener.open().await?;
            self.log.attach(&session).await?;
            Ok(session)
        };
        match opened.await {
            Ok(session) => {
                self.session = Some(session);
                self.failed = None;
                self.backoff = Backoff::new();
                Ok(())
            }
            Err(failure) => {
                let failure: Failure = failure;
                let until = Instant::now() + self.backoff.next();
                self.failed = Some((until, failure.clone()));
                Err(failure)
            }
        }
    }
}

/// Takes the first ones out that are not too large together.
fn first_of(waiting: &mut Vec<Publication>) -> Vec<Publication> {
    let mut bytes = 0;
    let fit = waiting.iter().take_while(|publication| {
        let is_first = bytes == 0;
        bytes += publication.event.data_bytes().max(1);
        is_first || bytes <= BYTES
    });
    let count = fit.count();
    waiting.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Data;

    #[test]
    fn what_is_large_goes_in_parts() {
        let publication = |bytes: usize| Publication {
            channel: ChannelName::new("x").unwrap(),
            event: Event::new(Data::Text("x".repeat(bytes)), usize::MAX).unwrap(),
            answer: oneshot::channel().0,
        };
        let sizes = [1, 0, BYTES - 2, 1, 2 * BYTES, 1];
        let mut waiting: Vec<_> = sizes.into_iter().map(publication).collect();
        let mut parts = Vec::new();
        while !waiting.is_empty() {
            parts.push(first_of(&mut waiting).len());
        }
        assert_eq!(parts, [3, 1, 1, 1]);
    }
}
