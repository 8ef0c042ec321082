//! The ticks that make guests give up the CPU: they come only while guests run, so that a quiet node is quiet.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::{self, Thread},
    time::Duration,
};

use wasmtime::Engine;

/// How long a guest runs before it lets others run. Also what limits of CPU time are measured by.
pub const TICK: Duration = Duration::from_millis(2);
/// Without a guest that runs for so many ticks, there are no more of them. Less would have them stop and go with every
/// call.
const QUIET_TICKS: u32 = 50;
/// How long the thread of engines that are gone may stay.
const LOOK: Duration = Duration::from_secs(10);

/// Ticks of engines. Clones share them.
#[derive(Debug, Clone)]
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guests that run at this moment; one that waits does not.
    running: AtomicUsize,
    /// One has run since the last tick.
    ran: AtomicBool,
    /// There are no ticks until the thread is woken.
    asleep: AtomicBool,
}

/// A future that has ticks while it is polled.
#[derive(Debug)]
pub struct Ticking<F> {
    future: F,
    ticker: Ticker,
}

impl Ticker {
    /// Ticks for as long as one of the engines lives.
    pub fn start(engines: &[&Engine]) -> io::Result<Self> {
        let engines: Vec<_> = engines.iter().map(|engine| engine.weak()).collect();
        let tick = move || {
            let alive = engines.iter().filter_map(|engine| engine.upgrade());
            alive.map(|engine| engine.increment_epoch()).count() > 0
        };
        let shared = Arc::new(Shared::default());
        let ticks = shared.clone();
        let thread = thread::Builder::new()
            .name("fanfare-epoch".into())
            .spawn(move || ticks.run(tick))?;
        Ok(Self {
            shared,
            thread: thread.thread().clone(),
        })
    }

    /// Has ticks while this is polled.
    pub fn during<F: Future + Unpin>(&self, future: F) -> Ticking<F> {
        Ticking {
            future,
            ticker: self.clone(),
        }
    }
}

impl Shared {
    fn run(&self, tick: impl Fn() -> bool) {
        let mut quiet = 0;
        while tick() {
            thread::sleep(TICK);
            let ran = self.ran.swap(false, Ordering::Relaxed);
            quiet = if ran || self.is_running() {
                0
            } else {
                quiet + 1
            };
            if quiet < QUIET_TICKS {
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            // Whoever begins to run after this look sees that the thread is asleep: both orders are sequentially
            // consistent.
            if !self.is_running() {
                thread::park_timeout(LOOK);
            }
            self.asleep.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst) > 0
    }
}

impl<F: Future + Unpin> Future for Ticking<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let shared = &this.ticker.shared;
        let _running = Running::new(shared);
        if shared.asleep.swap(false, Ordering::SeqCst) {
            this.ticker.thread.unpark();
        }
        Pin::new(&mut this.future).poll(context)
    }
}

/// A guest that runs.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.running.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // First: the thread would miss it between the two.
        self.0.ran.store(true, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU64, time::Instant};

    use super::*;

    /// Waits until the count stays, or moves on.
    fn until(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(TICK);
        }
    }

    #[test]
    fn ticks_come_while_guests_run_and_not_otherwise() {
        let shared = Arc::new(Shared::default());
        let count = Arc::new(AtomicU64::new(0));
        let ticks = shared.clone();
        let counted = count.clone();
        let thread = thread::spawn(move || {
            ticks.run(|| counted.fetch_add(1, Ordering::Relaxed) < 1_000_000);
        });
        let ticker = Ticker {
            shared: shared.clone(),
            thread: thread.thread().clone(),
        };
        for _ in 0..3 {
            until("the ticks end", || shared.asleep.load(Ordering::SeqCst));
            let before = count.load(Ordering::Relaxed);
            let runs = ticker.during(Box::pin(async {
                until("there are ticks", || {
                    count.load(Ordering::Relaxed) > before + 3
                });
            }));
            futures_util::FutureExt::now_or_never(runs).unwrap();
        }
    }
}
