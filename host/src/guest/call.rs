//! One call of a guest: a fresh instance, its limits, and what became of it.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tracing::{Instrument, Span};
use wasmtime::{Store, UpdateDeadline};

use super::{
    engine::Guests,
    limits::{CpuLimited, CpuTimeUsedUp},
    shared::Shared,
    state::State,
};

/// What may cross the boundary in one host call, at least. It is far more than the limits of most apps, so that a guest
/// hears which limit it is over; past this it traps.
const HOSTCALL_BYTES: u64 = 64 << 20;

/// Why a call did not return.
#[derive(Debug)]
pub struct Failure {
    /// One line: what happened.
    pub reason: String,
    /// The trap with its backtrace, where there is one.
    pub details: Option<String>,
    /// The last lines that the guest wrote to stderr.
    pub stderr: Vec<String>,
    /// Whether it was stopped because the node is shutting down, and through no fault of its own.
    pub stopped: bool,
}

impl Failure {
    /// The call was stopped because the node is shutting down.
    pub fn stopped() -> Self {
        Self {
            reason: "was stopped, because the node is shutting down".into(),
            details: None,
            stderr: Vec::new(),
            stopped: true,
        }
    }

    /// The host failed where it must not.
    pub fn of_host(error: impl fmt::Display) -> Self {
        Self {
            reason: format!("failed in the host: {error}"),
            details: None,
            stderr: Vec::new(),
            stopped: false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if let Some(details) = &self.details {
            write!(f, "\n{details}")?;
        }
        if !self.stderr.is_empty() {
            write!(f, "\nThe last lines of its stderr:")?;
            for line in &self.stderr {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

/// Runs `call` with a store of its own, under the app's limits and for at most so long. Dropping the future drops
/// the store, wherever the guest stands.
pub async fn run<R: Send>(
    guests: Guests,
    shared: Arc<Shared>,
    span: Span,
    wall_time: Option<Duration>,
    call: impl for<'a> FnOnce(&'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<R>>,
) -> Result<R, Failure> {
    let (state, [stdout, stderr]) = State::new(shared.clone(), &span);
    let mut store = Store::new(&guests.engine, state);
    store.limiter(|state| &mut state.memory);
    let limits = &shared.limits;
    let largest = limits.event_data.max(limits.response_body);
    let largest = largest.max(limits.registry_bytes).max(HOSTCALL_BYTES);
    store.set_hostcall_fuel(usize::try_from(largest + HOSTCALL_BYTES / 64).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    // A guest that computes gives up the thread at every tick, so that neither it nor its limits need a thread of
    // their own.
    store.epoch_deadline_callback(|store| {
        store.data().ticked.store(true, Ordering::Relaxed);
        Ok(UpdateDeadline::Yield(1))
    });

    let cpu_time = shared.limits.cpu_time;
    let ticking = guests.ticker.during(call(&mut store));
    let limited = CpuLimited::new(ticking, cpu_time).instrument(span);
    let result = match wall_time {
        None => Ok(limited.await),
        Some(wall_time) => timeout(wall_time, limited).await,
    };
    stdout.finish();
    stderr.finish();
    let (reason, details) = match result {
        Ok(Ok(Ok(result))) => return Ok(result),
        Ok(Ok(Err(trap))) => {
            let reason = match store.data().memory.refused {
                true => format!(
                    "trapped, after it was refused more than its limit `memory` of {} bytes",
                    shared.limits.memory
                ),
                false => "trapped".to_owned(),
            };
            (reason, Some(shared.loggable(&format!("{trap:?}"))))
        }
        Ok(Err(CpuTimeUsedUp)) => (
            format!("ran for longer than its limit `cpu-time` of {cpu_time:?} and was stopped"),
            None,
        ),
        Err(_) => (
            format!(
                "took longer than {:?} (limit `wall-time`) and was stopped",
                wall_time.unwrap_or_default()
            ),
            None,
        ),
    };
    Err(Failure {
        reason,
        details,
        stderr: stderr.tail(),
        stopped: false,
    })
}
