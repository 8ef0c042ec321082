//! A bare write loop, on one thread: an event is encoded once, and is one `write` for each stream. Who serves streams
//! by `write` cannot do with less, so this is the floor that others are compared with.
//!
//! It does what has to be done and no more: no ids of its own run, no history, no pings, no limits. What a socket does
//! not take at once is kept and written when it takes more; one who never reads costs memory, and nobody else waits.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use fanfare_bench_protocol::Publish;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

const LISTENER: Token = Token(usize::MAX);

/// How long to wait where nothing is to be published.
const LONG: Duration = Duration::from_secs(3600);

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

/// A socket, and what it hears.
struct Client {
    socket: TcpStream,
    /// What has come of its request.
    request: Vec<u8>,
    channel: Option<String>,
    /// What its socket did not take.
    waiting: Vec<u8>,
}

/// Rounds that are being published.
struct Job {
    publish: Publish,
    start: Instant,
    round: u64,
    /// Who asked.
    client: usize,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    channels: HashMap<String, Vec<usize>>,
    jobs: Vec<Job>,
}

/// Serves until the process is ended.
pub fn serve(listen: SocketAddr) -> Result<()> {
    let mut floor = Floor {
        poll: Poll::new()?,
        listener: TcpListener::bind(listen)?,
        clients: Vec::new(),
        free: Vec::new(),
        channels: HashMap::new(),
        jobs: Vec::new(),
    };
    let registry = floor.poll.registry();
    registry.register(&mut floor.listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    loop {
        let now = Instant::now();
        let due = floor
            .jobs
            .iter()
            .map(|job| job.publish.due(job.start, job.round))
            .min();
        let timeout = due.map_or(LONG, |due| due.saturating_duration_since(now));
        match floor.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept()?,
                Token(index) => floor.ready(index),
            }
        }
        floor.work();
    }
}

impl Floor {
    fn accept(&mut self) -> Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client has gone already.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error.into()),
            };
            socket.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.clients.len());
            let both = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut socket, Token(index), both)?;
            if index == self.clients.len() {
                self.clients.push(None);
            }
            self.clients[index] = Some(Client {
                socket,
                request: Vec::new(),
                channel: None,
                waiting: Vec::new(),
            });
        }
    }

    /// A socket has something to say, or takes more.
    fn ready(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        let is_alive = client.write(&[]).and_then(|()| client.read());
        match is_alive {
            Ok(true) => self.requested(index),
            _ => self.remove(index),
        }
    }

    fn requested(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        let Some(request) = client.take_request() else {
            return;
        };
        if let Some(channel) = request.strip_prefix("GET /events?channel=") {
            let listeners = self.channels.entry(channel.to_owned()).or_default();
            listeners.push(index);
            client.channel = Some(channel.to_owned());
            if client.write(STREAM.as_bytes()).is_err() {
                self.remove(index);
            }
        } else if let Some(query) = request.strip_prefix("POST /publish?") {
            match Publish::from_query(query) {
                Ok(publish) => self.jobs.push(Job {
                    publish,
                    start: Instant::now(),
                    round: 0,
                    client: index,
                }),
                Err(error) => self.answer(index, "400 Bad Request", &error),
            }
        } else {
            self.answer(index, "404 Not Found", "");
        }
    }

    fn answer(&mut self, index: usize, status: &str, body: &str) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        let length = body.len();
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        if client.write(text.as_bytes()).is_err() {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(client) = self.clients[index].take() else {
            return;
        };
        self.free.push(index);
        let Some(channel) = client.channel else {
            return;
        };
        if let Some(listeners) = self.channels.get_mut(&channel) {
            listeners.retain(|listener| *listener != index);
            if listeners.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }

    /// Publishes the rounds that are due.
    fn work(&mut self) {
        for mut job in std::mem::take(&mut self.jobs) {
            if job.round < job.publish.events {
                if job.publish.due(job.start, job.round) > Instant::now() {
                    self.jobs.push(job);
                    continue;
                }
                self.round(&job);
                job.round += 1;
            }
            if job.round < job.publish.events {
                self.jobs.push(job);
            } else {
                let published = job.publish.published(job.start);
                self.answer(job.client, "200 OK", &published.json());
            }
        }
    }

    fn round(&mut self, job: &Job) {
        let mut gone = Vec::new();
        let each = job.publish.round(job.round, |channel, payload, data| {
            let Some(listeners) = self.channels.get(channel) else {
                return Ok(());
            };
            let event = format!("id: {}\ndata: {data}\n\n", payload.number);
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            for index in listeners {
                if let Some(client) = &mut self.clients[*index]
                    && client.write(chunk.as_bytes()).is_err()
                {
                    gone.push(*index);
                }
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = each;
        for index in gone {
            self.remove(index);
        }
    }
}

impl Client {
    /// Reads what is there. Whether the client is still there.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => self.request.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Method and target of the request, once its head is whole. It has no body.
    fn take_request(&mut self) -> Option<String> {
        let is_whole = self.request.windows(4).any(|four| four == b"\r\n\r\n");
        if !is_whole {
            return None;
        }
        let head = String::from_utf8_lossy(&self.request).into_owned();
        self.request = Vec::new();
        let line = head.lines().next().unwrap_or_default();
        Some(line.trim_end_matches(" HTTP/1.1").to_owned())
    }

    /// Writes what waits and these bytes; what the socket does not take waits.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.waiting.is_empty() {
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = taken(self.socket.write(bytes))?;
            self.waiting.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        self.waiting.extend_from_slice(bytes);
        let taken = taken(self.socket.write(&self.waiting))?;
        self.waiting.drain(..taken);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        Ok(())
    }
}

fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
