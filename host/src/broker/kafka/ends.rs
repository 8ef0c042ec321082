//! How far the log goes, asked for by many and looked up for all of them at a time.

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use rdkafka::consumer::Consumer as _;
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
};

/// Requests that are answered at a time.
const BATCH: usize = 10_000;
/// After something that failed, it is tried again after this time.
const RETRY: Duration = Duration::from_millis(50);

type Answer = Result<u64, BrokerError>;

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
        runtime: &Handle,
    ) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let task = answer(clients.clone(), Arc::downgrade(consumer), topic, receiver);
        Self {
            clients,
            requests,
            _task: AbortOnDropHandle::new(runtime.spawn(task)),
        }
    }

    /// The offset that follows on all records that were accepted before this.
    pub(super) async fn next_offset(&self) -> Answer {
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

async fn answer(
    clients: Arc<Clients>,
    consumer: Weak<Consumer>,
    topic: String,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>,
) {
    let topic = Arc::<str>::from(topic);
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        let (clients, consumer, topic) = (clients.clone(), consumer.clone(), topic.clone());
        // The library waits on the caller's thread. Dropping the last consumer would, too, so it is held there only.
        let asked = tokio::task::spawn_blocking(move || ask(&clients, &consumer, &topic));
        let Ok(answer) = asked.await else { return };
        for request in batch.drain(..) {
            // Whoever asked may have given up.
            let _ = request.send(answer.clone());
        }
    }
}

fn ask(clients: &Clients, consumer: &Weak<Consumer>, topic: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let Some(consumer) = consumer.upgrade() else {
            return Err(clients.unavailable("the log is not read any more"));
        };
        let left = clients.timeout().saturating_sub(begun.elapsed());
        match consumer.fetch_watermarks(topic, PARTITION, left) {
            Ok((_, high)) => return Ok(u64::try_from(high).unwrap_or(0)),
            // A leader that is gone is noticed by asking it.
            Err(_) if left > RETRY => thread::sleep(RETRY),
            Err(error) => return Err(clients.error("it does not say how far the log goes", &error)),
        }
    }
}
