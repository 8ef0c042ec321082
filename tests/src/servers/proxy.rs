//! What a test puts between a client and a server: TCP that can be cut, refused and held back.
//!
//! To cut in the middle of an exchange, after the server has done what it was asked and before the client hears of it:
//! [`hold`](Proxy::hold) what goes [`ToClient`](Way::ToClient), have the client ask, wait with
//! [`wait_until_held`](Proxy::wait_until_held) for the answer, and [`cut`](Proxy::cut). Where many ask all the time,
//! [`cut_in`](Proxy::cut_in) finds the middle of an exchange by itself.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::ports;
use crate::wait;

/// How much is read at once, and so held of each connection. What comes after it waits with whom it comes from.
const CHUNK: usize = 64 * 1024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

/// Where an exchange is cut in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Middle {
    /// A part of the request has gone to the server.
    Request,
    /// The request has, and nothing of what the server says after that comes back.
    Between,
    /// Half of what the server says next comes back.
    Answer,
}

/// A proxy on a port of its own; its connections end when it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    server: String,
    refuses: bool,
    connections: Vec<Arc<Connection>>,
    ways: [Flow; 2],
    cutting: Option<Cutting>,
}

/// An exchange that is to be cut.
struct Cutting {
    /// What its request has in it.
    request: Vec<u8>,
    middle: Middle,
    /// Connections that such a request has gone over.
    asked: Vec<Arc<Connection>>,
}

#[derive(Default)]
struct Flow {
    is_held: bool,
    held: usize,
    passed: u64,
}

/// A client's connection and the one to the server that belongs to it.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Whether one of the two ways has ended.
    is_half_open: AtomicBool,
}

impl Proxy {
    /// A proxy to this address, `host:port`, which need not answer yet.
    #[track_caller]
    pub fn start(server: &str) -> Self {
        let proxy = Self {
            port: ports::free(),
            shared: Arc::default(),
            listener: Mutex::default(),
        };
        proxy.lead_to(server);
        proxy.accept();
        proxy
    }

    /// Its port, on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Leads new connections to this address, `host:port`.
    pub fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.shared.lock().server);
    }

    /// Closes all connections. What was held back of them is lost.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Closes all connections in the middle of the next exchange whose request has these bytes in it.
    pub fn cut_in(&self, request: &[u8], middle: Middle) {
        self.shared.lock().cutting = Some(Cutting {
            request: request.to_owned(),
            middle,
            asked: Vec::new(),
        });
    }

    /// Waits until an exchange was cut in two.
    #[track_caller]
    pub fn wait_until_cut(&self) {
        wait::until_true("an exchange is cut", || {
            self.shared.lock().cutting.is_none()
        });
    }

    /// Refuses new connections, as if nobody listened. Those that are there go on.
    #[track_caller]
    pub fn refuse(&self) {
        self.end_listening();
        // A process that was started meanwhile has a copy of the socket until it runs its program.
        wait::until_true("nobody listens any more", || {
            TcpStream::connect(self.address()).is_err()
        });
    }

    fn end_listening(&self) {
        let Some(listener) = self.listener().take() else {
            return;
        };
        self.shared.lock().refuses = true;
        // So that it looks. If it does not answer, it has ended.
        let _ = TcpStream::connect(self.address());
        // Where it has panicked, that was shown.
        let _ = listener.join();
    }

    /// Takes new connections again after [`refuse`](Self::refuse).
    #[track_caller]
    pub fn accept(&self) {
        let mut listener = self.listener();
        if listener.is_some() {
            return;
        }
        let socket = TcpListener::bind(("127.0.0.1", self.port)).expect("the port is its own");
        self.shared.lock().refuses = false;
        let shared = self.shared.clone();
        *listener = Some(thread::spawn(move || listen(&socket, &shared)));
    }

    /// A test that fails while it has the proxy listen leaves it whole.
    fn listener(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on keeps what goes this way, on all connections.
    pub fn hold(&self, way: Way) {
        self.shared.lock().ways[way as usize].is_held = true;
    }

    /// Lets go what was held this way, and what comes.
    pub fn resume(&self, way: Way) {
        self.shared.lock().ways[way as usize].is_held = false;
        self.shared.changed.notify_all();
    }

    /// How many bytes are being held that go this way.
    pub fn held(&self, way: Way) -> usize {
        self.shared.lock().ways[way as usize].held
    }

    /// How many bytes have gone this way since the start.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.lock().ways[way as usize].passed
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// Waits until bytes are being held that go this way.
    #[track_caller]
    pub fn wait_until_held(&self, way: Way) {
        wait::until_true("bytes come that are held", || self.held(way) > 0);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end_listening();
        self.cut();
    }
}

impl Shared {
    /// A test that fails while it looks at the state leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for connection in self.lock().connections.drain(..) {
            connection.close();
        }
        self.changed.notify_all();
    }
}

impl State {
    /// How many of these bytes still go before everything is cut; `None` where nothing is to be cut yet.
    fn cut_after(&mut self, connection: &Arc<Connection>, way: Way, bytes: &[u8]) -> Option<usize> {
        let cutting = self.cutting.as_mut()?;
        let goes = match (way, cutting.middle) {
            (Way::ToServer, Middle::Request) => {
                cutting.place_in(bytes)? + cutting.request.len() / 2
            }
            (Way::ToServer, _) => {
                cutting.place_in(bytes)?;
                cutting.asked.push(connection.clone());
                return None;
            }
            (Way::ToClient, middle) => {
                let mut asked = cutting.asked.iter();
                asked.find(|known| Arc::ptr_eq(known, connection))?;
                match middle {
                    Middle::Answer => bytes.len().div_ceil(2),
                    _ => 0,
                }
            }
        };
        self.cutting = None;
        Some(goes)
    }

    fn has(&self, connection: &Arc<Connection>) -> bool {
        self.connections
            .iter()
            .any(|known| Arc::ptr_eq(known, connection))
    }

    fn forget(&mut self, connection: &Arc<Connection>) {
        self.connections
            .retain(|known| !Arc::ptr_eq(known, connection));
    }
}

impl Cutting {
    fn place_in(&self, bytes: &[u8]) -> Option<usize> {
        let mut parts = bytes.windows(self.request.len());
        parts.position(|part| part == self.request)
    }
}

impl Connection {
    fn close(&self) {
        // One that is closed already is as it is to be.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    /// Where bytes that go this way come from, and where they go.
    fn ends(&self, way: Way) -> (&TcpStream, &TcpStream) {
        match way {
            Way::ToServer => (&self.client, &self.server),
            Way::ToClient => (&self.server, &self.client),
        }
    }
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        let server = {
            let state = shared.lock();
            if state.refuses {
                return;
            }
            state.server.clone()
        };
        // A client whose server is not there finds its connection closed.
        let Ok((client, _)) = accepted else { continue };
        let Ok(server) = TcpStream::connect(server) else {
            continue;
        };
        for socket in [&client, &server] {
            socket.set_nodelay(true).expect("a socket has options");
        }
        let connection = Arc::new(Connection {
            client,
            server,
            is_half_open: AtomicBool::new(false),
        });
        shared.lock().connections.push(connection.clone());
        for way in [Way::ToServer, Way::ToClient] {
            let (connection, shared) = (connection.clone(), shared.clone());
            thread::spawn(move || carry(&connection, way, &shared));
        }
    }
}

/// Carries bytes until the connection ends. An end is carried too, after what came before it.
fn carry(connection: &Arc<Connection>, way: Way, shared: &Shared) {
    let (mut from, mut to) = connection.ends(way);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk);
        let mut state = shared.lock();
        let length = read.as_ref().copied().unwrap_or(0);
        state.ways[way as usize].held += length;
        while state.ways[way as usize].is_held && state.has(connection) {
            let waited = shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.ways[way as usize].held -= length;
        if !state.has(connection) {
            return;
        }
        let cut = state.cut_after(connection, way, &chunk[..length]);
        let goes = cut.unwrap_or(length);
        state.ways[way as usize].passed += goes as u64;
        drop(state);
        if cut.is_some() {
            // Who is gone by now gets nothing.
            let _ = to.write_all(&chunk[..goes]);
            return shared.cut();
        }
        match read {
            Ok(length @ 1..) if to.write_all(&chunk[..length]).is_ok() => {}
            Ok(0) if !connection.is_half_open.swap(true, Ordering::Relaxed) => {
                // The other way may go on.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            _ => {
                connection.close();
                shared.lock().forget(connection);
                return shared.changed.notify_all();
            }
        }
    }
}
