//! Guests of the blocking world: one call at a time in an instance, which is new for every call unless the app wants
//! otherwise.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{task::yield_now, time::timeout};
use wasmtime::{
    Store,
    component::{InstancePre, Linker},
};

use super::{
    bindings::{
        App, AppIndices,
        hooks::{DisconnectHooks, DisconnectHooksIndices},
        occupancy::{OccupancyHooks, OccupancyHooksIndices},
    },
    call::{self, Call, Failure, Outcome},
    check::{Checked, Flavour},
    engine::Guests,
    limits::{CpuLimited, CpuTimeUsedUp},
    request::release_when_waiting,
    scope::Scope,
    shared::Shared,
    source::Source,
    state::State,
};

/// An instance that nobody has called for so long is given up.
const IDLE: Duration = Duration::from_secs(10);

/// A guest that is ready to be called.
pub struct Blocking {
    guests: Guests,
    shared: Arc<Shared>,
    source: Arc<Source>,
    pre: InstancePre<State>,
    exports: AppIndices,
    /// Where the guest exports the hook.
    disconnect: Option<DisconnectHooksIndices>,
    /// The same for this one.
    occupancy: Option<OccupancyHooksIndices>,
    /// How many calls an instance serves.
    calls: usize,
    /// Instances that may serve another call, the last used last. `None` once newer code serves: then their places in
    /// the pool are needed.
    idle: Mutex<Option<Vec<Instance>>>,
}

struct Instance {
    store: Store<State>,
    exports: Option<Exports>,
    /// How many calls it has begun.
    calls: usize,
    /// When the last one ended.
    since: Instant,
}

struct Exports {
    app: App,
    disconnect: Option<DisconnectHooks>,
    occupancy: Option<OccupancyHooks>,
}

/// A linked component, and where its exports are.
pub(super) struct Linked {
    pre: InstancePre<State>,
    app: AppIndices,
    disconnect: Option<DisconnectHooksIndices>,
    occupancy: Option<OccupancyHooksIndices>,
}

impl Linked {
    pub(super) fn new(linker: &Linker<State>, checked: &Checked) -> wasmtime::Result<Self> {
        let (pre, hooks) = (linker.instantiate_pre(&checked.component)?, checked.hooks);
        Ok(Self {
            app: AppIndices::new(&pre)?,
            disconnect: hooks
                .disconnect
                .then(|| DisconnectHooksIndices::new(&pre))
                .transpose()?,
            occupancy: hooks
                .occupancy
                .then(|| OccupancyHooksIndices::new(&pre))
                .transpose()?,
            pre,
        })
    }
}

impl Blocking {
    /// Links a component.
    pub fn new(
        guests: &Guests,
        shared: &Arc<Shared>,
        linker: &Linker<State>,
        checked: &Checked,
    ) -> wasmtime::Result<Self> {
        let linked = Linked::new(linker, checked)?;
        Ok(Self {
            pre: linked.pre,
            exports: linked.app,
            disconnect: linked.disconnect,
            occupancy: linked.occupancy,
            guests: guests.clone(),
            calls: match shared.instances.calls {
                0 => 1,
                calls => calls,
            },
            shared: shared.clone(),
            source: checked.source.clone(),
            idle: Mutex::new(Some(Vec::new())),
        })
    }

    /// Calls the guest, for at most so long. To be polled on the threads of guests. Dropping the future drops the
    /// instance, wherever the guest stands.
    pub async fn call(&self, call: Call, scope: &Scope, wall_time: Option<Duration>) -> Outcome {
        let mut instance = self.take(scope);
        let held = instance.store.data().held.clone();
        let running = Box::pin(self.run(&mut instance, call));
        let running = release_when_waiting(&held, running);
        let cpu_time = self.shared.limits.cpu_time;
        let limited = CpuLimited::new(running, cpu_time);
        let result = match wall_time {
            None => Ok(limited.await),
            Some(wall_time) => timeout(wall_time, limited).await,
        };
        instance.store.data().finish();
        let failure = match result {
            Ok(Ok(Ok(result))) => {
                self.keep(instance);
                return Ok(result);
            }
            Ok(Ok(Err(trap))) => {
                self.source.read(&self.guests).await;
                Failure::trap(&trap, instance.store.data(), &self.source)
            }
            Ok(Err(CpuTimeUsedUp)) => Failure::cpu_time(cpu_time),
            Err(_) => Failure::wall_time(wall_time.unwrap_or_default()),
        };
        Err(failure.with_stderr(instance.store.data().stderr()))
    }

    async fn run(
        &self,
        instance: &mut Instance,
        call: Call,
    ) -> wasmtime::Result<Result<(), super::bindings::fanfare::sse::errors::Error>> {
        let store = &mut instance.store;
        let exports = match &instance.exports {
            Some(exports) => exports,
            None => {
                let made = self.pre.instantiate_async(&mut *store).await?;
                let (disconnect, occupancy) = (self.disconnect.as_ref(), self.occupancy.as_ref());
                instance.exports.insert(Exports {
                    app: self.exports.load(&mut *store, &made)?,
                    disconnect: disconnect
                        .map(|hooks| hooks.load(&mut *store, &made))
                        .transpose()?,
                    occupancy: occupancy
                        .map(|hooks| hooks.load(&mut *store, &made))
                        .transpose()?,
                })
            }
        };
        match call {
            Call::Start => exports.app.fanfare_sse_lifecycle().call_start(store).await,
            Call::Handle(request) => {
                let request = store.data_mut().table.push(request)?;
                let handler = exports.app.fanfare_sse_handler();
                handler.call_handle(store, request).await
            }
            Call::Disconnected(gone) => {
                if let Some(hooks) = &exports.disconnect {
                    let hook = hooks.fanfare_sse_disconnect_hook();
                    hook.call_disconnected(store, &gone).await?;
                }
                Ok(Ok(()))
            }
            Call::Occupancy(told) => {
                if let Some(hooks) = &exports.occupancy {
                    let publisher = store.data_mut().table.push(told.publisher)?;
                    let (hook, channel) = (hooks.fanfare_sse_occupancy_hook(), &told.channel);
                    match told.occupied {
                        true => {
                            hook.call_channel_occupied(store, publisher, channel)
                                .await?
                        }
                        false => hook.call_channel_vacated(store, publisher, channel).await?,
                    }
                }
                Ok(Ok(()))
            }
        }
    }

    fn take(&self, scope: &Scope) -> Instance {
        let kept = self.idle.lock().as_mut().and_then(Vec::pop);
        let mut instance = match kept {
            Some(mut instance) => {
                instance.store.data_mut().begin(scope);
                // Ticks that came since it was last called are none of this call's.
                instance.store.set_epoch_deadline(1);
                instance
            }
            None => Instance {
                store: call::store(
                    self.guests.engine(Flavour::Blocking),
                    &self.shared,
                    scope,
                    self.shared.limits.handles,
                ),
                exports: None,
                calls: 0,
                since: Instant::now(),
            },
        };
        instance.calls += 1;
        instance
    }

    fn keep(&self, mut instance: Instance) {
        if instance.calls < self.calls {
            instance.since = Instant::now();
            let mut idle = self.idle.lock();
            match &mut *idle {
                Some(idle) => idle.push(instance),
                None => {
                    drop(idle);
                    drop(instance);
                }
            }
        }
    }

    /// Few calls come any more: each has an instance of its own. To be polled on the threads of guests.
    pub async fn retire(&self) {
        let idle = self.idle.lock().take();
        for old in idle.unwrap_or_default() {
            drop(old);
            yield_now().await;
        }
    }

    /// Whether an instance was not called for a while.
    pub fn has_old(&self) -> bool {
        let idle = self.idle.lock();
        idle.iter().flatten().next().is_some_and(is_old)
    }

    /// Gives up instances that were not called for a while, one in a turn: each has memory to give back. To be polled on
    /// the threads of guests.
    pub async fn trim(&self) {
        while let Some(old) = self.take_old() {
            drop(old);
            yield_now().await;
        }
    }

    fn take_old(&self) -> Option<Instance> {
        let mut idle = self.idle.lock();
        let idle = idle.as_mut()?;
        is_old(idle.first()?).then(|| idle.remove(0))
    }
}

fn is_old(instance: &Instance) -> bool {
    instance.since.elapsed() > IDLE
}
