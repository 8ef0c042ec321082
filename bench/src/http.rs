//! The few requests that are no streams, over one connection that is kept.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// How long an answer may take: publishing is answered when all is published.
const PATIENCE: Duration = Duration::from_secs(300);

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
    /// Requests that are to be sent.
    unsent: Vec<u8>,
    /// What each of them brings, to be let in.
    token: Option<&'static str>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).context("cannot connect")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            reader: BufReader::new(socket),
            unsent: Vec::new(),
            token: None,
        })
    }

    /// Brings a token with each request (RFC 6750).
    pub fn with_token(self, token: &'static str) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// Sends a request and waits for its answer.
    pub fn ask(
        &mut self,
        method: &str,
        target: &str,
        content: Option<(&str, &[u8])>,
    ) -> Result<Answer> {
        self.write(method, target, content);
        self.flush()?;
        self.answer(method)
            .with_context(|| format!("{method} {target}"))
    }

    /// Prepares a request; the content is a type and a body. [`flush`](Self::flush) sends it.
    pub fn write(&mut self, method: &str, target: &str, content: Option<(&str, &[u8])>) {
        let host = "Host: localhost\r\n";
        let (kind, body) = content.unwrap_or_default();
        let mut head = format!("{method} {target} HTTP/1.1\r\n{host}");
        if let Some(token) = self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if content.is_some() {
            head += &format!("Content-Type: {kind}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        self.unsent.extend_from_slice(head.as_bytes());
        self.unsent.extend_from_slice(body);
    }

    /// Sends what was prepared.
    pub fn flush(&mut self) -> Result<()> {
        self.reader.get_mut().write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Waits for the next answer; the method is that of its request.
    pub fn answer(&mut self, method: &str) -> Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).unwrap_or_default();
        let status = status
            .parse()
            .with_context(|| format!("{line:?} is no answer"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a wrong header")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if method != "HEAD" && status != 204 {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> Result<Vec<u8>> {
        if let Some(length) = answer.header("content-length") {
            return self.bytes(length.parse()?);
        }
        ensure!(
            answer.header("transfer-encoding") == Some("chunked"),
            "an answer without a length"
        );
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line()?, 16)?;
            body.extend(self.bytes(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }
}

impl Answer {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|header| header.0 == name)?;
        Some(value)
    }

    /// Fails for an answer that is no success.
    pub fn success(self) -> Result<Self> {
        ensure!(
            (200..300).contains(&self.status),
            "status {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }
}
