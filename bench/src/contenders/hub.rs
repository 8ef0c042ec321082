//! This host's hub without a guest, in `serve/hub.rs`.

use std::path::Path;

use anyhow::Result;

use super::{Contender, Demand, Own, Plain, Readiness, Server, Work, serve};
use crate::process::{Process, free_address};

pub struct Hub;

impl Contender for Hub {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn works(&self) -> &'static [Work] {
        &[Work::Streams, Work::Repeats]
    }

    fn prepare(&mut self) -> Result<Readiness> {
        Ok(Readiness::Ready)
    }

    fn start(&self, demand: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let address = free_address()?;
        let mut command = serve("hub", address)?;
        command.args(["--backlog", &demand.backlog.to_string()]);
        if let Some(age) = demand.history_age {
            command.args(["--history-age-ms", &age.as_millis().to_string()]);
        }
        let process = Process::start(&mut command, address, folder)?;
        Ok(Box::new(Own {
            plain: Plain { process, address },
            admin: address,
            guest: None,
        }))
    }
}
