//! An instance of the asynchronous world: an event loop in which calls wait side by side.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{Stream as _, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, warn};
use wasmtime::component::Accessor;

use super::{
    Inner,
    jobs::{Job, Jobs, Taker, jobs},
};
use crate::guest::{
    bindings::{
        asynchronous::AppAsync, asynchronous_hooks::DisconnectHooksAsync,
        asynchronous_occupancy::OccupancyHooksAsync, fanfare::sse::errors::Error,
    },
    call::{self, Call, Failure, Occupancy, Outcome},
    check::Flavour,
    limits::{CpuLimited, CpuTimeUsedUp},
    log::Room,
    request::release,
    scope::{Of, Scope},
    state::State,
    threads,
};

/// How long an instance that gets no more calls may go on with what its guest has left running.
const LINGER: Duration = Duration::from_secs(60);
/// The most handles of an instance, whatever the app's limit for a call comes to.
const MOST_HANDLES: usize = 1_000_000;

/// An instance, as those who call it see it.
pub(super) struct Instance {
    number: usize,
    pub(super) jobs: Jobs,
    /// Calls in it, and on their way to it.
    pub(super) calls: Arc<AtomicUsize>,
    /// Calls that the guest has begun and not answered yet. Unlike the others, they are still counted when the instance
    /// has ended with them.
    running: AtomicUsize,
    /// Calls that it has begun.
    pub(super) begun: AtomicUsize,
    /// Cancelled when it is to get no more calls.
    pub(super) retired: CancellationToken,
    /// Cancelled to drop it, wherever its calls stand.
    pub(super) dropped: CancellationToken,
    /// Why its calls have ended, once they have.
    pub(super) fate: watch::Receiver<Option<Failure>>,
}

struct Exports {
    app: AppAsync,
    disconnect: Option<DisconnectHooksAsync>,
    occupancy: Option<OccupancyHooksAsync>,
}

/// What became of a job inside its instance.
enum Done {
    /// The guest has returned.
    Returned,
    /// It has not, and its time is over.
    Overdue,
}

impl Instance {
    pub(super) fn start(inner: &Arc<Inner>, number: usize) -> Arc<Self> {
        let (jobs, taker) = jobs();
        let (tell, fate) = watch::channel(None);
        let instance = Arc::new(Self {
            number,
            jobs,
            calls: Arc::default(),
            running: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            retired: CancellationToken::new(),
            dropped: CancellationToken::new(),
            fate,
        });
        let (inner, running) = (inner.clone(), instance.clone());
        let lane = inner.lane.clone();
        let run = async move {
            let fate = running.run(&inner, taker).await;
            tell.send_replace(Some(fate));
        };
        lane.spawn(run).detach();
        instance
    }

    /// Why its calls have ended, once they have.
    pub(super) async fn failure(&self) -> Outcome {
        let mut fate = self.fate.clone();
        let fate = fate.wait_for(Option::is_some).await;
        let failure = fate.ok().and_then(|fate| fate.clone());
        Err(failure.unwrap_or_else(|| Failure::stopped("its instance has ended")))
    }

    /// Runs the instance until it traps, is dropped, or has nothing to do any more; says what became of the calls that
    /// were in it.
    async fn run(&self, inner: &Inner, jobs: Taker) -> Failure {
        let shared = &inner.shared;
        let scope = Scope::new(&inner.named, Of::Instance(self.number));
        let span = scope.span();
        let handles = shared.limits.handles.saturating_mul(shared.limits.calls);
        let handles = handles.min(MOST_HANDLES);
        let engine = inner.guests.engine(Flavour::Asynchronous);
        let mut store = call::store(engine, shared, &scope, handles);
        let held = store.data().held.clone();
        let run = async {
            let made = inner.pre.instantiate_async(&mut store).await?;
            let (disconnect, occupancy) = (inner.disconnect.as_ref(), inner.occupancy.as_ref());
            let exports = Exports {
                app: inner.exports.load(&mut store, &made)?,
                disconnect: disconnect
                    .map(|hooks| hooks.load(&mut store, &made))
                    .transpose()?,
                occupancy: occupancy
                    .map(|hooks| hooks.load(&mut store, &made))
                    .transpose()?,
            };
            let (exports, held) = (&exports, &held);
            store
                .run_concurrent(async move |accessor| {
                    let mut drive = pin!(self.drive(accessor, exports, jobs));
                    poll_fn(|context| {
                        // Whatever was opened has been registered by now: its handler waits, or has returned.
                        release(held);
                        threads::renewed();
                        drive.as_mut().poll(context)
                    })
                    .await
                })
                .await?
        };
        let cpu_time = shared.limits.cpu_time;
        let limited = CpuLimited::of_each_round(run, cpu_time);
        let ended = tokio::select! {
            ended = limited.instrument(span.clone()) => Some(ended),
            () = self.dropped.cancelled() => None,
        };
        release(&held);
        store.data().finish();
        let failure = match ended {
            None => Failure::stopped("its instance was given up"),
            Some(Ok(Ok(()))) => {
                span.in_scope(|| debug!("the instance has served its calls"));
                Failure::stopped("its instance has ended")
            }
            Some(Ok(Err(trap))) => {
                inner.source.read(&inner.guests).await;
                Failure::trap(&trap, store.data(), &inner.source)
            }
            Some(Err(CpuTimeUsedUp)) => Failure::cpu_time(cpu_time),
        };
        if failure.stopped.is_some() {
            return failure;
        }
        if let Some(limit) = failure.limit {
            shared.reached.count(limit);
        }
        let failure = Failure {
            limit: None,
            ..failure.with_stderr(store.data().stderr())
        };
        let calls = self.running.load(Ordering::Relaxed);
        if calls == 1 {
            // It tells its own log and client.
            return failure;
        }
        let text = shared.loggable(&failure.to_string());
        span.in_scope(|| match shared.log.room() {
            Room::Free => error!(calls, "an instance {text}"),
            Room::JustFull => warn!("{}", shared.log),
            Room::Full => {}
        });
        // Whichever of them it was: each of them says where to look.
        Failure {
            reason: format!(
                "ended with instance {}, which {}",
                self.number, failure.reason
            ),
            details: None,
            stderr: Vec::new(),
            ..failure
        }
    }

    /// Takes jobs and runs them side by side, until the instance is retired and all have returned.
    async fn drive(
        &self,
        accessor: &Accessor<State>,
        exports: &Exports,
        jobs: Taker,
    ) -> wasmtime::Result<()> {
        let mut calls = pin!(FuturesUnordered::new());
        let mut retired = pin!(self.retired.cancelled());
        let mut overdue = false;
        // The deadline for what a guest has left running, once it is the only thing left.
        let mut linger: Option<Pin<Box<tokio::time::Sleep>>> = None;
        poll_fn(|context| {
            loop {
                while let Poll::Ready(Some(done)) = calls.as_mut().poll_next(context) {
                    if let Done::Overdue = done? {
                        overdue = true;
                        self.retired.cancel();
                    }
                }
                if let Poll::Ready(job) = jobs.poll_next(context) {
                    calls.push(self.call(accessor, exports, job));
                    continue;
                }
                let retiring = retired.as_mut().poll(context).is_ready();
                if !retiring || !calls.is_empty() {
                    return Poll::Pending;
                }
                if !jobs.close_if_empty() {
                    // One has come meanwhile.
                    continue;
                }
                // What is overdue would never be done.
                if overdue || accessor.poll_no_interesting_tasks(context).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                let linger = linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
                return linger.as_mut().poll(context).map(|()| {
                    warn!("what the guest has left running is given up with its instance");
                    Ok(())
                });
            }
        })
        .await
    }

    async fn call(
        &self,
        accessor: &Accessor<State>,
        exports: &Exports,
        job: Job,
    ) -> wasmtime::Result<Done> {
        let Job {
            call,
            wall_time,
            done,
            counted: _counted,
        } = job;
        self.running.fetch_add(1, Ordering::Relaxed);
        let finish = |outcome| {
            self.running.fetch_sub(1, Ordering::Relaxed);
            // Nobody has to wait for it any more.
            let _ = done.send(outcome);
        };
        // What few calls need is boxed: thousands wait here.
        let Some(wall_time) = wall_time else {
            finish(Ok(exports.call(accessor, call).await?));
            return Ok(Done::Returned);
        };
        let deadline = Instant::now() + wall_time;
        Box::pin(async {
            tokio::select! {
                result = exports.call(accessor, call) => {
                    finish(Ok(result?));
                    Ok(Done::Returned)
                }
                () = sleep_until(deadline) => {
                    finish(Err(Failure::wall_time(wall_time)));
                    Ok(Done::Overdue)
                }
            }
        })
        .await
    }
}

impl Exports {
    async fn call(
        &self,
        accessor: &Accessor<State>,
        call: Call,
    ) -> wasmtime::Result<Result<(), Error>> {
        match call {
            Call::Handle(request) => {
                let request = accessor.with(|mut access| access.get().table.push(request))?;
                let handler = self.app.fanfare_sse_handler_async();
                handler.call_handle(accessor, request).await
            }
            Call::Start => {
                let lifecycle = self.app.fanfare_sse_lifecycle_async();
                Box::pin(lifecycle.call_start(accessor)).await
            }
            Call::Disconnected(gone) => {
                if let Some(hooks) = &self.disconnect {
                    let hook = hooks.fanfare_sse_disconnect_hook_async();
                    Box::pin(hook.call_disconnected(accessor, *gone)).await?;
                }
                Ok(Ok(()))
            }
            Call::Occupancy(told) => {
                if let Some(hooks) = &self.occupancy {
                    Box::pin(tell_occupancy(hooks, accessor, *told)).await?;
                }
                Ok(Ok(()))
            }
        }
    }
}

async fn tell_occupancy(
    hooks: &OccupancyHooksAsync,
    accessor: &Accessor<State>,
    told: Occupancy,
) -> wasmtime::Result<()> {
    let publisher = accessor.with(|mut access| access.get().table.push(told.publisher))?;
    let hook = hooks.fanfare_sse_occupancy_hook_async();
    match told.occupied {
        true => {
            hook.call_channel_occupied(accessor, publisher, told.channel)
                .await
        }
        false => {
            hook.call_channel_vacated(accessor, publisher, told.channel)
                .await
        }
    }
}
