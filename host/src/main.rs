//! The binary `fanfare`: parse, run.

use std::process::ExitCode;

use clap::Parser;
use fanfare::cli::Cli;
use tikv_jemallocator::Jemalloc;

/// Gives memory back whichever thread frees it: after a million channels were forgotten a node has 8 MB more than before,
/// where the system's allocator and others keep hundreds. Its settings are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
