//! `wasi:http`: requests that guests send. What becomes of them is the business of [`outgoing`](crate::guest::outgoing).

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    Error, WasiHttpCtxView, WasiHttpView,
    p2::bindings::http::types::{ErrorCode, IoError},
};

use crate::guest::state::State;

/// The interface that the function below stands in, in the version that the bindings have.
const TYPES: &str = "wasi:http/types@0.2.12";

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(&mut self.table)
    }
}

/// `types` and `outgoing-handler` of version 0.2, for both worlds.
pub fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    // The library's own finds no code in an error of a body that is read: it looks for a type that these do not have.
    linker.allow_shadowing(true);
    linker
        .instance(TYPES)?
        .func_wrap("http-error-code", error_code)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// `types` and `client` of version 0.3, for the asynchronous world.
pub fn add_async(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p3::add_to_linker(linker)
}

fn error_code(
    store: StoreContextMut<'_, State>,
    (error,): (Resource<IoError>,),
) -> wasmtime::Result<(Option<ErrorCode>,)> {
    let error = store.data().table.get(&error)?;
    let own = error.downcast_ref::<ErrorCode>().cloned();
    Ok((own.or_else(|| error.downcast_ref().and_then(of_body)),))
}

/// The code of an error that a body may end with.
fn of_body(error: &Error) -> Option<ErrorCode> {
    Some(match error {
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Error::HttpResponseBodySize(size) => ErrorCode::HttpResponseBodySize(*size),
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseHeaderSectionSize(size) => {
            ErrorCode::HttpResponseHeaderSectionSize(*size)
        }
        Error::HttpProtocolError => ErrorCode::HttpProtocolError,
        _ => return None,
    })
}
