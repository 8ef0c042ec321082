//! Guest output: lines on stdout and stderr become log lines with the app and the request.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tracing::{info, warn};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::{
    log::{GuestLog, Room},
    scope::Scope,
};

/// A longer line is logged in pieces.
const LINE_BYTES: usize = 8 * 1024;
/// The last lines of stderr that a development server shows with a trap.
const TAIL_LINES: usize = 20;
/// How the line begins by which Rust ends the message of a panic. It asks for a variable that nobody can set for a guest,
/// and the backtrace comes with the trap.
const BACKTRACE_NOTE: &str = "note: run with `RUST_BACKTRACE=1`";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where an instance's output goes. Clones write to the same place.
#[derive(Debug, Clone)]
pub struct Output {
    stream: Stream,
    log: Arc<GuestLog>,
    buffer: Arc<Mutex<Buffer>>,
}

#[derive(Debug)]
struct Buffer {
    /// What the output belongs to: a call, or the instance itself.
    scope: Scope,
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The last lines, for the page that shows a trap.
    tail: VecDeque<String>,
}

impl Output {
    /// Output that is logged in this scope.
    pub fn new(stream: Stream, scope: Scope, log: Arc<GuestLog>) -> Self {
        let buffer = Buffer {
            scope,
            line: Vec::new(),
            tail: VecDeque::new(),
        };
        Self {
            stream,
            log,
            buffer: Arc::new(Mutex::new(buffer)),
        }
    }

    /// Logs what comes from now on in this scope: another call has begun.
    pub fn begin(&self, scope: &Scope) {
        let mut buffer = self.buffer.lock();
        buffer.scope = scope.clone();
        buffer.tail.clear();
    }

    /// The last lines, of stderr only.
    pub fn tail(&self) -> Vec<String> {
        self.buffer.lock().tail.iter().cloned().collect()
    }

    /// Logs what was written without a line ending. To be called when the call is over.
    pub fn finish(&self) {
        let line = std::mem::take(&mut self.buffer.lock().line);
        if !line.is_empty() {
            self.log(&line);
        }
    }

    fn log_lines(&self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut buffer = self.buffer.lock();
            buffer
                .line
                .extend_from_slice(part.strip_suffix(b"\n").unwrap_or(part));
            let line = if part.ends_with(b"\n") {
                std::mem::take(&mut buffer.line)
            } else if buffer.line.len() >= LINE_BYTES + self.log.held_back() {
                self.log.cut(&mut buffer.line)
            } else {
                continue;
            };
            drop(buffer);
            self.log(&line);
        }
    }

    /// Whether a line tells nobody anything: Rust begins the message of a panic with an empty one. What a guest prints is
    /// what it wanted to say, but for the end of its last line.
    fn is_idle(&self, line: &str) -> bool {
        match self.stream {
            Stream::Stderr => line.starts_with(BACKTRACE_NOTE) || line.trim().is_empty(),
            Stream::Stdout => false,
        }
    }

    fn log(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        if self.is_idle(&line) {
            return;
        }
        let line = self.log.loggable(line.trim_end_matches('\r'));
        let room = self.log.room();
        let scope = self.buffer.lock().scope.clone();
        scope.log(|| match (room, self.stream) {
            (Room::Free, Stream::Stdout) => {
                info!(target: "fanfare::guest", stream = "stdout", "{line}");
            }
            (Room::Free, Stream::Stderr) => {
                warn!(target: "fanfare::guest", stream = "stderr", "{line}");
            }
            (Room::JustFull, _) => warn!("{}", self.log),
            (Room::Full, _) => {}
        });
        if self.stream == Stream::Stderr {
            let mut buffer = self.buffer.lock();
            if buffer.tail.len() == TAIL_LINES {
                buffer.tail.pop_front();
            }
            buffer.tail.push_back(line);
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    // Written at once, in the order of the guest's writes: the default has a task of its own for every stream,
    // which is aborted with what it holds when the guest ends.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log_lines(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LINE_BYTES)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.log_lines(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_pieces_cuts_long_lines_and_hides_secrets() {
        let log = GuestLog::new(["hunter2"].into_iter(), 1000, Arc::default());
        let output = Output::new(Stream::Stderr, Scope::of_test(), Arc::new(log));
        output.log_lines(b"first ");
        output.log_lines(b"line\r\nthe password is hunter2\nrest");
        assert_eq!(output.tail(), ["first line", "the password is [secret]"]);
        output.finish();
        assert_eq!(output.tail().last().unwrap(), "rest");
        output.log_lines(&[b'x'; 3 * LINE_BYTES]);
        assert!(output.buffer.lock().line.len() < 3 * LINE_BYTES);
        output.log_lines(b"\n");
        // A secret, and a character, that lie across the place where a line is cut.
        output.log_lines(&[b'x'; LINE_BYTES - 3]);
        output.log_lines("hunter2\u{e4}".as_bytes().split_last().unwrap().1);
        output.log_lines(b"\xa4!\n");
        let tail = output.tail().concat();
        assert!(
            tail.ends_with("xxx[secret]\u{e4}!") && !tail.contains("hunter"),
            "{}",
            &tail[tail.len() - 40..]
        );
        output.log_lines(&b"y\n".repeat(100));
        assert_eq!(output.tail().len(), TAIL_LINES);
    }

    #[test]
    fn what_tells_nobody_anything_is_left_out() {
        let log = GuestLog::new(std::iter::empty(), 1000, Arc::default());
        let output = Output::new(Stream::Stderr, Scope::of_test(), Arc::new(log));
        output.log_lines(b"\nthread 'main' panicked at src/lib.rs:1:1:\noh no\r\n\r\n \t\n");
        output.log_lines(b"note: run with `RUST_BACKTRACE=1` ");
        output.log_lines(b"environment variable to display a backtrace\n");
        output.log_lines(b"note: run with care\n  ");
        output.finish();
        assert_eq!(
            output.tail(),
            [
                "thread 'main' panicked at src/lib.rs:1:1:",
                "oh no",
                "note: run with care"
            ]
        );
        // On stdout it is what the guest wanted to say.
        let stdout = Output {
            stream: Stream::Stdout,
            ..output
        };
        assert!(!stdout.is_idle(BACKTRACE_NOTE) && !stdout.is_idle(" \r"));
    }
}
