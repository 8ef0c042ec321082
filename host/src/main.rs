//! The binary `fanfare`: parse, run.

use std::process::ExitCode;

use clap::Parser;
use fanfare::cli::Cli;
use mimalloc::MiMalloc;

/// Requests come and go by the thousand while streams stay: here what is small and stays does not keep the pages of
/// what was large and went.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
