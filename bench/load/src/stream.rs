//! One stream, from its connect to its end.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Error, Result, anyhow, bail};
use fanfare_bench_protocol::payload;
use mio::{Interest, Registry, Token, event::Event, net::TcpStream};

use crate::{
    body::Framing,
    head,
    plan::Plan,
    report::Report,
    sequence::Sequence,
    source,
    sse::{Item, Parser},
};

/// One stream.
#[derive(Debug)]
pub struct Stream {
    number: usize,
    socket: Option<TcpStream>,
    phase: Phase,
    /// What is still to be sent of the request, then what has come of the head.
    buffer: Vec<u8>,
    parser: Parser,
    sequence: Sequence,
    /// When it began to connect.
    started: Instant,
    /// The events since it began to connect.
    heard: u64,
    /// It has been open before.
    is_back: bool,
    /// What its server said about coming back.
    retry: Option<Duration>,
}

/// How far a stream is.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// It has no socket.
    Closed,
    /// It has one, and the request is to be sent.
    Sending,
    /// The head is to come.
    Head,
    /// It is open.
    Open(Framing),
    /// It is open, and reads nothing.
    Stuck,
}

/// What became of a stream.
#[derive(Debug)]
pub enum Step {
    /// Nothing that matters to others.
    Stays,
    /// It has left by plan, and has no socket any more.
    Left,
    /// Its server has ended it.
    Closed,
    /// It could not be opened.
    Failed(Error),
}

/// What all streams of a load share.
pub struct Shared<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Where all is counted.
    pub report: &'a mut Report,
    /// Where bytes are read into.
    pub scratch: &'a mut [u8],
}

impl Stream {
    /// A stream that is not open.
    pub fn new(number: usize, plan: &Plan) -> Self {
        Self {
            number,
            socket: None,
            phase: Phase::Closed,
            buffer: Vec::new(),
            parser: Parser::default(),
            sequence: Sequence::new(plan.expect),
            started: Instant::now(),
            heard: 0,
            is_back: false,
            retry: None,
        }
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Stuck)
    }

    /// Whether it is on its way, since when.
    pub fn on_its_way(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Sending | Phase::Head).then_some(self.started)
    }

    /// The last id that it has heard.
    pub fn last_event_id(&self) -> Option<String> {
        let id = self.parser.last_id();
        (!id.is_empty()).then(|| String::from_utf8_lossy(id).into_owned())
    }

    /// How long to wait before it comes back, if its server said so.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Begins to connect.
    pub fn connect(&mut self, plan: &Plan, registry: &Registry, token: Token) -> Result<()> {
        let last_id = match self.parser.last_id() {
            [] => plan.last_event_id.as_deref().map(str::as_bytes),
            id => Some(id),
        };
        self.buffer = plan.target.request(self.number, &plan.headers, last_id);
        self.started = Instant::now();
        self.heard = 0;
        let stuck = self.number < plan.stuck;
        let mut socket = source::connect(plan.target.address(), self.number, stuck)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        self.socket = Some(socket);
        self.phase = Phase::Sending;
        Ok(())
    }

    /// Closes the socket. What it has heard stays, so that it can come back.
    pub fn close(&mut self) {
        self.socket = None;
        self.phase = Phase::Closed;
        self.buffer = Vec::new();
        // The rest of a line or an event will not come.
        let last_id = self.parser.last_id();
        if last_id.is_empty() {
            self.sequence.forget();
        }
        self.parser = Parser::after(last_id);
    }

    /// The stream is over; `end` as in [`Sequence::finish`].
    pub fn finish(&mut self, end: u64, report: &mut Report) {
        if self.phase != Phase::Stuck {
            self.sequence.finish(end, &mut report.faults);
        }
    }

    /// The socket has something to say.
    pub fn ready(&mut self, event: &Event, shared: &mut Shared) -> Step {
        let was_open = self.is_open();
        match self.go_on(event, shared) {
            Ok(step) => step,
            Err(_) if was_open => Step::Closed,
            Err(error) => Step::Failed(error),
        }
    }

    fn go_on(&mut self, event: &Event, shared: &mut Shared) -> Result<Step> {
        if self.phase == Phase::Sending && !self.send()? {
            return Ok(Step::Stays);
        }
        if self.phase == Phase::Stuck || self.phase == Phase::Closed {
            return Ok(Step::Stays);
        }
        loop {
            let Some(socket) = &mut self.socket else {
                return Ok(Step::Stays);
            };
            let count = match socket.read(shared.scratch) {
                Ok(0) if self.is_open() => return Ok(Step::Closed),
                Ok(0) => bail!("the server closed the connection before an answer"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Stays),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            shared.report.bytes += count as u64;
            let step = self.take(count, shared)?;
            // A read that fills less than it could has taken all there was. Readiness is told once, when it changes.
            let is_all = count < shared.scratch.len() && !event.is_read_closed();
            match step {
                Step::Stays if is_all || self.phase == Phase::Stuck => return Ok(Step::Stays),
                Step::Stays => {}
                step => return Ok(step),
            }
        }
    }

    /// Sends the request, as far as that goes. Whether all is sent.
    fn send(&mut self) -> Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(false);
        };
        if let Some(error) = socket.take_error()? {
            return Err(error.into());
        }
        match socket.write(&self.buffer) {
            Ok(count) if count == self.buffer.len() => {
                self.buffer = Vec::new();
                self.phase = Phase::Head;
                Ok(true)
            }
            Ok(count) => {
                self.buffer.drain(..count);
                Ok(false)
            }
            Err(error) if is_not_yet(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the first bytes of the scratch.
    fn take(&mut self, count: usize, shared: &mut Shared) -> Result<Step> {
        let mut from = 0;
        if self.phase == Phase::Head {
            let bytes = &shared.scratch[..count];
            let Some((head, taken)) = head::feed(&mut self.buffer, bytes)? else {
                return Ok(Step::Stays);
            };
            if head.status != 200 {
                bail!("status {}", head.status);
            }
            if !head.is_stream {
                bail!("what was answered is no event stream");
            }
            self.opened(shared);
            if self.number < shared.plan.stuck {
                self.phase = Phase::Stuck;
                return Ok(Step::Stays);
            }
            self.phase = Phase::Open(head.framing);
            from = taken;
        }
        self.hear(from..count, shared)
    }

    fn opened(&mut self, shared: &mut Shared) {
        let report = &mut *shared.report;
        report.opened += 1;
        report.returned += u64::from(self.is_back);
        report.connect.saturating_record(micros(self.started));
        self.is_back = true;
    }

    fn hear(&mut self, bytes: std::ops::Range<usize>, shared: &mut Shared) -> Result<Step> {
        let Phase::Open(framing) = &mut self.phase else {
            return Err(anyhow!("a stream that is not open hears nothing"));
        };
        let (parser, sequence) = (&mut self.parser, &mut self.sequence);
        let (heard, retry) = (&mut self.heard, &mut self.retry);
        let (plan, report) = (shared.plan, &mut *shared.report);
        let leave_after = plan.leave_after.unwrap_or(u64::MAX);
        let started = self.started;
        let now = payload::now();
        let mut each = |item: Item| match item {
            Item::Event { kind, data } => {
                let skipped = plan.skip_type.as_ref().map(String::as_bytes) == Some(kind);
                if skipped || *heard >= leave_after {
                    return;
                }
                *heard += 1;
                report.events += 1;
                if *heard == 1 {
                    report.first_event.saturating_record(micros(started));
                }
                for line in data.split(|byte| *byte == b'\n') {
                    // Payloads are lines. Some servers put several into an event, with an empty one at its end.
                    if line.is_empty() && data.len() > 1 {
                        continue;
                    }
                    if let Some(payload) = sequence.hear(line, &mut report.faults) {
                        report.payloads += 1;
                        let nanos = now.saturating_sub(payload.nanos);
                        report.latency.saturating_record(nanos / 1000);
                    }
                }
            }
            Item::Retry(time) => *retry = Some(time),
            Item::Comment => {}
        };
        let ended = framing.feed(&shared.scratch[bytes], |part| parser.feed(part, &mut each))?;
        Ok(match () {
            () if self.heard >= leave_after => Step::Left,
            () if ended => Step::Closed,
            () => Step::Stays,
        })
    }
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}

/// Whether a socket is not connected yet, or takes no more.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}
