//! What guests import: one file for each interface of the contract.

mod connections;
mod events;
mod publishers;
mod publishing;
mod redis;
mod registry;
mod requests;

use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi_config::WasiConfig;

use super::{
    bindings::fanfare::sse::{self, errors::Error},
    error::HostError,
    state::State,
};

/// Everything the host offers. What is not added here, no guest can call.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut State| {
        WasiConfig::new(&state.shared.variables)
    })?;
    sse::errors::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::events::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::requests::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::connections::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::redis_clients::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::redis::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::publishers::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::publishing::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    sse::registry::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

impl sse::errors::Host for State {
    fn convert_error(&mut self, error: HostError) -> wasmtime::Result<Error> {
        error.into_contract()
    }
}
