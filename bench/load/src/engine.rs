//! The thread that holds all streams of a load.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, TryRecvError},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use mio::{Events, Poll, Token};

use crate::{
    plan::Plan,
    report::Report,
    stream::{Shared, Step, Stream},
};

/// The token of what wakes the thread; streams have their numbers.
pub const WAKE: Token = Token(usize::MAX);

/// How long a stream may be on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The bytes read at once.
const SCRATCH: usize = 256 * 1024;

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// To forget what was measured, and answer then.
    Reset(Sender<()>),
    /// To answer with what was measured so far.
    Report(Sender<Report>),
    /// To end, and answer with what was measured.
    Stop {
        /// As in `Sequence::finish`.
        end: Option<u64>,
        /// Where the report goes.
        report: Sender<Report>,
    },
    /// To end.
    Quit,
}

/// What the thread tells while it runs, about the time since the last reset.
#[derive(Debug, Default)]
pub struct Tally {
    pub open: AtomicU64,
    pub opened: AtomicU64,
    pub closed: AtomicU64,
    pub failed: AtomicU64,
    pub events: AtomicU64,
    pub payloads: AtomicU64,
    pub lost: AtomicU64,
}

/// All streams, and what is known about them.
pub struct Engine {
    plan: Plan,
    poll: Poll,
    commands: Receiver<Command>,
    tally: Arc<Tally>,
    streams: Vec<Stream>,
    /// Streams to open as soon as that may be.
    queue: VecDeque<usize>,
    /// Streams to open at a time.
    later: BinaryHeap<Reverse<(Instant, usize)>>,
    on_their_way: usize,
    open: usize,
    /// Before this, a rate of connects lets none begin.
    next_connect: Instant,
    next_look: Instant,
    report: Report,
    measured_since: Instant,
    scratch: Vec<u8>,
}

impl Engine {
    pub fn new(plan: Plan, poll: Poll, commands: Receiver<Command>, tally: Arc<Tally>) -> Self {
        let now = Instant::now();
        Self {
            streams: (0..plan.streams)
                .map(|number| Stream::new(number, &plan))
                .collect(),
            queue: (0..plan.streams).collect(),
            later: BinaryHeap::new(),
            on_their_way: 0,
            open: 0,
            next_connect: now,
            next_look: now + LOOK,
            report: Report::new(plan.streams),
            measured_since: now,
            scratch: vec![0; SCRATCH],
            plan,
            poll,
            commands,
            tally,
        }
    }

    /// Runs until it is told to end.
    pub fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.connect();
            let timeout = self
                .next_deadline()
                .saturating_duration_since(Instant::now());
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                if event.token() != WAKE {
                    self.ready(event);
                }
            }
            self.give_up();
            self.tell();
            if self.obey() {
                return Ok(());
            }
        }
    }

    /// Opens what may be opened now.
    fn connect(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, index))) = self.later.peek().copied()
            && due <= now
        {
            self.later.pop();
            self.queue.push_back(index);
        }
        let mut begun = 0;
        while self.on_their_way < self.plan.in_flight && begun < self.plan.in_flight {
            if self.plan.rate.is_some() && self.next_connect > now {
                return;
            }
            let Some(index) = self.queue.pop_front() else {
                return;
            };
            if let Some(rate) = self.plan.rate {
                // A rate is kept on the whole: who was late may hurry for up to a tenth of a second.
                let earliest = now.checked_sub(Duration::from_millis(100)).unwrap_or(now);
                self.next_connect = self.next_connect.max(earliest)
                    + Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
            }
            begun += 1;
            let stream = &mut self.streams[index];
            match stream.connect(&self.plan, self.poll.registry(), Token(index)) {
                Ok(()) => self.on_their_way += 1,
                Err(error) => self.failed(index, error),
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let mut next = self.next_look;
        if let Some(Reverse((due, _))) = self.later.peek() {
            next = next.min(*due);
        }
        if !self.queue.is_empty() && self.on_their_way < self.plan.in_flight {
            next = next.min(self.next_connect);
        }
        next
    }

    fn ready(&mut self, event: &mio::event::Event) {
        let index = event.token().0;
        let stream = &mut self.streams[index];
        let (was_open, was_on_its_way) = (stream.is_open(), stream.on_its_way().is_some());
        let step = stream.ready(
            event,
            &mut Shared {
                plan: &self.plan,
                report: &mut self.report,
                scratch: &mut self.scratch,
            },
        );
        // It may have opened and ended in one step.
        self.on_their_way -= usize::from(was_on_its_way);
        self.open -= usize::from(was_open);
        match step {
            Step::Stays => {
                self.on_their_way += usize::from(stream.on_its_way().is_some());
                self.open += usize::from(stream.is_open());
            }
            Step::Left => {
                self.report.left += 1;
                stream.close();
                *stream = Stream::new(index, &self.plan);
                self.queue.push_back(index);
            }
            Step::Closed => {
                self.report.closed += 1;
                stream.close();
                self.come_back(index);
            }
            Step::Failed(error) => self.failed(index, error),
        }
    }

    fn failed(&mut self, index: usize, error: anyhow::Error) {
        *self.report.failed.entry(format!("{error:#}")).or_default() += 1;
        self.streams[index].close();
        self.come_back(index);
    }

    fn come_back(&mut self, index: usize) {
        if let Some(pause) = self.plan.reconnect {
            let pause = self.streams[index].retry().unwrap_or(pause);
            self.later.push(Reverse((Instant::now() + pause, index)));
        }
    }

    /// Ends what is on its way for too long.
    fn give_up(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        if self.on_their_way == 0 {
            return;
        }
        for index in 0..self.streams.len() {
            let started = self.streams[index].on_its_way();
            if started.is_some_and(|started| now.duration_since(started) > PATIENCE) {
                self.on_their_way -= 1;
                self.failed(index, anyhow!("no answer in {} s", PATIENCE.as_secs()));
            }
        }
    }

    fn tell(&self) {
        let (tally, report) = (&self.tally, &self.report);
        tally.open.store(self.open as u64, Relaxed);
        tally.opened.store(report.opened, Relaxed);
        tally.closed.store(report.closed, Relaxed);
        tally.failed.store(report.failures(), Relaxed);
        tally.events.store(report.events, Relaxed);
        tally.payloads.store(report.payloads, Relaxed);
        tally.lost.store(report.faults.lost, Relaxed);
    }

    /// Does what it is told. Whether it is to end.
    fn obey(&mut self) -> bool {
        loop {
            // Who waits for an answer and has gone needs none.
            match self.commands.try_recv() {
                Ok(Command::Reset(done)) => {
                    self.report = self.report.without_measures();
                    self.measured_since = Instant::now();
                    self.tell();
                    let _ = done.send(());
                }
                Ok(Command::Report(report)) => {
                    let _ = report.send(self.finish(None));
                }
                Ok(Command::Stop { end, report }) => {
                    let _ = report.send(self.finish(end));
                    return true;
                }
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    fn finish(&mut self, end: Option<u64>) -> Report {
        self.report.elapsed = self.measured_since.elapsed();
        self.report.open = self.open;
        self.report.last_event_id = self.streams.iter().find_map(Stream::last_event_id);
        if let Some(end) = end {
            for stream in &mut self.streams {
                stream.finish(end, &mut self.report);
            }
        }
        self.report.clone()
    }
}
