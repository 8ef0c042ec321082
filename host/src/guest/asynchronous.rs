//! Guests of the asynchronous world: a few instances that live long, and many calls that wait in each side by side.
//!
//! An instance is an event loop of its own on the threads of guests (`instance.rs`): jobs come in one way
//! (`jobs.rs`), and what became of each goes out through a channel of its own. Its calls share its fate. A trap ends them all, because the
//! component model lets nobody call an instance that has trapped; a call that outlasts its time cannot be ended alone,
//! so that its instance gets no more calls, lets the others finish, and is dropped. One that computes without ever
//! letting the others go on is dropped at once: nothing inside it could.

mod instance;
mod jobs;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};
use wasmtime::component::{InstancePre, Linker};

use self::{
    instance::Instance,
    jobs::{Counted, Job},
};
use super::{
    bindings::{
        asynchronous::AppAsyncIndices, asynchronous_hooks::DisconnectHooksAsyncIndices,
        asynchronous_occupancy::OccupancyHooksAsyncIndices,
    },
    call::{Call, Failure, Outcome},
    check::Checked,
    engine::Guests,
    scope::Named,
    shared::Shared,
    source::Source,
    state::State,
    threads::Lane,
};

/// How many calls an instance serves where the app does not say.
const CALLS: usize = 100_000;
/// Instances at a time, for each that takes calls: those that linger, too.
pub const INSTANCES: usize = 2;
/// How much later than the instance itself whoever waits for a call looks at the clock.
const GRACE: Duration = Duration::from_secs(1);

/// A guest that is ready to be called.
pub struct Asynchronous {
    inner: Arc<Inner>,
    /// The instances that live, the oldest first.
    instances: Mutex<Vec<Arc<Instance>>>,
    /// How many were started.
    started: AtomicUsize,
}

struct Inner {
    guests: Guests,
    shared: Arc<Shared>,
    lane: Lane,
    pre: InstancePre<State>,
    exports: AppAsyncIndices,
    /// Where the guest exports the hook.
    disconnect: Option<DisconnectHooksAsyncIndices>,
    /// The same for this one.
    occupancy: Option<OccupancyHooksAsyncIndices>,
    /// How many calls an instance serves.
    calls: usize,
    /// The app and the version, for the log.
    named: Arc<Named>,
    source: Arc<Source>,
}

/// A linked component, and where its exports are.
pub(super) struct Linked {
    pre: InstancePre<State>,
    app: AppAsyncIndices,
    disconnect: Option<DisconnectHooksAsyncIndices>,
    occupancy: Option<OccupancyHooksAsyncIndices>,
}

impl Linked {
    pub(super) fn new(linker: &Linker<State>, checked: &Checked) -> wasmtime::Result<Self> {
        let (pre, hooks) = (linker.instantiate_pre(&checked.component)?, checked.hooks);
        Ok(Self {
            app: AppAsyncIndices::new(&pre)?,
            disconnect: hooks
                .disconnect
                .then(|| DisconnectHooksAsyncIndices::new(&pre))
                .transpose()?,
            occupancy: hooks
                .occupancy
                .then(|| OccupancyHooksAsyncIndices::new(&pre))
                .transpose()?,
            pre,
        })
    }
}

impl Asynchronous {
    /// Links a component.
    pub fn new(
        guests: &Guests,
        shared: &Arc<Shared>,
        lane: &Lane,
        named: &Arc<Named>,
        linker: &Linker<State>,
        checked: &Checked,
    ) -> wasmtime::Result<Self> {
        let linked = Linked::new(linker, checked)?;
        let inner = Inner {
            pre: linked.pre,
            exports: linked.app,
            disconnect: linked.disconnect,
            occupancy: linked.occupancy,
            named: named.clone(),
            source: checked.source.clone(),
            guests: guests.clone(),
            lane: lane.clone(),
            calls: match shared.instances.calls {
                0 => CALLS,
                calls => calls,
            },
            shared: shared.clone(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            instances: Mutex::default(),
            started: AtomicUsize::new(0),
        })
    }

    /// Calls the guest, for at most so long. A call whose future is dropped goes on, and nobody hears of it.
    pub async fn call(&self, call: Call, wall_time: Option<Duration>) -> Outcome {
        let (instance, outcome) = self.begin(call, wall_time);
        // What few calls need is boxed: thousands wait here.
        let Some(wall_time) = wall_time else {
            return match outcome.await {
                Ok(outcome) => outcome,
                Err(_) => Box::pin(instance.failure()).await,
            };
        };
        Box::pin(async {
            let answered = async {
                match outcome.await {
                    Ok(outcome) => outcome,
                    Err(_) => instance.failure().await,
                }
            };
            // The instance keeps the time itself, unless its guest holds all of it, by an import of WASI 0.2 that waits.
            let latest = wall_time + self.inner.shared.limits.cpu_time + GRACE;
            match timeout(latest, answered).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    instance.retired.cancel();
                    instance.dropped.cancel();
                    Err(Failure::wall_time(wall_time))
                }
            }
        })
        .await
    }

    /// Hands a call to an instance. What became of it arrives there, or nothing where the instance ends with it.
    fn begin(
        &self,
        call: Call,
        wall_time: Option<Duration>,
    ) -> (Arc<Instance>, oneshot::Receiver<Outcome>) {
        let (done, outcome) = oneshot::channel();
        let (mut instance, counted) = self.place();
        let mut job = Job {
            call,
            wall_time,
            done,
            counted,
        };
        // One that has just ended takes none.
        while let Err(refused) = instance.jobs.push(job) {
            job = refused;
            (instance, job.counted) = self.place();
        }
        (instance, outcome)
    }

    /// The instance that the next call goes to: the one with the fewest calls in it, or a new one.
    fn place(&self) -> (Arc<Instance>, Counted) {
        let inner = &self.inner;
        let mut instances = self.instances.lock();
        instances.retain(|instance| !instance.jobs.is_closed());
        let active = |instance: &&Arc<Instance>| !instance.retired.is_cancelled();
        let calls = |instance: &&Arc<Instance>| instance.calls.load(Ordering::Relaxed);
        let count = instances.iter().filter(active).count();
        let least = instances.iter().filter(active).min_by_key(calls).cloned();
        let wanted = inner.shared.instances.count;
        let is_full = instances.len() >= wanted * INSTANCES;
        let instance = match least {
            Some(least) if is_full || count >= wanted || calls(&&least) == 0 => least,
            _ => {
                // All of them are past their time, with a call that cannot be ended but with its instance.
                let mut there = instances.iter();
                if is_full && let Some(oldest) = there.find(|one| !one.dropped.is_cancelled()) {
                    oldest.dropped.cancel();
                }
                let number = self.started.fetch_add(1, Ordering::Relaxed);
                let started = Instance::start(inner, number);
                instances.push(started.clone());
                started
            }
        };
        let counted = Counted::new(&instance.calls);
        let begun = instance.begun.fetch_add(1, Ordering::Relaxed) + 1;
        // Where so many linger that another would have no place, it serves on.
        if begun >= inner.calls && instances.len() < wanted * INSTANCES {
            instance.retired.cancel();
        }
        (instance, counted)
    }

    /// No more calls come: what was left running may go on for a while.
    pub fn retire(&self) {
        for instance in &*self.instances.lock() {
            instance.retired.cancel();
        }
    }

    /// Waits until all instances have ended.
    pub async fn ended(&self) {
        let fates = self
            .instances
            .lock()
            .iter()
            .map(|instance| instance.fate.clone())
            .collect::<Vec<_>>();
        for mut fate in fates {
            // An error means that it has ended, too.
            let _ = fate.wait_for(Option::is_some).await;
        }
    }
}

impl Drop for Asynchronous {
    fn drop(&mut self) {
        for instance in self.instances.get_mut() {
            instance.dropped.cancel();
        }
    }
}
