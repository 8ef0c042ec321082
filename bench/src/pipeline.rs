//! Publishing by one request for each event, to servers that cannot be asked for rounds.

use std::{cell::RefCell, net::SocketAddr, thread};

use anyhow::Result;
use fanfare_bench_protocol::{Publish, Published};

use crate::http::Client;

/// How many requests may be without an answer. They leave together.
const WINDOW: usize = 64;

/// Requests on one connection, sent before the answers to those before them have come.
struct Pipeline {
    client: Client,
    method: &'static str,
    unanswered: usize,
}

/// Publishes by requests of one method: `request` makes target, type and body of each.
pub fn publish(
    address: SocketAddr,
    publish: &Publish,
    method: &'static str,
    request: impl Fn(&str, String) -> (String, &'static str, String),
) -> Result<Published> {
    let pipeline = RefCell::new(Pipeline {
        client: Client::connect(address)?,
        method,
        unanswered: 0,
    });
    let published = publish.rounds(
        |pause| {
            // What is prepared leaves before the pause. The next request fails where this one did.
            let _ = pipeline.borrow_mut().client.flush();
            thread::sleep(pause);
        },
        |channel, _, data| pipeline.borrow_mut().ask(request(channel, data)),
    )?;
    let mut pipeline = pipeline.into_inner();
    pipeline.client.flush()?;
    while pipeline.unanswered > 0 {
        pipeline.answer()?;
    }
    Ok(published)
}

impl Pipeline {
    fn ask(&mut self, (target, kind, body): (String, &str, String)) -> Result<()> {
        let content = Some((kind, body.as_bytes()));
        self.client.write(self.method, &target, content);
        self.unanswered += 1;
        if self.unanswered < WINDOW {
            return Ok(());
        }
        self.client.flush()?;
        while self.unanswered > WINDOW / 2 {
            self.answer()?;
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<()> {
        self.unanswered -= 1;
        self.client.answer(self.method)?.success().map(|_| ())
    }
}
