//! `durable-streams`, Electric's server for its protocol of that name, without its write-ahead log. A channel is a stream
//! of text, and an event a line of it: what was appended meanwhile comes in one SSE event, with a line of data for each.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result};
use fanfare_bench_protocol::{Publish, Published};

use super::{Contender, Demand, Place, ROOT, Readiness, Server, installed};
use crate::{
    http::Client,
    pipeline,
    process::{Process, free_address},
};

const PROGRAM: &str = "durable-streams-server";

/// A folder to look in besides that one and `PATH`.
const FOLDER: &str = "DURABLE_STREAMS_ROOT";

pub struct DurableStreams;

impl Contender for DurableStreams {
    fn name(&self) -> &'static str {
        "durable-streams"
    }

    fn prepare(&mut self) -> Result<Readiness> {
        Ok(match installed(PROGRAM, FOLDER) {
            Some(_) => Readiness::Ready,
            None => Readiness::Missing(format!("cargo install durable-streams --root {ROOT}")),
        })
    }

    fn start(&self, _: Demand, folder: &Path) -> Result<Box<dyn Server>> {
        let address = free_address()?;
        let mut command = Command::new(installed(PROGRAM, FOLDER).unwrap_or_default());
        command
            .args(["--port", &address.port().to_string()])
            .args(["--durability", "memory", "--data-dir"])
            .arg(folder.join("data"));
        let process = Process::start(&mut command, address, folder)?;
        Ok(Box::new(Running { process, address }))
    }

    /// A stream is a file.
    fn files_per_channel(&self) -> usize {
        1
    }
}

struct Running {
    process: Process,
    address: SocketAddr,
}

impl Server for Running {
    fn process(&self) -> &Process {
        &self.process
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn events(&self, channel: &str) -> String {
        format!("/{channel}?offset=now&live=sse")
    }

    fn create(&self, prefix: &str, channels: usize) -> Result<()> {
        let mut client = Client::connect(self.address)?;
        for channel in 0..channels {
            let target = format!("/{prefix}-{channel}");
            client
                .ask("PUT", &target, Some(("text/plain", b"")))?
                .success()?;
        }
        Ok(())
    }

    fn publish(&self, publish: &Publish) -> Result<Published> {
        pipeline::publish(self.address, publish, "POST", |channel, data| {
            (format!("/{channel}"), "text/plain", data + "\n")
        })
    }

    /// Events have no ids here; the place is asked for.
    fn place(&self, channel: &str, _: Option<String>) -> Result<Option<Place>> {
        let target = format!("/{channel}");
        let answer = Client::connect(self.address)?.ask("HEAD", &target, None)?;
        let offset = answer.header("stream-next-offset").context("no offset")?;
        Ok(Some(Place {
            events: format!("/{channel}?offset={offset}&live=sse"),
            last_event_id: None,
        }))
    }

    fn own_event_type(&self) -> Option<String> {
        Some("control".to_owned())
    }
}
