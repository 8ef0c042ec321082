//! The engine: how guests are compiled, and the threads they run on.

use tokio::runtime::Handle;
use wasmtime::{Cache, Config, Engine};

use super::ticker::Ticker;

/// A guest's stack; deeper recursion traps.
const STACK_BYTES: usize = 512 * 1024;

/// What all guests of a node run on.
#[derive(Debug, Clone)]
pub struct Guests {
    /// Compiles them.
    pub engine: Engine,
    /// Where their calls run: threads of their own, so that however many guests compute, events are delivered.
    pub threads: Handle,
    /// Makes them give up the CPU.
    pub ticker: Ticker,
}

/// An engine, which needs a [`Ticker`]. Compiled code is cached in the user's cache folder, where
/// there is one.
pub fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(2 * STACK_BYTES);
    config.epoch_interruption(true);
    match Cache::from_file(None) {
        Ok(cache) => {
            config.cache(Some(cache));
        }
        // A read-only home is a fine place to run a server from.
        Err(error) => tracing::debug!(%error, "compiled guests are not cached"),
    }
    Engine::new(&config)
}
