//! The binary `fanfare`: parse, run.

use std::process::ExitCode;

use clap::Parser;
use fanfare::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
