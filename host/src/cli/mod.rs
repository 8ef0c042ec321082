//! The commands of the binary, one file each; [`node`] is how they ask a running node, [`run`] is a node itself.

mod apps;
mod deploy;
mod dev;
mod inspect;
mod node;
mod rollback;
mod run;
mod schema;
mod serve;

use std::{
    fmt,
    io::{self, Write},
};

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
    /// Serve a guest, and build and swap it whenever its source changes
    Dev(dev::Dev),
    /// Give an app of a running node new code, without closing a stream
    Deploy(deploy::Deploy),
    /// List the apps of a running node, or the versions of one
    Apps(apps::Apps),
    /// Have an app of a running node serve a version that it served before
    Rollback(rollback::Rollback),
    /// Say whether a guest can be served, what it exports and imports, and what it would need to be granted
    Inspect(inspect::Inspect),
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
            Command::Dev(dev) => dev.run(),
            Command::Deploy(deploy) => deploy.run(),
            Command::Apps(apps) => apps.run(),
            Command::Rollback(rollback) => rollback.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Bench(options) => options.run(),
            Command::Schema => schema::run(),
        }
    }
}

/// Says something on standard output, if anybody reads it: nobody has to.
fn tell(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{words}");
}

/// A text that others have written, on one line: no character of it moves the cursor or colours the terminal.
fn line(text: &str) -> String {
    let escape = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(escape).collect()
}

/// As [`line`], of a text that may have several.
fn lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(line).collect();
    lines.join("\n  ")
}

/// A number of bytes as people say it.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_others_wrote_has_no_control_characters_when_it_is_shown() {
        let text = "\u{1b}[2Jgrüße\tx\r\nall is well\u{9b}1m\u{7f}";
        let shown = line(text);
        assert_eq!(
            shown,
            "\\u{1b}[2Jgrüße\\tx\\r\\nall is well\\u{9b}1m\\u{7f}"
        );
        let shown = lines(text);
        assert_eq!(shown, "\\u{1b}[2Jgrüße\\tx\n  all is well\\u{9b}1m\\u{7f}");
    }

    #[test]
    fn sizes_are_said_in_few_digits() {
        for (bytes, said) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (3 << 20, "3.0 MiB"),
        ] {
            assert_eq!(size(bytes), said);
        }
    }
}
