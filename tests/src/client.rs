//! HTTP/1.1 over a socket of its own, plain or TLS: requests, answers, event streams, and anything else a test wants
//! to write.

pub mod chunks;

mod body;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Instant,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, SockRef, Type};

use self::body::{Http1Body, framing};
use crate::{
    stream::{Body, End, Leave, Stream},
    wait::PATIENCE,
};

/// What is read at a time.
const FILL: usize = 64 * 1024;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its target: path and query.
    pub target: String,
    /// Its headers, in their order. `host` and `content-length` are added where they are missing.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST.
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body)
    }

    /// A GET such as `EventSource` sends it.
    pub fn events(target: &str) -> Self {
        Self::get(target)
            .header("accept", "text/event-stream")
            .header("cache-control", "no-store")
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Says what was heard last.
    pub fn last_event_id(self, id: &str) -> Self {
        self.header("last-event-id", id)
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether it has a header of this name.
    fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The request as HTTP/1.1, for this host.
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.has("host") {
            out += &format!("host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            out += &format!("{name}: {value}\r\n");
        }
        let framed = self.has("content-length") || self.has("transfer-encoding");
        if !framed && (!self.body.is_empty() || self.method == "POST") {
            out += &format!("content-length: {}\r\n", self.body.len());
        }
        out += "\r\n";
        let mut out = out.into_bytes();
        out.extend_from_slice(&self.body);
        out
    }
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Status line and headers as they came, with the empty line; empty for HTTP/2, which has no such form.
    pub raw: Vec<u8>,
    /// The version, such as `HTTP/1.1`.
    pub version: String,
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All headers of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let mut lines = text.split("\r\n").take_while(|line| !line.is_empty());
        let status_line = lines.next().unwrap_or_default();
        let mut parts = status_line.splitn(3, ' ');
        let version = parts.next().unwrap_or_default().to_owned();
        let status = parts.next().and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("this is no response of HTTP: {text:?}"));
        let headers = lines.map(|line| {
            let (name, value) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("this is no header: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self {
            version,
            status,
            headers: headers.collect(),
            raw: raw.to_vec(),
        }
    }
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its head.
    pub head: Head,
    /// Its body, without chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as a text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

/// A client's socket.
pub struct Socket {
    tcp: TcpStream,
    tls: Option<StreamOwned<ClientConnection, TcpStream>>,
    address: SocketAddr,
    /// What was read and belongs to what comes next.
    buffer: Vec<u8>,
}

impl Socket {
    /// A plain socket.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect_timeout(&address, PATIENCE).expect("the node takes sockets");
        Self::over(tcp, address)
    }

    /// A plain socket for which the kernel takes few bytes more than are read.
    #[track_caller]
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)
            .expect("a socket");
        // Set before it connects: the window that is offered first is never taken back.
        socket
            .set_recv_buffer_size(4096)
            .expect("a socket has options");
        socket
            .connect_timeout(&address.into(), PATIENCE)
            .expect("the node takes sockets");
        Self::over(socket.into(), address)
    }

    /// A plain socket of a client with this address.
    #[track_caller]
    pub fn connect_from(client: IpAddr, address: SocketAddr) -> Self {
        let domain = Domain::for_address(address);
        let tcp = socket2::Socket::new(domain, Type::STREAM, None).expect("there are sockets");
        tcp.bind(&SocketAddr::new(client, 0).into())
            .expect("the address is this machine's");
        tcp.connect_timeout(&address.into(), PATIENCE)
            .expect("the node takes sockets");
        Self::over(tcp.into(), address)
    }

    fn over(tcp: TcpStream, address: SocketAddr) -> Self {
        tcp.set_nodelay(true).expect("a socket has options");
        tcp.set_read_timeout(Some(PATIENCE))
            .expect("a socket has options");
        tcp.set_write_timeout(Some(PATIENCE))
            .expect("a socket has options");
        Self {
            tcp,
            tls: None,
            address,
            buffer: Vec::new(),
        }
    }

    /// A socket with TLS, for `localhost`.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let mut socket = Self::connect(address);
        let name = ServerName::try_from("localhost").expect("a good name");
        let connection = ClientConnection::new(config, name).expect("a good configuration");
        let tcp = socket.tcp.try_clone().expect("a socket can be cloned");
        let mut tls = StreamOwned::new(connection, tcp);
        tls.conn
            .complete_io(&mut tls.sock)
            .expect("the TLS handshake succeeds");
        socket.tls = Some(tls);
        socket
    }

    /// What TLS agreed to speak, such as `h2`.
    pub fn alpn(&self) -> Option<String> {
        let protocol = self.tls.as_ref()?.conn.alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Writes all of it.
    #[track_caller]
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes)
            .expect("the node takes what it is sent");
    }

    /// Writes all of it, unless the other side has had enough.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.write_all(bytes.as_ref()).and_then(|()| tls.flush()),
            None => self.tcp.write_all(bytes.as_ref()),
        }
    }

    /// Sends a request.
    #[track_caller]
    pub fn send(&mut self, request: &Request) {
        self.write(request.encode(&self.address.to_string()));
    }

    /// Sends a request and reads the complete response to it.
    #[track_caller]
    pub fn request(&mut self, request: &Request) -> Response {
        self.send(request);
        self.response(&request.method)
    }

    /// Reads a response, to a request of this method, to its end.
    #[track_caller]
    pub fn response(&mut self, method: &str) -> Response {
        let head = self.head();
        let mut framing = framing(&head, method);
        let mut body = Vec::new();
        loop {
            match framing.next(self) {
                Ok(bytes) => body.extend_from_slice(&bytes),
                Err(End::Complete) => return Response { head, body },
                Err(End::Cut) => {
                    panic!("the response was cut after {} bytes: {head:?}", body.len())
                }
            }
        }
    }

    /// Sends a request and reads the head of the response, which has to be an event stream.
    #[track_caller]
    pub fn open(mut self, request: &Request) -> Stream {
        self.send(request);
        let stream = self.stream(&request.method);
        assert_eq!(
            (stream.head().status, stream.head().header("content-type")),
            (200, Some("text/event-stream")),
            "this is no event stream"
        );
        stream
    }

    /// Reads the head of a response and gives the rest to be read as it comes.
    #[track_caller]
    pub fn stream(mut self, method: &str) -> Stream {
        let head = self.head();
        let framing = framing(&head, method);
        Stream::new(
            head,
            Box::new(Http1Body {
                socket: self,
                framing,
            }),
        )
    }

    /// Reads the head of a response.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        let end = loop {
            if let Some(place) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break place + 4;
            }
            if self.fill() == 0 {
                panic!(
                    "the node closed the socket within a head: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
            }
        };
        let rest = self.buffer.split_off(end);
        Head::parse(&std::mem::replace(&mut self.buffer, rest))
    }

    /// Waits until the other side closes the socket, and returns what it sent before.
    #[track_caller]
    pub fn wait_closed(&mut self) -> Vec<u8> {
        let begun = Instant::now();
        while self.fill() > 0 {
            assert!(begun.elapsed() < PATIENCE, "the node goes on sending");
        }
        std::mem::take(&mut self.buffer)
    }

    /// Reads at least one byte and at most so many; nothing at the end.
    #[track_caller]
    pub fn read_some(&mut self, most: usize) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill_with(most);
        }
        let rest = self.buffer.split_off(most.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn half_close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.conn.send_close_notify();
            tls.flush().expect("the socket is open");
        }
        self.tcp
            .shutdown(Shutdown::Write)
            .expect("the socket is open");
    }

    /// Closes it so that the other side gets a reset.
    pub fn reset(self) {
        SockRef::from(&self.tcp)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a socket has options");
    }

    /// Reads more into the buffer; 0 at the end, for which a reset counts as well.
    #[track_caller]
    fn fill(&mut self) -> usize {
        self.fill_with(FILL)
    }

    /// As [`Socket::fill`], at most so many bytes.
    #[track_caller]
    fn fill_with(&mut self, most: usize) -> usize {
        let mut chunk = [0; FILL];
        let chunk = &mut chunk[..most.min(FILL)];
        let read = match &mut self.tls {
            Some(tls) => tls.read(chunk),
            None => self.tcp.read(chunk),
        };
        match read {
            Ok(bytes) => {
                self.buffer.extend_from_slice(&chunk[..bytes]);
                bytes
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the node sent nothing for {PATIENCE:?}")
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => self.fill_with(most),
            Err(_) => 0,
        }
    }
}

impl Body for Http1Body {
    fn next(&mut self) -> Result<Vec<u8>, End> {
        self.framing.next(&mut self.socket)
    }

    fn leave(self: Box<Self>, manner: Leave) {
        match manner {
            Leave::Close => drop(self),
            Leave::Reset => self.socket.reset(),
        }
    }
}
