//! Asynchronous code of guests.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::Fake;

/// Code that has begun and not ended.
pub struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
}

/// Whether code has something to do.
struct Woken(AtomicBool);

impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Polls the code of this flag where it has something to do.
    fn poll<F: Future + ?Sized>(
        self: &Arc<Self>,
        fake: &Rc<Fake>,
        future: Pin<&mut F>,
    ) -> Poll<F::Output> {
        if !self.0.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        let waker = Waker::from(self.clone());
        fake.enter(|| future.poll(&mut Context::from_waker(&waker)))
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Fake {
    /// Begins code that goes on by itself whenever time may pass.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push_back(Task {
            future: Box::pin(future),
            woken: Woken::new(),
        });
    }

    /// Lets one piece of code do what it has to do; false where none has anything. They take turns.
    pub fn run_task(self: &Rc<Self>) -> bool {
        // Out of the list meanwhile: the code may begin more, or make a test handle another request.
        let ready = {
            let mut tasks = self.tasks.borrow_mut();
            let index = tasks.iter().position(|task| task.woken.is());
            index.and_then(|index| tasks.remove(index))
        };
        let Some(mut task) = ready else {
            return false;
        };
        if task.woken.poll(self, task.future.as_mut()).is_pending() {
            self.tasks.borrow_mut().push_back(task);
        }
        true
    }

    /// Runs code to its end, and whatever else is due until then.
    ///
    /// # Panics
    ///
    /// Where it waits for something that will not happen.
    pub fn run<F: Future>(self: &Rc<Self>, future: Pin<&mut F>) -> F::Output {
        let mut future = future;
        let woken = Woken::new();
        loop {
            if let Poll::Ready(result) = woken.poll(self, future.as_mut()) {
                while self.run_task() {}
                return result;
            }
            assert!(
                woken.is() || self.step(Duration::MAX),
                "{}",
                super::FOR_EVER
            );
        }
    }

    /// Runs code to its end as one of several: other code that waits in this host goes on meanwhile, and this code
    /// does while the host runs other code to its end.
    pub fn run_among_others<R: 'static>(
        self: &Rc<Self>,
        future: impl Future<Output = R> + 'static,
    ) -> R {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        self.spawn(async move {
            let result = future.await;
            *slot.borrow_mut() = Some(result);
        });
        loop {
            while self.run_task() {}
            if let Some(result) = result.take() {
                return result;
            }
            assert!(self.step(Duration::MAX), "{}", super::FOR_EVER);
        }
    }

    /// Ready after so much time.
    pub fn timer(self: &Rc<Self>, duration: Duration) -> Timer {
        let state = self.state();
        Timer {
            fake: self.clone(),
            at: state.now.saturating_add(duration),
            waker: None,
        }
    }
}

/// See [`Fake::timer`].
pub struct Timer {
    fake: Rc<Fake>,
    at: Duration,
    /// Who is to be woken then; none where nobody has waited yet.
    waker: Option<Rc<RefCell<Waker>>>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = self.fake.state().now;
        if now >= self.at {
            return Poll::Ready(());
        }
        match &self.waker {
            Some(waker) => waker.borrow_mut().clone_from(context.waker()),
            None => {
                let waker = Rc::new(RefCell::new(context.waker().clone()));
                let woken = waker.clone();
                self.fake
                    .schedule(self.at - now, move |_| woken.borrow().wake_by_ref());
                self.waker = Some(waker);
            }
        }
        Poll::Pending
    }
}
