//! How far the log goes, asked for by many and looked up for all of them at a time.

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{Offset, consumer::Consumer as _};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::BrokerError,
    client::{Clients, Consumer},
    sender::PARTITION,
    shared::Shared,
    topic,
};

/// Requests that are answered at a time.
const BATCH: usize = 10_000;
/// After something that failed, it is tried again after this time.
const RETRY: Duration = Duration::from_millis(50);

/// The offsets that follow on all records of each partition.
type Answer = Result<Vec<u64>, BrokerError>;

/// Knows how far the log goes. Dropping it ends that.
pub(super) struct Ends {
    clients: Arc<Clients>,
    requests: mpsc::UnboundedSender<oneshot::Sender<Answer>>,
    _task: AbortOnDropHandle<()>,
}

impl Ends {
    pub(super) fn new(
        clients: Arc<Clients>,
        consumer: &Arc<Consumer>,
        topic: String,
        shared: Arc<Shared>,
        runtime: &Handle,
    ) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let asked = Asked {
            clients: clients.clone(),
            consumer: Arc::downgrade(consumer),
            topic,
            shared,
        };
        let task = answer(Arc::new(asked), receiver);
        Self {
            clients,
            requests,
            _task: AbortOnDropHandle::new(runtime.spawn(task)),
        }
    }

    /// The offsets that follow on all records of each partition that were accepted before this.
    pub(super) async fn next_offsets(&self) -> Answer {
        let (sender, answer) = oneshot::channel();
        // The task ends only with this.
        let _ = self.requests.send(sender);
        match timeout(self.clients.timeout(), answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(self
                .clients
                .unavailable("it did not say in time how far the log goes")),
        }
    }
}

async fn answer(asked: Arc<Asked>, mut requests: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>) {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        let asked = asked.clone();
        // The library waits on the caller's thread. Dropping the last consumer would, too, so it is held there only.
        let Ok(answer) = tokio::task::spawn_blocking(move || asked.ask()).await else {
            return;
        };
        for request in batch.drain(..) {
            // Whoever asked may have given up.
            let _ = request.send(answer.clone());
        }
    }
}

/// Who is asked, and about what.
struct Asked {
    clients: Arc<Clients>,
    consumer: Weak<Consumer>,
    topic: String,
    shared: Arc<Shared>,
}

impl Asked {
    fn ask(&self) -> Answer {
        let begun = Instant::now();
        loop {
            let Some(consumer) = self.consumer.upgrade() else {
                return Err(self.clients.unavailable("the log is not read any more"));
            };
            let left = self.clients.timeout().saturating_sub(begun.elapsed());
            let ends = match self.shared.partitions() {
                1 => {
                    let ends = consumer.fetch_watermarks(&self.topic, PARTITION, left);
                    ends.map(|(_, high)| vec![u64::try_from(high).unwrap_or(0)])
                }
                partitions => topic::edges(&consumer, &self.topic, partitions, Offset::End, left),
            };
            match ends {
                Ok(ends) => return Ok(ends),
                // A leader that is gone is noticed by asking it.
                Err(_) if left > RETRY => thread::sleep(RETRY),
                Err(error) => {
                    let what = "it does not say how far the log goes";
                    return Err(self.clients.error(what, &error));
                }
            }
        }
    }
}
