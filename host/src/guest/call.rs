//! A call of a guest: which export, what bounds it, and what became of it.

use std::{fmt, sync::Arc, time::Duration};

use wasmtime::{Engine, Store, UpdateDeadline, component::ResourceTableError};

use crate::broker::publisher::Publisher;

use super::{
    bindings::fanfare::sse::{connections::Disconnection, errors::Error},
    limits::Limit,
    request::Request,
    scope::Scope,
    shared::Shared,
    source::Source,
    state::State,
    threads::{self, Panicked},
};

/// What wasmtime says of a guest that hands over more than it may, and of one that has too many handles of the component
/// model. There is no type for either.
const OUT_OF_HOSTCALL_FUEL: &str = "fuel allocated for hostcalls has been exhausted";
const OUT_OF_HANDLES: &str = "store handle limit exceeded";

/// What of a guest is called.
#[derive(Debug, Clone)]
pub enum Call {
    /// The server hook.
    Start,
    /// The handler, for a request.
    Handle(Arc<Request>),
    /// The hook for a connection that has ended.
    Disconnected(Box<Disconnection>),
    /// The hook for a channel that became occupied or vacated.
    Occupancy(Box<Occupancy>),
}

/// A channel that became occupied or vacated.
#[derive(Debug, Clone)]
pub struct Occupancy {
    /// Whose channel it is.
    pub publisher: Publisher,
    /// Its name.
    pub channel: String,
    /// Whether somebody hears it now.
    pub occupied: bool,
}

/// What became of a call: the guest's own result, or why there is none.
pub type Outcome = Result<Result<(), Error>, Failure>;

/// Why a call did not return.
#[derive(Debug, Clone)]
pub struct Failure {
    /// One line: what happened.
    pub reason: String,
    /// The trap with its backtrace, where there is one.
    pub details: Option<String>,
    /// The last lines that the guest wrote to stderr.
    pub stderr: Vec<String>,
    /// The limit that it reached.
    pub limit: Option<Limit>,
    /// Why it was stopped, if it was, through no fault of its own.
    pub stopped: Option<&'static str>,
}

impl Failure {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            details: None,
            stderr: Vec::new(),
            limit: None,
            stopped: None,
        }
    }

    /// The call was stopped, through no fault of its own.
    pub fn stopped(why: &'static str) -> Self {
        Self {
            stopped: Some(why),
            ..Self::new(format!("was stopped, because {why}"))
        }
    }

    /// The host failed where it must not.
    pub fn of_host(panicked: &Panicked) -> Self {
        Self::new(format!("failed in the host: {panicked}"))
    }

    /// It computed for too long.
    pub fn cpu_time(limit: Duration) -> Self {
        Self {
            limit: Some(Limit::CpuTime),
            ..Self::new(format!(
                "ran for longer than its limit `cpu-time` of {limit:?} and was stopped"
            ))
        }
    }

    /// It lasted for too long.
    pub fn wall_time(limit: Duration) -> Self {
        Self {
            limit: Some(Limit::WallTime),
            ..Self::new(format!(
                "took longer than {limit:?} (limit `wall-time`) and was stopped"
            ))
        }
    }

    /// It trapped, and this is its source.
    pub fn trap(trap: &wasmtime::Error, state: &State, source: &Source) -> Self {
        let limits = &state.shared.limits;
        let root = trap.root_cause();
        let says = |text: &str| root.to_string().contains(text);
        let (limit, why) = if let Some(refused) = state.memory.refused {
            let value = match refused {
                Limit::TotalMemory => limits.total_memory,
                _ => limits.memory,
            };
            let why = format!("it was refused more than its limit {refused} of {value} bytes");
            (Some(refused), why)
        } else if matches!(root.downcast_ref(), Some(ResourceTableError::Full))
            || says(OUT_OF_HANDLES)
        {
            let limit = limits.handles;
            let why = format!("it took more handles than its limit `handles` of {limit}");
            (Some(Limit::Handles), why)
        } else if says(OUT_OF_HOSTCALL_FUEL) {
            let limit = hostcall_bytes(&state.shared);
            let why = format!("it handed over more than its limit `host-call-bytes` of {limit}");
            (Some(Limit::HostCallBytes), why)
        } else {
            (None, String::new())
        };
        let reason = match why.is_empty() {
            true => "trapped".to_owned(),
            false => format!("trapped, after {why}"),
        };
        Self {
            limit,
            details: Some(state.shared.loggable(&source.tell(trap))),
            ..Self::new(reason)
        }
    }

    /// Adds the last lines of the guest's stderr.
    pub fn with_stderr(mut self, stderr: Vec<String>) -> Self {
        self.stderr = stderr;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        // What a guest says itself tells more than where it stood.
        if !self.stderr.is_empty() {
            write!(f, "\nThe last lines of its stderr:")?;
            for line in &self.stderr {
                write!(f, "\n  {line}")?;
            }
        }
        if let Some(details) = &self.details {
            write!(f, "\n{details}")?;
        }
        Ok(())
    }
}

/// A store under the app's limits, for an instance that has up to so many handles. What the guest prints is logged in
/// this scope.
pub fn store(engine: &Engine, shared: &Arc<Shared>, scope: &Scope, handles: usize) -> Store<State> {
    let mut store = Store::new(engine, State::new(shared.clone(), scope, handles));
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(hostcall_bytes(shared));
    store.set_max_component_handles(handles);
    store.set_epoch_deadline(1);
    // A guest that computes gives up the thread at every tick, so that neither it nor its limits need a thread of
    // their own.
    store.epoch_deadline_callback(|_| {
        threads::ticked();
        Ok(UpdateDeadline::Yield(1))
    });
    store
}

/// What may cross the boundary in one host call. No less than the app's other limits let through, so that a guest that
/// is over one of these hears of that.
fn hostcall_bytes(shared: &Shared) -> usize {
    /// Names, headers and the like, beside the bytes that the limits count.
    const BESIDE: u64 = 64 * 1024;
    let limits = &shared.limits;
    let largest = limits.event_data.max(limits.response_body);
    let largest = largest.max(limits.registry_bytes) + BESIDE;
    usize::try_from(largest.max(limits.host_call_bytes)).unwrap_or(usize::MAX)
}
