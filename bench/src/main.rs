//! Measures Fanfare and others that serve event streams, under the same loads, in one run. `README.md` says how to read
//! what it prints.
//!
//! # Layout
//!
//! | module | concept |
//! |---|---|
//! | `brokers` | brokers, each beside its own client |
//! | `contenders` | who is measured: how each is built or found, started and spoken to; one file each |
//! | `loads` | what each is put to; one file each |
//! | `serve` | the contenders that live in this binary |
//! | `run` | every load for every contender |
//! | `figures` | what a load measures, and what of it makes a table |
//! | `table` | rows as text |
//! | `process` | a server as a process: its start and end, CPU time and memory |
//! | `http` | the few requests that are no streams |
//! | `pipeline` | publishing by one request for each event |

mod brokers;
mod contenders;
mod figures;
mod http;
mod loads;
mod pipeline;
mod process;
mod run;
mod serve;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures Fanfare and others that serve event streams, under the same loads, in one run
#[derive(Debug, Parser)]
#[command(name = "fanfare-bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    run: run::Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure brokers, each beside its own client used bare
    Brokers(brokers::Options),
    /// Serve as one of the contenders that live in this binary
    #[command(hide = true, subcommand)]
    Serve(serve::Serve),
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Serve(serve)) => serve.run().map(|()| ExitCode::SUCCESS),
        Some(Command::Brokers(brokers)) => brokers.run(),
        None => cli.run.run(),
    }
}
