//! One call of a guest: a fresh instance, its limits, and what became of it.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tracing::{Instrument, Span};
use wasmtime::{Engine, Store};

use super::{
    limits::{CpuLimited, CpuTimeUsedUp},
    shared::Shared,
    state::State,
};
use std::sync::Arc;

/// What crosses the boundary in one host call: the largest event and the largest body fit many times over.
const HOSTCALL_BYTES: usize = 128 << 20;

/// Why a call did not return.
#[derive(Debug)]
pub struct Failure {
    /// One line: what happened.
    pub reason: String,
    /// The trap with its backtrace, where there is one.
    pub details: Option<String>,
    /// The last lines that the guest wrote to stderr.
    pub stderr: Vec<String>,
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

/// Runs `call` with a store of its own, under the app's limits. Dropping the future drops the store, wherever
/// the guest stands.
pub async fn run<R: Send>(
    engine: &Engine,
    shared: &Arc<Shared>,
    span: Span,
    call: impl for<'a> FnOnce(&'a mut Store<State>) -> BoxFuture<'a, wasmtime::Result<R>>,
) -> Result<R, Failure> {
    let limits = &shared.limits;
    let (state, [stdout, stderr]) = State::new(shared.clone(), &span);
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_epoch_deadline(1);
    // A guest that computes gives up the thread at every tick, so that neither it nor its limits need a thread of
    // their own.
    store.epoch_deadline_async_yield_and_update(1);

    let limited = CpuLimited::new(call(&mut store), limits.cpu_time).instrument(span);
    let result = match limits.wall_time {
        Duration::ZERO => Ok(limited.await),
        wall_time => timeout(wall_time, limited).await,
    };
    stdout.finish();
    stderr.finish();
    let memory_refused = store.data().memory.refused;
    let (reason, details) = match result {
        Ok(Ok(Ok(result))) => return Ok(result),
        Ok(Ok(Err(trap))) => {
            let reason = match memory_refused {
                true => format!(
                    "trapped, after it was refused more than its limit `memory` of {} bytes",
                    limits.memory
                ),
                false => "trapped".to_owned(),
            };
            (reason, Some(format!("{trap:?}")))
        }
        Ok(Err(CpuTimeUsedUp)) => (
            format!(
                "ran for longer than its limit `cpu-time` of {:?} and was stopped",
                limits.cpu_time
            ),
            None,
        ),
        Err(_) => (
            format!(
                "took longer than its limit `wall-time` of {:?} and was stopped",
                limits.wall_time
            ),
            None,
        ),
    };
    Err(Failure {
        reason,
        details,
        stderr: stderr.tail(),
    })
}
