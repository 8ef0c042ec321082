//! `wasmtime serve`, with the handler of `bench/guest-wasi-http`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{Contender, Demand, Plain, ROOT, Readiness, Server, Work, guest, installed};
use crate::process::{Process, free_address};

const PROGRAM: &str = "wasmtime";

/// A folder to look in besides the usual ones.
const FOLDER: &str = "WASMTIME_ROOT";

/// What serving needs of it.
const FEATURES: &str = "run,serve,cranelift,component-model,component-model-async,pooling-allocator,parallel-compilation";

/// As many as an instance of `fanfare-reused` serves.
const REUSED: &str = "1000";

/// How the handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// An instance for each request: its default for handlers of this kind.
    Fresh,
    /// An instance for [`REUSED`] requests, one after another.
    Reused,
}

pub struct Wasmtime {
    variant: Variant,
    guest: PathBuf,
}

impl Wasmtime {
    pub fn new(variant: Variant) -> Self {
        Self {
            variant,
            guest: PathBuf::new(),
        }
    }
}

impl Contender for Wasmtime {
    fn name(&self) -> &'static str {
        match self.variant {
            Variant::Fresh => "wasmtime",
            Variant::Reused => "wasmtime-reused",
        }
    }

    fn works(&self) -> &'static [Work] {
        &[Work::Calls]
    }

    fn prepare(&mut self) -> Result<Readiness> {
        if installed(PROGRAM, FOLDER).is_none() {
            return Ok(Readiness::Missing(format!(
                "cargo install wasmtime-cli --no-default-features --features {FEATURES} --root {ROOT}"
            )));
        }
        self.guest = guest("fanfare-bench-guest-wasi-http")?;
        Ok(Readiness::Ready)
    }

    fn start(&self, _: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let address = free_address()?;
        let mut command = Command::new(installed(PROGRAM, FOLDER).unwrap_or_default());
        command.args(["serve", "-S", "cli", "--addr", &address.to_string()]);
        if self.variant == Variant::Reused {
            command.args(["--max-instance-reuse-count", REUSED]);
        }
        command.arg(&self.guest);
        let process = Process::start(&mut command, address, folder)?;
        Ok(Box::new(Plain { process, address }))
    }
}
