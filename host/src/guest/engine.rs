//! The engine: how guests are compiled, the threads they run on, and the ticks that make them give up the CPU.

use std::{thread, time::Duration};

use tokio::runtime::Handle;
use wasmtime::{Cache, Config, Engine};

/// How long a guest runs before it lets others run. Also what limits of CPU time are measured by.
const TICK: Duration = Duration::from_millis(10);

/// A guest's stack; deeper recursion traps.
const STACK_BYTES: usize = 512 * 1024;

/// What all guests of a node run on.
#[derive(Debug, Clone)]
pub struct Guests {
    /// Compiles them.
    pub engine: Engine,
    /// Where their calls run: threads of their own, so that however many guests compute, events are delivered.
    pub threads: Handle,
}

/// An engine whose epoch ticks for as long as it lives. Compiled code is cached in the user's cache folder, where
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
    let engine = Engine::new(&config)?;
    let weak = engine.weak();
    thread::Builder::new()
        .name("fanfare-epoch".into())
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(TICK);
            }
        })?;
    Ok(engine)
}
