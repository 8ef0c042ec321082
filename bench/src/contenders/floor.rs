//! The floor: a bare write loop, in `serve/floor.rs`.

use std::path::Path;

use anyhow::Result;

use super::{Contender, Demand, Plain, Readiness, Server, serve};
use crate::process::{Process, free_address};

pub struct Floor;

impl Contender for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn prepare(&mut self) -> Result<Readiness> {
        Ok(Readiness::Ready)
    }

    fn start(&self, _: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let address = free_address()?;
        let process = Process::start(&mut serve("floor", address)?, address, folder)?;
        Ok(Box::new(Plain { process, address }))
    }
}
