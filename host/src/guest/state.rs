//! What belongs to one instance of a guest: its handles, its WASI context, its limits.

use std::sync::{Arc, atomic::AtomicBool};

use tracing::Span;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    limits::MemoryLimit,
    output::{Output, Stream},
    shared::Shared,
};
use crate::hub::connection::Connection;

/// Handles that a guest may hold at a time.
const MAX_HANDLES: usize = 10_000;

/// Random bytes of one host call: making them does not give up the thread.
const RANDOM_BYTES: u64 = 64 * 1024;

/// What a guest holds of a connection.
pub type ConnectionHandle = Arc<Connection>;

/// The state of one instance.
pub struct State {
    /// What the app's instances share.
    pub shared: Arc<Shared>,
    /// The handles that the guest holds.
    pub table: ResourceTable,
    /// Set at every tick of the epoch: the guest gives up the thread then, and does not wait for anything.
    pub ticked: Arc<AtomicBool>,
    /// The memory it has.
    pub memory: MemoryLimit,
    wasi: WasiCtx,
}

impl State {
    /// A state whose output is logged in this span; also where its stderr goes.
    pub fn new(shared: Arc<Shared>, span: &Span) -> (Self, [Output; 2]) {
        let output = |stream| Output::new(stream, span.clone(), shared.secrets.clone());
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
        table.set_max_capacity(MAX_HANDLES);
        let memory = MemoryLimit::new(shared.limits.memory as usize);
        (
            Self {
                shared,
                table,
                ticked: Arc::default(),
                memory,
                wasi,
            },
            outputs,
        )
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
