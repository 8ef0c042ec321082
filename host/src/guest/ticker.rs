//! The ticks that make guests give up the CPU: all that run at that moment. They come only where one has had its turn for
//! long enough: a quiet node is quiet, and where all calls are quick none is interrupted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use wasmtime::Engine;

/// A turn that has lasted for so long ends with the next tick.
pub const TICK: Duration = Duration::from_micros(300);
/// How long it takes at most until one is seen that has lasted for too long. They are looked for as often as they may
/// last for while there are some, and else not as often: to be woken costs a machine more than a call that is quick.
const LOOK: Duration = TICK.saturating_mul(8);
/// Where there was no turn at so many looks, there are no more of them. Less would have the thread stop and go with every
/// call.
const QUIET: u32 = 20;
/// How long the thread of engines that are gone may stay.
const STAY: Duration = Duration::from_secs(10);

/// Ticks of engines. Clones share them.
#[derive(Debug, Clone)]
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug)]
struct Shared {
    /// What moments are counted from.
    origin: Instant,
    /// When the turn of each thread has begun, in nanoseconds; 0 where there is none.
    turns: Mutex<Vec<Arc<AtomicU64>>>,
    /// One has ended since the last look.
    ended: AtomicBool,
    /// Nobody looks until the thread is woken.
    asleep: AtomicBool,
}

/// Of a thread that gives turns to guests.
#[derive(Debug)]
pub struct Turns {
    ticker: Ticker,
    begun: Arc<AtomicU64>,
}

impl Ticker {
    /// Ticks for as long as one of the engines lives.
    pub fn start(engines: &[&Engine]) -> io::Result<Self> {
        let engines: Vec<_> = engines.iter().map(|engine| engine.weak()).collect();
        Self::run(move || {
            let alive = engines.iter().filter_map(|engine| engine.upgrade());
            alive.map(|engine| engine.increment_epoch()).count() > 0
        })
    }

    /// Ticks until a tick says that it was the last one.
    fn run(tick: impl Fn() -> bool + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            turns: Mutex::default(),
            ended: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        });
        let looks = shared.clone();
        let thread = thread::Builder::new()
            .name("fanfare-epoch".into())
            .spawn(move || looks.look(tick))?;
        Ok(Self {
            shared,
            thread: thread.thread().clone(),
        })
    }

    /// For one more thread that gives turns.
    pub fn turns(&self) -> Turns {
        let begun = Arc::new(AtomicU64::new(0));
        self.shared.turns.lock().push(begun.clone());
        Turns {
            ticker: self.clone(),
            begun,
        }
    }
}

impl Turns {
    /// Says that a turn begins at this moment.
    pub fn begin(&self, now: Instant) {
        let shared = &self.ticker.shared;
        // Whoever looks sees either this or that it was woken: both orders are sequentially consistent.
        let moment = shared.moment(now).max(1);
        self.begun.store(moment, Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) && shared.asleep.swap(false, Ordering::SeqCst) {
            self.ticker.thread.unpark();
        }
    }

    /// Says that it has ended.
    pub fn end(&self) {
        // First: it would be missed between the two.
        self.ticker.shared.ended.store(true, Ordering::Relaxed);
        self.begun.store(0, Ordering::Release);
    }
}

impl Shared {
    fn moment(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn look(&self, tick: impl Fn() -> bool) {
        let (mut pause, mut quiet) = (LOOK, 0);
        loop {
            thread::sleep(pause);
            let longest = self.longest_turn();
            pause = LOOK.min(2 * pause);
            if longest.is_some_and(|turn| turn >= TICK) {
                pause = TICK;
                if !tick() {
                    return;
                }
            }
            let ended = self.ended.swap(false, Ordering::Relaxed);
            if ended || longest.is_some() {
                quiet = 0;
                continue;
            }
            quiet += 1;
            if quiet < QUIET {
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            if self.longest_turn().is_none() {
                thread::park_timeout(STAY);
            }
            // Where nobody has woken it: whether there is still somebody to tick for.
            if self.asleep.swap(false, Ordering::SeqCst) && !tick() {
                return;
            }
            quiet = 0;
        }
    }

    /// Of those that are not over, how long the longest one has lasted.
    fn longest_turn(&self) -> Option<Duration> {
        // First: this thread may be held up before it has seen all of them.
        let now = self.moment(Instant::now());
        let turns = self.turns.lock();
        let begun = turns.iter().map(|begun| begun.load(Ordering::SeqCst));
        let first = begun.filter(|begun| *begun > 0).min()?;
        Some(Duration::from_nanos(now.saturating_sub(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until it is so.
    fn until(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(TICK);
        }
    }

    /// A ticker, and how often it has ticked.
    fn counted() -> (Ticker, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let tick = move || counted.fetch_add(1, Ordering::Relaxed) < 1_000_000;
        (Ticker::run(tick).unwrap(), count)
    }

    #[test]
    fn ticks_come_while_a_turn_lasts_and_nobody_looks_without_one() {
        let (ticker, count) = counted();
        let [turns, others] = [ticker.turns(), ticker.turns()];
        for _ in 0..3 {
            until("nobody looks any more", || {
                ticker.shared.asleep.load(Ordering::SeqCst)
            });
            let before = count.load(Ordering::Relaxed);
            turns.begin(Instant::now());
            others.begin(Instant::now());
            others.end();
            until("there are ticks", || {
                count.load(Ordering::Relaxed) > before + 3
            });
            turns.end();
        }
    }

    #[test]
    fn turns_that_are_short_end_no_other() {
        let (ticker, count) = counted();
        let turns = ticker.turns();
        let begun = Instant::now();
        // Ticks that were due: this thread may be held up in the middle of a turn.
        let (mut given, mut due) = (0, 0);
        while given < 1000 || begun.elapsed() < 100 * TICK {
            let turn = Instant::now();
            turns.begin(turn);
            turns.end();
            due += turn.elapsed().as_nanos() / TICK.as_nanos();
            given += 1;
        }
        let ticks = u128::from(count.load(Ordering::Relaxed));
        // A turn that is over may be seen by the ticker a moment later.
        assert!(ticks <= due + 1, "{ticks} ticks, {due} were due");
    }
}
