//! What belongs to one instance of a guest: its handles, its WASI context, its limits.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    limits::MemoryLimit,
    outgoing,
    output::{Output, Stream},
    scope::Scope,
    shared::Shared,
};
use crate::hub::connection::Connection;

/// Random bytes of one host call: making them does not give up the thread.
const RANDOM_BYTES: u64 = 64 * 1024;

/// What a guest holds of a connection.
pub type ConnectionHandle = Arc<Connection>;

/// Connections that were opened and whose clients do not yet hear what they missed.
pub type Held = Arc<Mutex<Vec<ConnectionHandle>>>;

/// The state of one instance.
pub struct State {
    /// What its lines in the log belong to: a call, or the instance itself.
    pub scope: Scope,
    /// What the app's instances share.
    pub shared: Arc<Shared>,
    /// The handles that the guest holds.
    pub table: ResourceTable,
    /// The memory it has.
    pub memory: MemoryLimit,
    /// What it has opened in this turn. Whoever runs the instance lets them go when it waits.
    pub held: Held,
    /// The requests that it sends.
    pub http: outgoing::Context,
    wasi: WasiCtx,
    outputs: [Output; 2],
}

impl State {
    /// A state of an instance whose output is logged in this scope, and that has up to so many handles.
    pub fn new(shared: Arc<Shared>, scope: &Scope, handles: usize) -> Self {
        let output = |stream| Output::new(stream, scope.clone(), shared.log.clone());
        let outputs = [output(Stream::Stdout), output(Stream::Stderr)];
        // Nothing else is granted: no files, no environment, no arguments, no network.
        let wasi = WasiCtx::builder()
            .stdout(outputs[0].clone())
            .stderr(outputs[1].clone())
            .allow_tcp(false)
            .allow_udp(false)
            .max_random_size(RANDOM_BYTES)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        Self {
            scope: scope.clone(),
            table,
            memory: MemoryLimit::new(shared.limits.memory as usize, shared.memory.clone()),
            held: Held::default(),
            http: outgoing::Context::new(shared.outgoing.clone(), scope),
            shared,
            wasi,
            outputs,
        }
    }

    /// Another call begins: what the guest prints from now on is logged in this scope.
    pub fn begin(&mut self, scope: &Scope) {
        self.scope = scope.clone();
        self.http.begin(scope);
        self.memory.refused = None;
        for output in &self.outputs {
            output.begin(scope);
        }
    }

    /// Logs what it has printed without a line ending.
    pub fn finish(&self) {
        for output in &self.outputs {
            output.finish();
        }
    }

    /// The last lines of its stderr.
    pub fn stderr(&self) -> Vec<String> {
        self.outputs[1].tail()
    }

    /// What is behind a handle.
    pub fn of<T: Clone + 'static>(&self, handle: &Resource<T>) -> Result<T, ResourceTableError> {
        self.table.get(handle).cloned()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
