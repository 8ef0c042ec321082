//! `fanfare schema`: the JSON schema of `fanfare.toml`.

use std::io::{self, Write};

use anyhow::Result;

use crate::config;

pub fn run() -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &config::schema())?;
    writeln!(out)?;
    Ok(())
}
