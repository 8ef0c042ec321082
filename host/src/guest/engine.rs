//! The engines: how guests are compiled, where their instances lie, and the threads they run on.

use std::{path::Path, sync::Arc, thread};

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::Handle;
use tracing::{debug, info};
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy,
    PoolingAllocationConfig, WasmBacktraceDetails,
};

use super::{
    check::Flavour,
    limits::{MEMORIES, TABLES},
    threads::{Threads, priority::give_way},
    ticker::Ticker,
};

/// A guest's stack; deeper recursion traps.
const STACK_BYTES: usize = 512 * 1024;

/// Address space that the memories of all instances may take. A process has 128 TiB on the smallest machines of today,
/// and shares them with the rest.
const ADDRESS_SPACE: u64 = 64 << 40;
/// What a memory takes of it, however small it is: 4 GiB and what lies around it, so that no access needs a check.
const MEMORY_SPACE: u64 = (4 << 30) + (64 << 20);
/// Elements of one table. The largest guests, which bring an interpreter along, have some ten thousand functions.
const TABLE_ELEMENTS: usize = 50_000;
/// Core instances of one component, at most.
const CORE_INSTANCES: u32 = 32;
/// What instances that are gone leave behind for the next one of the same guest: setting so much to zero costs less
/// than to have it taken away and faulted in again.
const KEPT_MEMORY: usize = 128 * 1024;
const KEPT_TABLE: usize = 32 * 1024;
/// Places of such instances that are kept; others give their memory back.
const KEPT_PLACES: u32 = 64;
/// Stacks of one instance of the asynchronous world, beside one for each call that may wait in a function that is
/// lowered for blocking.
const STACKS: u32 = 16;

/// How many instances there may be at a time, of all apps of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instances {
    /// Of the blocking world: one for each call in flight.
    pub blocking: u32,
    /// Of the asynchronous world.
    pub asynchronous: u32,
}

/// What all guests of a node run on. Clones share it.
#[derive(Clone)]
pub struct Guests {
    blocking: Engine,
    asynchronous: Engine,
    /// Where their calls run.
    pub threads: Threads,
    /// Where they are compiled: threads that give way to those that serve.
    compilers: Arc<ThreadPool>,
}

/// What keeps a node from running guests.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine.
    #[error("cannot make the engine for guests: {0:#}")]
    Engine(wasmtime::Error),
    /// No threads.
    #[error("cannot start the threads for guests: {0}")]
    Threads(#[from] std::io::Error),
    /// No threads for compilers.
    #[error("cannot start the threads that compile guests: {0}")]
    Compilers(#[from] rayon::ThreadPoolBuildError),
}

impl Guests {
    /// Engines for so many instances. Compiled code is cached in a folder, or in the user's folder for such things;
    /// what guests need of a runtime they take from this one.
    pub fn new(
        instances: Instances,
        cache: Option<&Path>,
        runtime: &Handle,
    ) -> Result<Self, EngineError> {
        let cache = open_cache(cache);
        let engine = |flavour, count, stacks| {
            engine(flavour, count, stacks, cache.as_ref()).map_err(EngineError::Engine)
        };
        // Each call waits on a stack of its own, whichever its world: no app takes those of another.
        let Instances {
            blocking: calls,
            asynchronous: shared,
        } = instances;
        let blocking = engine(Flavour::Blocking, calls, calls)?;
        let stacks = calls.saturating_add(shared.saturating_mul(STACKS));
        let asynchronous = engine(Flavour::Asynchronous, shared, stacks)?;
        let compilers = ThreadPoolBuilder::new()
            .thread_name(|number| format!("fanfare-compile{number}"))
            .start_handler(|_| give_way())
            .num_threads(thread::available_parallelism().map_or(1, usize::from))
            .build()?;
        let ticker = Ticker::start(&[&blocking, &asynchronous])?;
        Ok(Self {
            threads: Threads::start(runtime, &ticker)?,
            blocking,
            asynchronous,
            compilers: Arc::new(compilers),
        })
    }

    /// The engine for guests of a flavour. They differ, because what calls that wait in one instance need costs every
    /// call of the others.
    pub fn engine(&self, flavour: Flavour) -> &Engine {
        match flavour {
            Flavour::Blocking => &self.blocking,
            Flavour::Asynchronous => &self.asynchronous,
        }
    }

    /// Runs what compiles, on threads that give way to those that serve. Blocks.
    pub fn compile<R: Send>(&self, compile: impl FnOnce() -> R + Send) -> R {
        self.compilers.install(compile)
    }
}

fn open_cache(folder: Option<&Path>) -> Option<Cache> {
    let config = match folder {
        Some(folder) => {
            let mut config = CacheConfig::new();
            config.with_directory(folder);
            Ok(config)
        }
        None => CacheConfig::from_file(None),
    };
    let cache = config.and_then(|mut config| {
        // Else the cache would compress what was used 256 times once more and better: a hundred megabytes and seconds
        // of CPU of a node that serves, to save disk.
        config.with_optimized_compression_usage_counter_threshold(u64::MAX);
        Cache::new(config)
    });
    match cache {
        Ok(cache) => Some(cache),
        // A read-only home is a fine place to run a server from.
        Err(error) => {
            debug!("compiled guests are not cached: {error:#}");
            None
        }
    }
}

fn engine(
    flavour: Flavour,
    instances: u32,
    stacks: u32,
    cache: Option<&Cache>,
) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(2 * STACK_BYTES)
        .epoch_interruption(true)
        // The lines of the source are looked up elsewhere (`source.rs`).
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .cache(cache.cloned());
    match flavour {
        Flavour::Blocking => config.concurrency_support(false),
        Flavour::Asynchronous => config.wasm_component_model_async(true),
    };
    if let Some(pool) = pool(instances, stacks) {
        let mut pooled = config.clone();
        pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        match Engine::new(&pooled) {
            Ok(engine) => return Ok(engine),
            Err(error) => info!(
                "instances of guests are allocated one by one, which is slower, because there is no address space \
                 for {instances} of them: {error:#}"
            ),
        }
    }
    Engine::new(&config)
}

/// Places for so many instances; none where they would take too much of the address space.
fn pool(instances: u32, stacks: u32) -> Option<PoolingAllocationConfig> {
    // Place for the most that each may have: no app takes another one's.
    let memories = instances.checked_mul(MEMORIES as u32)?;
    if u64::from(memories) * MEMORY_SPACE > ADDRESS_SPACE {
        info!(
            "instances of guests are allocated one by one, which is slower, because {instances} of them (the limits \
             `calls` of all apps) take more than the {} that are set aside for them",
            ADDRESS_SPACE / MEMORY_SPACE / MEMORIES as u64
        );
        return None;
    }
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.checked_mul(CORE_INSTANCES)?)
        .total_memories(memories)
        .total_tables(instances.checked_mul(TABLES as u32)?)
        .total_stacks(stacks)
        .max_memories_per_component(MEMORIES as u32)
        .max_tables_per_component(TABLES as u32)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_module(MEMORIES as u32)
        .max_tables_per_module(TABLES as u32)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE)
        // What a guest writes to is scattered, its stack, statics and heap: where the kernel says which pages that was,
        // they are what is kept, and not the first ones of its memory.
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(KEPT_PLACES);
    Some(pool)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, path::PathBuf, time::Instant};

    use wasmtime::component::Component;

    use super::*;

    /// The smallest one: magic, version, and the layer of components.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    /// Waits for a file of what the cache counts that says this.
    fn wait_for_counts(folder: &Path, wanted: &str) -> (PathBuf, String) {
        let begun = Instant::now();
        loop {
            for file in files(folder) {
                let counts = fs::read_to_string(&file).unwrap_or_default();
                if file.extension() == Some(OsStr::new("stats")) && counts.contains(wanted) {
                    return (file, counts);
                }
            }
            assert!(begun.elapsed().as_secs() < 60, "{wanted} never came");
            thread::yield_now();
        }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let found = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => vec![entry.path()],
        });
        found.flatten().collect()
    }

    #[test]
    fn what_is_used_often_is_not_compressed_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open_cache(Some(folder.path())).unwrap();
        let engine = engine(Flavour::Blocking, 1, 1, Some(&cache)).unwrap();
        let load = || Component::from_binary(&engine, COMPONENT).unwrap();
        load();
        let (file, counts) = wait_for_counts(folder.path(), "usages = 1\n");
        let often = counts.replace("usages = 1\n", "usages = 1000\n");
        fs::write(file, &often).unwrap();
        // The one of these that would do it is through when the next one counts.
        load();
        wait_for_counts(folder.path(), "usages = 1001\n");
        load();
        let (_, counts) = wait_for_counts(folder.path(), "usages = 1002\n");
        assert_eq!(counts, often.replace("1000", "1002"));
    }
}
