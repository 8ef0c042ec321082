//! Calls on their way into an instance.

use std::{
    collections::VecDeque,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::guest::call::{Call, Outcome};

/// A call on its way into an instance. Whoever waits for it hears an error where it is dropped.
pub(super) struct Job {
    pub(super) call: Call,
    pub(super) wall_time: Option<Duration>,
    pub(super) done: oneshot::Sender<Outcome>,
    /// Held until the call has ended.
    pub(super) counted: Counted,
}

/// A call that an instance counts.
pub(super) struct Counted(Arc<AtomicUsize>);

/// The way into an instance. No job is lost there: once it is closed, it takes none and has none.
pub(super) struct Jobs(Arc<Mutex<State>>);

/// Takes the jobs. The way is closed when it is dropped.
pub(super) struct Taker(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    closed: bool,
    /// Wakes the instance.
    waker: Option<Waker>,
}

/// A way into an instance.
pub(super) fn jobs() -> (Jobs, Taker) {
    let state = Arc::<Mutex<State>>::default();
    (Jobs(state.clone()), Taker(state))
}

impl Jobs {
    /// Adds one, or gives it back where the instance takes none any more.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let waker = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(job);
            }
            state.waiting.push_back(job);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether the instance takes none any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

impl Taker {
    /// The next one.
    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Job> {
        let mut state = self.0.lock();
        if let Some(job) = state.waiting.pop_front() {
            return Poll::Ready(job);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Closes the way, unless a job waits. Whether it is closed.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut state = self.0.lock();
        state.closed |= state.waiting.is_empty();
        state.closed
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let lost = std::mem::take(&mut state.waiting);
        // Those who wait for them are woken without the lock.
        drop(state);
        drop(lost);
    }
}

impl Counted {
    /// Counts one more.
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;

    use super::*;

    fn job(count: &Arc<AtomicUsize>) -> (Job, oneshot::Receiver<Outcome>) {
        let (done, outcome) = oneshot::channel();
        let job = Job {
            call: Call::Start,
            wall_time: None,
            done,
            counted: Counted::new(count),
        };
        (job, outcome)
    }

    #[test]
    fn a_job_is_taken_or_refused_or_known_to_be_lost() {
        let ((jobs, taker), count) = (jobs(), Arc::default());
        let context = Context::from_waker(noop_waker_ref());
        assert!(taker.poll_next(&context).is_pending());

        let (first, _outcome) = job(&count);
        assert!(jobs.push(first).is_ok());
        assert!(!taker.close_if_empty() && !jobs.is_closed());
        assert!(taker.poll_next(&context).is_ready());

        let (second, mut outcome) = job(&count);
        assert!(jobs.push(second).is_ok());
        drop(taker);
        assert_eq!(
            outcome.try_recv().unwrap_err(),
            oneshot::error::TryRecvError::Closed
        );

        let (third, _outcome) = job(&count);
        assert!(jobs.is_closed() && jobs.push(third).is_err());
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
