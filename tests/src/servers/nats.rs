//! A NATS server with JetStream.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Command,
};

use serde_json::{Value, json};

use super::process::{self, Home, Program, Server};
use crate::{tls::Certificates, wait};

/// How a server is to be.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The password of the user `fanfare`, without which nobody gets in.
    pub password: Option<&'a str>,
    /// Demands TLS after its first line, with these certificates.
    pub tls: Option<&'a Certificates>,
}

/// What runs as a [`NatsServer`].
pub struct Nats {
    arguments: Vec<String>,
    password: Option<String>,
    scheme: &'static str,
}

/// A server of its own, with JetStream, whose streams are kept in files.
pub type NatsServer = Server<Nats>;

impl Server<Nats> {
    /// A plain server that lets everybody in.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// A server with these options.
    #[track_caller]
    pub fn start_with(options: Options<'_>) -> Self {
        let mut arguments = vec!["--addr".into(), "127.0.0.1".into(), "--jetstream".into()];
        if let Some(password) = options.password {
            arguments.extend(["--user".into(), "fanfare".into()]);
            arguments.extend(["--pass".into(), password.into()]);
        }
        if let Some(tls) = options.tls {
            arguments.push("--tls".into());
            for (name, file) in [("cert", tls.certificate()), ("key", tls.key())] {
                arguments.extend([format!("--tls{name}"), file.display().to_string()]);
            }
        }
        Self::launch(Nats {
            arguments,
            password: options.password.map(str::to_owned),
            scheme: if options.tls.is_some() { "tls" } else { "nats" },
        })
    }

    /// Its URL, with the password.
    pub fn url(&self) -> String {
        let password = self.program.password.as_deref();
        let login = password.map(|password| format!("fanfare:{password}@"));
        let login = login.unwrap_or_default();
        format!("{}://{login}{}", self.program.scheme, self.address())
    }

    /// A connection to it, unless it speaks TLS.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(&self.home, self.program.password.as_deref()).expect("the server answers")
    }
}

impl Program for Nats {
    const NAME: &'static str = "nats";

    fn command(&self, home: &Home) -> Command {
        let found = process::find("nats-server", &["/usr/sbin".into()]);
        let found = found.expect("there is no nats-server here; `scripts/setup` installs it");
        let mut command = Command::new(found);
        command.args(&self.arguments);
        command.args(["--port", &home.port().to_string()]);
        command.arg("--store_dir").arg(home.data());
        command
    }

    fn answers(&self, home: &Home) -> bool {
        if self.scheme == "tls" {
            // Its first line is in the clear, and JetStream has been started by then.
            return greeting(home).is_some();
        }
        let connection = Connection::open(home, self.password.as_deref());
        connection.is_some_and(|mut connection| {
            let info = connection.request("$JS.API.INFO", b"");
            info.is_some_and(|info| info.get("streams").is_some())
        })
    }
}

/// A connection that speaks as much of the protocol as it takes to see what a server has.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(home: &Home, password: Option<&str>) -> Option<Self> {
        let mut connection = Self(greeting(home)?);
        let mut options = json!({ "verbose": false, "headers": true, "no_responders": true });
        if let Some(password) = password {
            options["user"] = "fanfare".into();
            options["pass"] = password.into();
        }
        connection.send(format!("CONNECT {options}\r\nPING\r\n").as_bytes())?;
        (connection.line()? == "PONG").then_some(connection)
    }

    /// Asks the server something, and returns its answer: JSON, as that of JetStream's API. Nothing if nobody answers
    /// or the connection ends.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> Option<Value> {
        let mut request = b"SUB answers 1\r\nUNSUB 1 1\r\n".to_vec();
        request.extend(format!("PUB {subject} answers {}\r\n", payload.len()).as_bytes());
        request.extend_from_slice(payload);
        request.extend_from_slice(b"\r\n");
        self.send(&request)?;
        loop {
            let line = self.line()?;
            let mut words = line.split(' ');
            match words.next()? {
                "PING" => self.send(b"PONG\r\n")?,
                "MSG" => {
                    let mut payload = vec![0; words.next_back()?.parse().ok()?];
                    self.0.read_exact(&mut payload).ok()?;
                    self.line()?;
                    return serde_json::from_slice(&payload).ok();
                }
                // That nobody hears the subject.
                "HMSG" | "-ERR" => return None,
                _ => {}
            }
        }
    }

    /// Whether anybody subscribes to a subject, who is sent an empty message. Nothing if the connection ends.
    pub fn is_heard(&mut self, subject: &str) -> Option<bool> {
        // The server says at once that nobody does, and answers in order.
        let request =
            format!("SUB answers 2\r\nPUB {subject} answers 0\r\n\r\nUNSUB 2\r\nPING\r\n");
        self.send(request.as_bytes())?;
        let mut heard = true;
        loop {
            let line = self.line()?;
            let mut words = line.split(' ');
            match words.next()? {
                "PING" => self.send(b"PONG\r\n")?,
                "PONG" => return Some(heard),
                "HMSG" => {
                    let mut headers = vec![0; words.next_back()?.parse().ok()?];
                    self.0.read_exact(&mut headers).ok()?;
                    self.line()?;
                    heard = false;
                }
                _ => return None,
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.get_mut().write_all(bytes).ok()
    }

    fn line(&mut self) -> Option<String> {
        line(&mut self.0)
    }
}

/// A socket of which the first line, `INFO`, was read.
fn greeting(home: &Home) -> Option<BufReader<TcpStream>> {
    let socket = TcpStream::connect(home.address()).ok()?;
    let patience = Some(wait::PATIENCE);
    socket
        .set_read_timeout(patience)
        .expect("a socket has options");
    let mut socket = BufReader::new(socket);
    line(&mut socket)?.starts_with("INFO ").then_some(socket)
}

fn line(socket: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    socket.read_line(&mut line).ok()?;
    line.ends_with("\r\n").then(|| line.trim_end().to_owned())
}
