//! Streams that share a socket and whose client takes nothing.
//!
//! Over HTTP/2 a client may go on reading its socket while it takes nothing of one stream: the library waits for
//! room in that stream, no write waits, and nothing of the stream's own is looked at. So each stream notes here when
//! it handed over something; the note is gone when it is asked for more.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The streams of one socket that wait for room.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    /// Told when one waits after none did: a quiet socket costs nothing.
    first: Notify,
    /// When each of them handed something over, in that order.
    waiting: Mutex<BTreeMap<u64, Instant>>,
}

/// The note of one stream. Dropping it takes it away.
#[derive(Debug)]
pub struct Waiting {
    shared: Arc<Shared>,
    number: u64,
}

impl Streams {
    /// Notes that a stream waits for room from now on.
    pub fn wait(&self) -> Waiting {
        let shared = self.shared.clone();
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = shared.waiting.lock();
        if waiting.is_empty() {
            shared.first.notify_one();
        }
        waiting.insert(number, Instant::now());
        drop(waiting);
        Waiting { shared, number }
    }

    /// Returns when one of them has waited for longer than `timeout`. The library cannot end one stream from outside,
    /// so the socket has to go with it; clients of the others come back and catch up.
    pub async fn stuck(&self, timeout: Duration) {
        loop {
            let oldest = self.shared.waiting.lock().values().next().copied();
            match oldest {
                Some(since) if since.elapsed() >= timeout => return,
                Some(since) => sleep_until(since + timeout).await,
                None => self.shared.first.notified().await,
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.waiting.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_stream_that_waits_is_enough_and_many_that_do_not_are_none() {
        let streams = Streams::default();
        let timeout = Duration::from_secs(30);
        for _ in 0..100 {
            let waiting = streams.wait();
            tokio::select! {
                () = sleep(timeout / 2) => drop(waiting),
                () = streams.stuck(timeout) => panic!("all have moved"),
            }
        }
        let begun = Instant::now();
        let _waiting = streams.wait();
        streams.stuck(timeout).await;
        assert_eq!(begun.elapsed().as_secs(), 30);
    }
}
