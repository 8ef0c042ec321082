//! What guests import: one file for each interface of the contract.

mod closing;
mod connections;
mod events;
mod http;
mod publishers;
mod publishing;
mod redis;
mod registry;
mod requests;

use wasmtime::component::{Accessor, HasSelf, Linker, Resource, ResourceTableError};
use wasmtime_wasi_config::WasiConfig;

use super::{
    bindings::{
        asynchronous::fanfare::sse as waiting,
        fanfare::sse::{self, errors::Error},
    },
    error::HostError,
    state::State,
};

/// Everything the host offers to guests of the blocking world. What is not added here, no guest can call.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = common(engine)?;
    sse::closing::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::publishing::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::redis::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Everything the host offers to guests of the asynchronous world, which use WASI 0.2 beside 0.3.
pub fn linker_async(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = common(engine)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    http::add_async(&mut linker)?;
    waiting::closing_async::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    waiting::publishing_async::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    waiting::redis_async::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

fn common(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    http::add(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut State| {
        WasiConfig::new(&state.shared.variables)
    })?;
    sse::errors::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::events::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::requests::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::connections::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::redis_clients::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::publishers::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::registry::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// What is behind a handle, for a function of the asynchronous world: it does not hold the instance while it waits.
fn behind<T, R: Clone + 'static>(
    accessor: &Accessor<T, HasSelf<State>>,
    handle: &Resource<R>,
) -> Result<R, ResourceTableError> {
    accessor.with(|mut access| access.get().of(handle))
}

impl sse::errors::Host for State {
    fn convert_error(&mut self, error: HostError) -> wasmtime::Result<Error> {
        error.into_contract(&self.shared)
    }
}
