//! The threads that guests run on, and whose turn it is: no app waits for another one's computing.
//!
//! Three things keep apps apart. Each app has a [`Lane`], and of the lanes that have something to run the one that has
//! used the least time goes first. A call that computes for longer than a moment goes on at a lower priority, on
//! threads that the operating system runs only where nobody else wants the core: what answers quickly waits for what
//! does not neither here nor there. And all calls of an app that uses far more than another one run there.
//!
//! - `lanes`: whose turn it is, and who is greedy.
//! - [`priority`]: how threads give way to others; `slice`: for how long they keep a core.

mod lanes;
pub mod priority;
#[cfg(target_os = "linux")]
mod slice;

use std::{
    cell::Cell,
    future::Future,
    io, mem,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_task::{Builder, Runnable, ScheduleInfo, Task, WithInfo};
use futures_util::FutureExt;
use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::runtime::Handle;

use self::{
    lanes::{Lanes, Level},
    priority::give_way_at_once,
};
use super::ticker::{Ticker, Turns};

/// A call that has computed for so long since its first tick, without waiting, is no quick one.
const QUICK: Duration = Duration::from_millis(1);

thread_local! {
    /// The turn that this thread gives to a call.
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Turn {
    /// The level of this thread.
    level: Level,
    /// The CPU time that the thread had used by then.
    cpu: Duration,
    /// The call gives it up because it has computed for long enough, and not because it waits.
    ticked: bool,
    /// It is an instance of many calls, and has begun to look after them anew.
    renewed: bool,
}

/// Threads for guests. Clones share them; they end with the last one.
#[derive(Clone)]
pub struct Threads {
    shared: Arc<Shared>,
    /// Ends them when it is dropped.
    _end: Arc<End>,
}

/// An app's place among the threads. Clones are the same place.
#[derive(Clone)]
pub struct Lane {
    shared: Arc<Shared>,
    number: usize,
}

/// A future on the threads of guests panicked.
#[derive(Debug, Error)]
#[error("a panic: {0}")]
pub struct Panicked(String);

/// How long a call has computed since it last waited, in nanoseconds of CPU time, counted from its first tick on; 0 before
/// that. By the clock it would be longer on a busy machine, where a call that is quick has to wait for a core.
#[derive(Debug, Default)]
pub struct Computed(AtomicU64);

struct Shared {
    state: Mutex<State>,
    /// Woken where there is something to run for the threads of a level.
    wake: [Condvar; 2],
}

struct State {
    lanes: Lanes<Runnable<Computed>>,
    /// Threads that wait for something to run, of each level.
    idle: [usize; 2],
    ended: bool,
}

struct End(Arc<Shared>);

/// To be called when a call gives up its turn because it has computed for long enough.
pub fn ticked() {
    TURN.set(TURN.get().map(|turn| Turn {
        ticked: true,
        ..turn
    }));
}

/// To be called when an instance of many calls looks after them anew: none of them keeps it. However much there is to do
/// for it, it is no slow call.
pub fn renewed() {
    TURN.set(TURN.get().map(|turn| Turn {
        renewed: true,
        ..turn
    }));
}

/// Whether the instance on this thread has done so in this turn.
pub fn has_renewed() -> bool {
    TURN.get().is_some_and(|turn| turn.renewed)
}

/// Whether the call on this thread has given up its turn because it has computed for long enough.
pub fn has_ticked() -> bool {
    TURN.get().is_some_and(|turn| turn.ticked)
}

/// For how long this thread had had a core when the turn of the call on it began. To be told costs less than to ask.
pub fn cpu_before_turn() -> Option<Duration> {
    TURN.get().map(|turn| turn.cpu)
}

/// For how long this thread had a core. The time on the clock would be another one on a machine that is busy, and
/// guests that compute run on threads that give way.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

impl Threads {
    /// Starts threads. What runs there has the timers and sockets of this runtime.
    pub fn start(runtime: &Handle, ticker: &Ticker) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let cores = u32::try_from(cores).unwrap_or(1);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                lanes: Lanes::new(cores),
                idle: [0; 2],
                ended: false,
            }),
            wake: Default::default(),
        });
        let threads = Self {
            _end: Arc::new(End(shared.clone())),
            shared,
        };
        for _ in 0..=cores {
            threads.start_one(Level::Quick, runtime.clone(), ticker.turns())?;
        }
        for _ in 0..cores {
            threads.start_one(Level::Slow, runtime.clone(), ticker.turns())?;
        }
        Ok(threads)
    }

    fn start_one(&self, level: Level, runtime: Handle, turns: Turns) -> io::Result<()> {
        let name = match level {
            Level::Quick => "fanfare-guest",
            Level::Slow => "fanfare-slow",
        };
        let shared = self.shared.clone();
        thread::Builder::new().name(name.into()).spawn(move || {
            if level == Level::Slow {
                give_way_at_once();
            }
            let _entered = runtime.enter();
            shared.run(level, &turns);
        })?;
        Ok(())
    }

    /// A place for one more app. Places are not given back: a node has as many as it has apps.
    pub fn lane(&self) -> Lane {
        Lane {
            shared: self.shared.clone(),
            number: self.shared.state.lock().lanes.add(),
        }
    }
}

impl Lane {
    /// Runs a future on the threads. Dropping the task drops the future, soon and on one of them.
    pub fn spawn<F>(&self, future: F) -> Task<Result<F::Output, Panicked>, Computed>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // The future is dropped with its panic: nothing half done is looked at.
        let future = AssertUnwindSafe(future).catch_unwind().map(|result| {
            result.map_err(|panic| {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                Panicked(text.unwrap_or_default())
            })
        });
        let lane = self.clone();
        let schedule = move |runnable: Runnable<Computed>, info: ScheduleInfo| {
            lane.shared.push(lane.number, runnable, &info);
        };
        let builder = Builder::new().metadata(Computed::default());
        let (runnable, task) = builder.spawn(|_| future, WithInfo(schedule));
        runnable.schedule();
        task
    }
}

/// How a call goes on.
fn level_of(computed: &Computed, info: &ScheduleInfo) -> Level {
    // A call that is woken while it runs is scheduled on its own thread, at the end of its turn.
    let turn = TURN
        .get()
        .filter(|turn| info.woken_while_running && turn.ticked && !turn.renewed);
    let Some(turn) = turn else {
        computed.0.store(0, Ordering::Relaxed);
        return Level::Quick;
    };
    // From its first tick on, and not 0 any more.
    let used = match computed.0.load(Ordering::Relaxed) {
        0 => Duration::ZERO,
        _ => thread_cpu_time().saturating_sub(turn.cpu),
    };
    let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX).max(1);
    let before = computed.0.fetch_add(used, Ordering::Relaxed);
    match Duration::from_nanos(before.saturating_add(used)) < QUICK {
        true => Level::Quick,
        false => Level::Slow,
    }
}

impl Shared {
    /// Puts a call at the end of its lane, and wakes a thread for it, or leaves it to one that is awake.
    fn push(&self, number: usize, runnable: Runnable<Computed>, info: &ScheduleInfo) {
        let level = level_of(runnable.metadata(), info);
        let mut state = self.state.lock();
        if state.ended {
            // Nobody would take it. The lock is let go first: what is dropped may wake another.
            drop(state);
            drop(runnable);
            return;
        }
        let threads = state.lanes.push(number, level, runnable);
        // At the end of its turn this thread looks for the next one itself.
        let looks =
            info.woken_while_running && TURN.get().is_some_and(|turn| turn.level == threads);
        if !looks && state.idle[threads as usize] > 0 {
            drop(state);
            self.wake[threads as usize].notify_one();
        }
    }

    fn run(&self, level: Level, turns: &Turns) {
        // What this thread has used. Between turns it uses next to nothing.
        let mut cpu = thread_cpu_time();
        let mut state = self.state.lock();
        while !state.ended {
            let Some((number, runnable)) = state.lanes.take(level) else {
                state.idle[level as usize] += 1;
                self.wake[level as usize].wait(&mut state);
                state.idle[level as usize] -= 1;
                continue;
            };
            drop(state);
            turns.begin(Instant::now());
            TURN.set(Some(Turn {
                level,
                cpu,
                ticked: false,
                renewed: false,
            }));
            runnable.run();
            TURN.set(None);
            turns.end();
            let before = mem::replace(&mut cpu, thread_cpu_time());
            let used = cpu.saturating_sub(before);
            state = self.state.lock();
            let moved = state.lanes.give_back(number, level, used, Instant::now());
            if moved {
                for wake in &self.wake {
                    wake.notify_all();
                }
            }
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        let waiting = state.lanes.clear();
        // What is dropped may wake another, which takes the lock.
        drop(state);
        for wake in &self.0.wake {
            wake.notify_all();
        }
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicBool, task::Poll};

    use super::{super::ticker::TICK, *};

    /// Computes for a while and gives up its turn at every tick, as guests do.
    async fn compute(time: Duration, stop: Arc<AtomicBool>) {
        let begun = Instant::now();
        poll_fn(|context| {
            let turn = Instant::now();
            while turn.elapsed() < TICK {
                std::hint::spin_loop();
            }
            if begun.elapsed() > time || stop.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            ticked();
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// The same until it is slow.
    async fn compute_until_slow() {
        let stop = Arc::new(AtomicBool::new(false));
        let slow = stop.clone();
        let mut computed = Box::pin(compute(Duration::from_secs(20), stop));
        poll_fn(|context| {
            slow.store(name() == "fanfare-slow", Ordering::Relaxed);
            computed.as_mut().poll(context)
        })
        .await;
    }

    fn threads() -> Threads {
        let ticker = Ticker::start(&[]).unwrap();
        Threads::start(&Handle::current(), &ticker).unwrap()
    }

    fn name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn quick_calls_of_one_lane_do_not_wait_for_slow_ones_of_another() {
        let threads = threads();
        let (hostile, other) = (threads.lane(), threads.lane());
        let stop = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(AtomicU64::new(0));
        let spinning: Vec<_> = (0..100)
            .map(|_| {
                let turns = turns.clone();
                let mut spins = Box::pin(compute(Duration::from_secs(60), stop.clone()));
                hostile.spawn(poll_fn(move |context| {
                    turns.fetch_add(1, Ordering::Relaxed);
                    spins.as_mut().poll(context)
                }))
            })
            .collect();
        // Were they to take turns with all others, each of these would wait for a hundred turns.
        let mut waited = Vec::new();
        for _ in 0..101 {
            let before = turns.load(Ordering::Relaxed);
            other.spawn(async {}).await.unwrap();
            waited.push(turns.load(Ordering::Relaxed) - before);
        }
        stop.store(true, Ordering::Relaxed);
        for task in spinning {
            task.await.unwrap();
        }
        waited.sort_unstable();
        assert!(waited[50] < 50, "{waited:?}");
    }

    #[tokio::test]
    async fn what_computes_goes_on_at_the_slow_level_and_comes_back_when_it_has_waited() {
        let threads = threads();
        let lane = threads.lane();
        let names = lane.spawn(async {
            let first = name();
            compute_until_slow().await;
            let computed = name();
            tokio::time::sleep(Duration::from_millis(1)).await;
            [first, computed, name()]
        });
        let names = names.await.unwrap();
        assert_eq!(names, ["fanfare-guest", "fanfare-slow", "fanfare-guest"]);
    }

    #[tokio::test]
    async fn an_instance_that_comes_round_to_its_calls_is_not_slow() {
        let threads = threads();
        let mut names = Vec::new();
        let busy = threads.lane().spawn(poll_fn(move |context| {
            names.push(name());
            let before = thread_cpu_time();
            while thread_cpu_time() - before < 2 * QUICK {
                std::hint::spin_loop();
            }
            if names.len() == 10 {
                return Poll::Ready(mem::take(&mut names));
            }
            renewed();
            ticked();
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        assert_eq!(busy.await.unwrap(), ["fanfare-guest"; 10]);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_a_dropped_task_drops_its_future() {
        let threads = threads();
        let lane = threads.lane();
        let panicked = lane.spawn(async { panic!("on purpose") }).await;
        assert_eq!(
            panicked.map_err(|panic: Panicked| panic.0),
            Err::<(), _>("on purpose".into())
        );

        let (sender, dropped) = tokio::sync::oneshot::channel::<()>();
        let task = lane.spawn(async move {
            let _kept = sender;
            std::future::pending::<()>().await;
        });
        drop(task);
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn no_lane_takes_the_last_quick_thread() {
        let threads = threads();
        let (hostile, other) = (threads.lane(), threads.lane());
        let stop = Arc::new(AtomicBool::new(false));
        // They never give up their turn.
        let blocking: Vec<_> = (0..thread::available_parallelism().unwrap().get() + 2)
            .map(|_| {
                let stop = stop.clone();
                hostile.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(1));
                    }
                })
            })
            .collect();
        let answered = tokio::time::timeout(Duration::from_secs(20), other.spawn(async {})).await;
        stop.store(true, Ordering::Relaxed);
        for task in blocking {
            task.await.unwrap();
        }
        answered.unwrap().unwrap();
    }
}
