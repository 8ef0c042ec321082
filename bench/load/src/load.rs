//! A load from outside.

use std::{
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use mio::{Poll, Waker};

use crate::{
    engine::{Command, Engine, Tally, WAKE},
    plan::Plan,
    report::Report,
};

/// How often [`Load::wait`] looks.
const LOOK: Duration = Duration::from_millis(2);

/// Files that a load leaves to the rest of the process.
const OTHER_FILES: u64 = 64;

/// Streams that are being opened, or are open. Dropping it closes them.
#[derive(Debug)]
pub struct Load {
    commands: Sender<Command>,
    waker: Waker,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// How far a load is, since its start or the last reset; what went wrong, since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Streams that are open now.
    pub open: u64,
    /// Streams that opened.
    pub opened: u64,
    /// Streams that were ended by their server.
    pub closed: u64,
    /// Streams that could not be opened.
    pub failed: u64,
    /// Events that came.
    pub events: u64,
    /// Payloads of the benchmark among them.
    pub payloads: u64,
    /// Payloads that did not come, as far as that is known.
    pub lost: u64,
}

impl Load {
    /// Begins to open streams, on a thread of its own. Raises the process's limit of open files where it may, and fails
    /// where that is too low for so many streams.
    pub fn start(plan: Plan) -> Result<Self> {
        ensure!(plan.in_flight > 0, "no stream could be on its way");
        // Where it cannot be raised, what it is counts.
        let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
        ensure!(
            plan.streams as u64 + OTHER_FILES <= files,
            "{} streams need more open files than the limit of {files}: ulimit -n",
            plan.streams
        );
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (commands, receiver) = mpsc::channel();
        let tally = Arc::new(Tally::default());
        let engine = Engine::new(plan, poll, receiver, tally.clone());
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || engine.run())?;
        Ok(Self {
            commands,
            waker,
            tally,
            thread: Some(thread),
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let tally = &self.tally;
        Progress {
            open: tally.open.load(Relaxed),
            opened: tally.opened.load(Relaxed),
            closed: tally.closed.load(Relaxed),
            failed: tally.failed.load(Relaxed),
            events: tally.events.load(Relaxed),
            payloads: tally.payloads.load(Relaxed),
            lost: tally.lost.load(Relaxed),
        }
    }

    /// Waits until it is as far as that, at most so long. Whether it is.
    pub fn wait(&self, at_most: Duration, mut until: impl FnMut(Progress) -> bool) -> bool {
        let start = Instant::now();
        while !until(self.progress()) {
            if start.elapsed() > at_most {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// What was measured so far.
    pub fn report(&self) -> Result<Report> {
        let (report, reports) = mpsc::channel();
        self.command(Command::Report(report))?;
        reports.recv().context("the load has ended")
    }

    /// Forgets what was measured so far, but not what went wrong. Streams stay, and know what they have heard.
    pub fn reset(&self) -> Result<()> {
        let (done, is_done) = mpsc::channel();
        self.command(Command::Reset(done))?;
        is_done.recv().context("the load has ended")
    }

    /// Closes all streams and says what was measured. `end` is the number after that of the last event that each should
    /// have heard, where that is known.
    pub fn stop(mut self, end: Option<u64>) -> Result<Report> {
        let (report, reports) = mpsc::channel();
        let told = self.command(Command::Stop { end, report });
        let report = told.and_then(|()| reports.recv().context("the load has ended"));
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the load panicked"))??;
        }
        report
    }

    fn command(&self, command: Command) -> Result<()> {
        self.commands
            .send(command)
            .map_err(|_| anyhow!("the load has ended"))?;
        self.waker.wake().context("cannot reach the load")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // One that has ended is not there to be told.
        let _ = self.command(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
