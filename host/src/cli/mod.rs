//! The commands of the binary, one file each.

mod schema;
mod serve;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// A Server-Sent Events server that its users program in WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one guest without a configuration, or all apps of a fanfare.toml
    Serve(serve::Serve),
    /// Open many streams of an address, here or elsewhere, and say how they fare
    Bench(fanfare_load::Options),
    /// Print the JSON schema of fanfare.toml, for editors
    Schema,
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Bench(options) => options.run(),
            Command::Schema => schema::run(),
        }
    }
}
