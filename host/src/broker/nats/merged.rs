//! Subscriptions as one: what comes over one connection, in the order in which it comes.
//!
//! The client library has a queue for each subscription, and reads the connection in one task, which puts each message
//! into a queue and wakes it before it reads the next one. So whoever has seen a message finds all that came before it
//! in queues that were woken by then, and what was taken out until no queue is awake any more is all there was up to
//! some point of the connection. It only has to be sorted.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    hash::Hash,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{Stream, task::AtomicWaker};
use parking_lot::Mutex;
use tokio::task::unconstrained;

/// Subscriptions, each under a key.
pub(super) struct Merged<K, S> {
    sources: HashMap<K, Source<S>>,
    keys: HashMap<u64, K>,
    last: u64,
    awake: Arc<Awake>,
}

struct Source<S> {
    stream: S,
    bell: Arc<Bell>,
}

/// The subscriptions that there may be something in.
#[derive(Default)]
struct Awake {
    numbers: Mutex<VecDeque<u64>>,
    waker: AtomicWaker,
}

/// Rung where there is something in one of them.
struct Bell {
    number: u64,
    /// It is among those that are awake.
    rung: AtomicBool,
    awake: Arc<Awake>,
}

impl<K: Clone + Eq + Hash, S: Stream + Unpin> Merged<K, S> {
    pub(super) fn new() -> Self {
        Self {
            sources: HashMap::new(),
            keys: HashMap::new(),
            last: 0,
            awake: Arc::default(),
        }
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.sources.contains_key(key)
    }

    /// Adds one. What was there under this key is dropped.
    pub(super) fn insert(&mut self, key: K, stream: S) {
        self.remove(&key);
        self.last += 1;
        let bell = Arc::new(Bell {
            number: self.last,
            rung: AtomicBool::new(false),
            awake: self.awake.clone(),
        });
        self.keys.insert(self.last, key.clone());
        // It has to be asked once before it wakes anybody.
        bell.wake_by_ref();
        self.sources.insert(key, Source { stream, bell });
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(source) = self.sources.remove(key) {
            self.keys.remove(&source.bell.number);
        }
    }

    /// Waits until there may be something.
    pub(super) async fn ready(&self) {
        poll_fn(|cx| {
            self.awake.waker.register(cx.waker());
            match self.awake.numbers.lock().is_empty() {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    /// All there is: everything that came up to some point of the connection. False if one of them has ended.
    pub(super) async fn take(&mut self, mut each: impl FnMut(&K, S::Item)) -> bool {
        // A budget would make full queues look empty.
        unconstrained(poll_fn(|_| Poll::Ready(self.take_now(&mut each)))).await
    }

    fn take_now(&mut self, each: &mut impl FnMut(&K, S::Item)) -> bool {
        loop {
            let number = self.awake.numbers.lock().pop_front();
            let Some(number) = number else { return true };
            let Some(key) = self.keys.get(&number) else {
                continue;
            };
            let Some(source) = self.sources.get_mut(key) else {
                continue;
            };
            // Before it is asked: what comes after that rings again.
            source.bell.rung.swap(false, Ordering::AcqRel);
            let waker = Waker::from(source.bell.clone());
            let mut cx = Context::from_waker(&waker);
            loop {
                match Pin::new(&mut source.stream).poll_next(&mut cx) {
                    Poll::Ready(Some(item)) => each(key, item),
                    Poll::Ready(None) => return false,
                    Poll::Pending => break,
                }
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.awake.numbers.lock().push_back(self.number);
            self.awake.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    struct Queue(mpsc::Receiver<u64>);

    impl Stream for Queue {
        type Item = u64;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
            self.0.poll_recv(cx)
        }
    }

    /// One task puts numbers into queues in turn. Whatever is taken together has no hole before it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_taken_has_no_holes() {
        const QUEUES: u64 = 7;
        const COUNT: u64 = 50_000;
        let mut merged = Merged::new();
        let mut senders = Vec::new();
        for key in 0..QUEUES {
            let (sender, receiver) = mpsc::channel(COUNT as usize);
            senders.push(sender);
            merged.insert(key, Queue(receiver));
        }
        let writer = tokio::spawn(async move {
            for number in 0..COUNT {
                // Not in turn, or whoever asks in turn would never see it.
                let queue = (number * number + number / 3) % QUEUES;
                senders[queue as usize].try_send(number).unwrap();
                if number % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            senders
        });
        let (mut next, mut most) = (0, 0);
        while next < COUNT {
            merged.ready().await;
            let mut taken = Vec::new();
            assert!(merged.take(|_, number| taken.push(number)).await);
            taken.sort_unstable();
            let expected: Vec<_> = (next..next + taken.len() as u64).collect();
            assert_eq!(taken, expected);
            next += taken.len() as u64;
            most = most.max(taken.len());
        }
        assert!(most > 1, "nothing was ever taken together");
        drop(writer.await.unwrap());
        merged.ready().await;
        assert!(!merged.take(|_, _| {}).await);
    }

    #[tokio::test]
    async fn what_was_removed_is_not_heard() {
        let mut merged = Merged::new();
        let (sender, receiver) = mpsc::channel(10);
        merged.insert("a", Queue(receiver));
        sender.try_send(1).unwrap();
        let mut taken = Vec::new();
        assert!(merged.take(|_, number| taken.push(number)).await);
        sender.try_send(2).unwrap();
        merged.remove(&"a");
        assert!(!merged.contains(&"a"));
        assert!(merged.take(|_, number| taken.push(number)).await);
        assert_eq!(taken, [1]);
        assert!(sender.try_send(3).is_err());
    }
}
