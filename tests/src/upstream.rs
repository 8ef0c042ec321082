//! A server that guests send requests to: the test says every byte of its answers, and when.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    tls::Certificates,
    wait::{self, PATIENCE},
};

/// A server on a free port of loopback.
pub struct Upstream {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

/// A request that it got, on a connection of its own.
pub struct Exchange {
    socket: Socket,
    /// The first line, such as `GET / HTTP/1.1`.
    pub line: String,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, of which `content-length` tells the length.
    pub body: Vec<u8>,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Upstream {
    /// A plain server.
    #[track_caller]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        listener
            .set_nonblocking(true)
            .expect("a socket has options");
        Self {
            listener,
            tls: None,
        }
    }

    /// A server that speaks TLS.
    #[track_caller]
    pub fn start_tls(certificates: &Certificates) -> Self {
        let chain = CertificateDer::pem_file_iter(certificates.certificate()).expect("a file");
        let chain = chain.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(certificates.key()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("good versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a good certificate");
        Self {
            tls: Some(Arc::new(config)),
            ..Self::start()
        }
    }

    /// Where it is.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Its origin, such as `http://127.0.0.1:1234`.
    #[track_caller]
    pub fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// A connection, of which nothing was read.
    #[track_caller]
    pub fn accept_raw(&self) -> TcpStream {
        let socket = wait::until("somebody connects to the upstream", || self.try_accept());
        socket.set_nodelay(true).expect("a socket has options");
        socket.set_nonblocking(false).expect("a socket has options");
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&socket, Some(PATIENCE)).expect("a socket has options");
        }
        socket
    }

    /// The next request.
    #[track_caller]
    pub fn accept(&self) -> Exchange {
        let socket = self.accept_raw();
        Exchange::read(match &self.tls {
            None => Socket::Plain(socket),
            Some(config) => {
                let connection = ServerConnection::new(config.clone()).expect("good settings");
                Socket::Tls(Box::new(StreamOwned::new(connection, socket)))
            }
        })
    }

    /// A connection whose TLS handshake the other side gives up.
    #[track_caller]
    pub fn accept_tls_failure(&self) {
        let mut socket = self.accept_raw();
        let config = self.tls.clone().expect("this server speaks TLS");
        let mut connection = ServerConnection::new(config).expect("good settings");
        while connection.is_handshaking() {
            if connection.complete_io(&mut socket).is_err() {
                return;
            }
        }
        let mut byte = [0];
        let read = StreamOwned::new(connection, socket).read(&mut byte);
        assert!(!matches!(read, Ok(1)), "the other side goes on");
    }

    /// Holds that nobody has connected since the last that was accepted.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert!(self.try_accept().is_none(), "somebody has connected");
    }

    fn try_accept(&self) -> Option<TcpStream> {
        self.listener.accept().ok().map(|(socket, _)| socket)
    }
}

impl Exchange {
    #[track_caller]
    fn read(mut socket: Socket) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a request comes");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("a head is text");
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.take_while(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').expect("this is a header");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let mut exchange = Self {
            socket,
            line,
            headers: headers.collect(),
            body: Vec::new(),
        };
        let length = exchange
            .header("content-length")
            .map_or("0", |length| length);
        exchange.body = vec![0; length.parse().expect("a length is a number")];
        exchange
            .socket
            .read_exact(&mut exchange.body)
            .expect("the body comes");
        exchange
    }

    /// The only header of this name.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    /// Writes bytes.
    #[track_caller]
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket
            .write_all(bytes.as_ref())
            .and_then(|()| self.socket.flush())
            .expect("the node takes what it is sent");
    }

    /// Writes the head of a response in chunks: `status` is such as `200 OK`, `headers` are whole lines.
    #[track_caller]
    pub fn head(&mut self, status: &str, headers: &[&str]) {
        let mut head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n");
        for header in headers {
            head += &format!("{header}\r\n");
        }
        self.write(head + "\r\n");
    }

    /// Writes a chunk.
    #[track_caller]
    pub fn chunk(&mut self, bytes: &str) {
        self.write(format!("{:x}\r\n{bytes}\r\n", bytes.len()));
    }

    /// Writes a chunk that is an event.
    #[track_caller]
    pub fn event(&mut self, data: &str) {
        self.chunk(&format!("data: {data}\n\n"));
    }

    /// Writes the last chunk.
    #[track_caller]
    pub fn end(&mut self) {
        self.write("0\r\n\r\n");
    }

    /// Answers with a complete response.
    #[track_caller]
    pub fn answer(mut self, status: &str, headers: &[&str], body: &str) {
        self.head(status, headers);
        if !body.is_empty() {
            self.chunk(body);
        }
        self.end();
    }

    /// Closes the connection, whatever was said.
    pub fn cut(self) {
        drop(self);
    }

    /// Waits until the other side has closed the connection.
    #[track_caller]
    pub fn wait_closed(mut self) {
        let mut byte = [0];
        match self.socket.read(&mut byte) {
            Ok(0) => {}
            Ok(_) => panic!("more was sent than the request"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection was not closed for {PATIENCE:?}")
            }
            Err(_) => {}
        }
    }

    /// Writes as much as the other side takes, until it has taken nothing for so long or has taken `most`. Returns how
    /// much that was, in bytes.
    #[track_caller]
    pub fn flood(&mut self, pause: Duration, most: usize) -> usize {
        let Socket::Plain(socket) = &mut self.socket else {
            panic!("only a plain server floods");
        };
        socket
            .set_write_timeout(Some(pause))
            .expect("a socket has options");
        let (bytes, mut written) = ([b'x'; 1 << 16], 0);
        while written < most {
            match socket.write(&bytes) {
                Ok(count) => written += count,
                Err(_) => break,
            }
        }
        written
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(socket) => socket.flush(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that something may still be read from would be reset, and what was written with it.
        if let Self::Plain(socket) = self {
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
}
