//! A guest that does what a test tells it, step by step, and reports what the host answered.
//!
//! A script is a JSON list of steps, and a step a list: the name of an operation, then its arguments. It is the body
//! of a request or its query parameter `script`. Each step has a result: `{"ok": value}`, or
//! `{"error": case, "text": sentence}`, after which the script goes on.
//!
//! A script that answers its request in no way itself is answered with the list of its results. What a script that
//! upgrades has done so far stands in the registry, under `results:` and the value of the query parameter `as`, with
//! the field `done` after its last step. The operations are in [`steps`] where they wait, else in [`script`].
//!
//! Besides, the hooks count in the registry: `GET /disconnected` answers what was told of all connections, and
//! `GET /occupancy/NAME` what was told of a channel, `o` for occupied and `v` for vacated.
//!
//! On its start the guest runs the script in the variable `start`, or else starts an in-memory publisher and puts it
//! into the registry under `publisher`. A step that fails there fails the start.

mod ends;
mod report;
mod script;
mod steps;
mod value;
mod version;

use fanfare_guest::{
    App, Disconnected, Disconnection, Occupancy, Publisher, Request, Result, config, registry,
};

use report::Report;
use script::{Script, steps_of};

struct Probe;

impl App for Probe {
    fn start() -> Result<()> {
        version::start()?;
        let Some(steps) = config::get("start")? else {
            let publisher = Publisher::in_memory();
            publisher.start()?;
            return registry::set("publisher", &publisher);
        };
        let mut script = Script::new(None);
        for step in steps_of(steps.as_bytes())? {
            steps::step(&mut script, &step)?;
        }
        Ok(())
    }

    fn handle(request: Request) -> Result<()> {
        let Some(steps) = report::asked(&request)? else {
            return Ok(());
        };
        let mut report = Report::of(&request);
        let mut script = Script::new(Some(&request));
        for step in steps {
            let result = steps::step(&mut script, &step);
            report.add(&script, result)?;
        }
        report.finish(&script, &request)
    }
}

impl Disconnected for Probe {
    fn disconnected(gone: Disconnection) {
        ends::note(gone);
    }
}

impl Occupancy for Probe {
    fn channel_occupied(_: Publisher, channel: String) {
        ends::note_occupancy(&channel, true);
    }

    fn channel_vacated(_: Publisher, channel: String) {
        ends::note_occupancy(&channel, false);
    }
}

fanfare_guest::export!(Probe, disconnected, occupancy);
