//! Requests that are no streams: one after another on connections that are kept.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Registry, Token, net::TcpStream};

use crate::{
    body::Framing,
    head::{self, Head},
    report, source,
    target::Target,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bytes read at once.
const SCRATCH: usize = 64 * 1024;

/// What to ask, and for how long.
#[derive(Clone, Debug)]
pub struct Requests {
    /// What is asked, by GET.
    pub target: Target,
    /// How many connections; on each, one request after another.
    pub connections: usize,
    /// What is right: status 200 and this body.
    pub body: Vec<u8>,
    /// For how long requests are sent; what was sent by then is waited for.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Answers that were right.
    pub right: u64,
    /// Those that were wrong, or did not come, by the reason.
    pub wrong: BTreeMap<String, u64>,
    /// From the first connect to the last answer.
    pub elapsed: Duration,
    /// From a request to its answer, in microseconds.
    pub latency: Histogram<u64>,
}

impl Requests {
    /// Sends them, on this thread. Fails if it cannot connect, or if an answer takes more than 30 s.
    pub fn send(&self) -> Result<Answers> {
        let mut poll = Poll::new()?;
        let request = self.target.plain_request();
        let mut connections = (0..self.connections)
            .map(|number| Connection::open(self, number, &request, poll.registry()))
            .collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        let mut answers = Answers {
            right: 0,
            wrong: BTreeMap::new(),
            elapsed: Duration::ZERO,
            latency: report::histogram(),
        };
        let (mut events, mut scratch) = (Events::with_capacity(1024), vec![0; SCRATCH]);
        let mut waiting = connections.len();
        while waiting > 0 {
            match poll.poll(&mut events, Some(PATIENCE)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            ensure!(!events.is_empty(), "no answer in {PATIENCE:?}");
            for event in &events {
                let number = event.token().0;
                let connection = &mut connections[number];
                // Its server may close it once it has answered the last request.
                if connection.is_done {
                    continue;
                }
                match connection.ready(&mut scratch) {
                    Ok(false) => continue,
                    Ok(true) => match connection.judge(&self.body) {
                        Ok(()) => {
                            answers.right += 1;
                            let took = connection.sent_at.elapsed().as_micros();
                            answers
                                .latency
                                .saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                        }
                        Err(error) => answers.note(&error),
                    },
                    Err(error) => {
                        answers.note(&error);
                        if start.elapsed() < self.duration {
                            *connection =
                                Connection::open(self, number, &request, poll.registry())?;
                            continue;
                        }
                    }
                }
                match start.elapsed() < self.duration {
                    true => connection.ask(&request),
                    false => {
                        connection.is_done = true;
                        waiting -= 1;
                    }
                }
            }
        }
        answers.elapsed = start.elapsed();
        Ok(answers)
    }
}

impl Answers {
    fn note(&mut self, error: &Error) {
        *self.wrong.entry(format!("{error:#}")).or_default() += 1;
    }

    /// How many were wrong or did not come.
    pub fn failures(&self) -> u64 {
        self.wrong.values().sum()
    }
}

/// A connection with a request on its way.
struct Connection {
    socket: TcpStream,
    /// Nothing more is asked over it.
    is_done: bool,
    /// What is still to be sent of the request.
    unsent: Vec<u8>,
    sent_at: Instant,
    /// What has come of the head.
    head: Vec<u8>,
    /// The head, once it is whole.
    answer: Option<Head>,
    body: Vec<u8>,
}

impl Connection {
    fn open(plan: &Requests, number: usize, request: &[u8], registry: &Registry) -> Result<Self> {
        let mut socket =
            source::connect(plan.target.address(), number, false).context("cannot connect")?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut socket, Token(number), interest)?;
        Ok(Self {
            socket,
            is_done: false,
            unsent: request.to_vec(),
            sent_at: Instant::now(),
            head: Vec::new(),
            answer: None,
            body: Vec::new(),
        })
    }

    /// Prepares the next request, and sends it as far as that may be.
    fn ask(&mut self, request: &[u8]) {
        self.unsent.clear();
        self.unsent.extend_from_slice(request);
        self.sent_at = Instant::now();
        self.answer = None;
        self.body.clear();
        // What is wrong with the socket is seen when it is read.
        let _ = self.flush();
    }

    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A socket that is still connecting is told to be none.
                Err(error) if is_early(&error) => return Ok(()),
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(())
    }

    /// Sends and reads what can be. Whether the answer is whole.
    fn ready(&mut self, scratch: &mut [u8]) -> Result<bool> {
        self.flush()?;
        loop {
            match self.socket.read(scratch) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => {
                    if self.feed(&scratch[..count])? {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_early(&error) => return Ok(false),
                Err(error) => return Err(error).context("cannot read"),
            }
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<bool> {
        if self.answer.is_none() {
            let Some((head, taken)) = head::feed(&mut self.head, bytes)? else {
                return Ok(false);
            };
            ensure!(
                head.framing != Framing::until_the_end(),
                "an answer that ends with its connection"
            );
            self.answer = Some(head);
            bytes = &bytes[taken..];
        }
        let Some(head) = &mut self.answer else {
            return Ok(false);
        };
        head.framing
            .feed(bytes, |part| self.body.extend_from_slice(part))
    }

    fn judge(&self, body: &[u8]) -> Result<()> {
        let status = self.answer.as_ref().map(|head| head.status);
        ensure!(status == Some(200), "status {}", status.unwrap_or_default());
        ensure!(self.body == body, "a wrong body");
        Ok(())
    }
}

fn is_early(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}
