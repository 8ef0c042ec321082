//! The guest `probe` in the asynchronous flavour: the same scripts, with the same results. What waits is in [`steps`];
//! the rest is shared.

mod bell;
#[path = "../../probe/src/ends.rs"]
mod ends;
#[path = "../../probe/src/report.rs"]
mod report;
#[path = "../../probe/src/script.rs"]
mod script;
mod steps;
#[path = "../../probe/src/value.rs"]
mod value;
#[path = "../../probe/src/version.rs"]
mod version;

use fanfare_guest::asynchronous::{
    App, Disconnected, Disconnection, Occupancy, Publisher, Request, Result, config, registry,
};

use report::Report;
use script::{Script, steps_of};

struct Probe;

impl App for Probe {
    async fn start() -> Result<()> {
        version::start()?;
        let Some(steps) = config::get("start")? else {
            let publisher = Publisher::in_memory();
            publisher.start().await?;
            return registry::set("publisher", &publisher);
        };
        let mut script = Script::new(None);
        for step in steps_of(steps.as_bytes())? {
            steps::step(&mut script, &step).await?;
        }
        Ok(())
    }

    async fn handle(request: Request) -> Result<()> {
        let Some(steps) = report::asked(&request)? else {
            return Ok(());
        };
        let mut report = Report::of(&request);
        let mut script = Script::new(Some(&request));
        for step in steps {
            let result = steps::step(&mut script, &step).await;
            report.add(&script, result)?;
        }
        report.finish(&script, &request)
    }
}

impl Disconnected for Probe {
    async fn disconnected(gone: Disconnection) {
        ends::note(gone);
    }
}

impl Occupancy for Probe {
    async fn channel_occupied(_: Publisher, channel: String) {
        ends::note_occupancy(&channel, true);
    }

    async fn channel_vacated(_: Publisher, channel: String) {
        ends::note_occupancy(&channel, false);
    }
}

fanfare_guest::asynchronous::export!(Probe, occupancy, disconnected);
