//! axum's `Sse` over tokio's `broadcast`, in `serve/axum.rs`.

use std::path::Path;

use anyhow::Result;

use super::{Contender, Demand, Plain, Readiness, Server, Work, serve};
use crate::process::{Process, free_address};

/// What a broadcast keeps at least.
const LEAST: usize = 16;

pub struct Axum;

impl Contender for Axum {
    fn name(&self) -> &'static str {
        "axum"
    }

    fn works(&self) -> &'static [Work] {
        &[Work::Streams, Work::Calls]
    }

    fn prepare(&mut self) -> Result<Readiness> {
        Ok(Readiness::Ready)
    }

    fn start(&self, demand: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let address = free_address()?;
        // Its places are made with the channel, not with the events: as many as are needed, and no more.
        let capacity = demand.backlog.max(LEAST);
        let mut command = serve("axum", address)?;
        command.args(["--capacity", &capacity.to_string()]);
        let process = Process::start(&mut command, address, folder)?;
        Ok(Box::new(Plain { process, address }))
    }
}
