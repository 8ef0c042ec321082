//! One socket that many callers share: commands go out in turn, and answers come back in the same order.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadHalf, WriteHalf},
    sync::{mpsc, oneshot},
};

use super::replies::{Replies, Reply};

/// Commands that may wait to be written; past it, callers wait in line.
const QUEUE: usize = 256;
/// Commands that are written at a time.
const BATCH: usize = 64;
/// How many lines there were.
static LINES: AtomicU64 = AtomicU64::new(0);

/// A caller's end. Clones share the socket.
#[derive(Debug, Clone)]
pub(super) struct Line {
    requests: mpsc::Sender<Request>,
    /// Tells it from all others of this process.
    number: u64,
}

/// The connection ended before the answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

#[derive(Debug)]
struct Request {
    command: Vec<u8>,
    answer: oneshot::Sender<Reply>,
}

impl Line {
    /// A line over a connection, and what drives it: nothing moves unless that future runs, and it ends with why
    /// the connection ended.
    pub(super) fn new<S>(connection: Replies<S>) -> (Self, impl Future<Output = io::Error> + Send)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let number = LINES.fetch_add(1, Ordering::Relaxed);
        let line = Self { requests, number };
        (line, drive(connection, receiver))
    }

    /// Tells it from all others of this process.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Sends a command in its form on the wire, which must be one that has exactly one reply. A command that was
    /// not yet written when this future is dropped is not sent.
    pub(super) async fn call(&self, command: Vec<u8>) -> Result<Reply, Broken> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send(Request { command, answer })
            .await
            .map_err(|_| Broken)?;
        answered.await.map_err(|_| Broken)
    }
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    connection: Replies<S>,
    requests: mpsc::Receiver<Request>,
) -> io::Error {
    let (replies, socket) = connection.split();
    // Who waits for an answer, in the order in which the commands were written.
    let waiting = Mutex::new(VecDeque::new());
    let ended = tokio::select! {
        ended = write(socket, requests, &waiting) => ended,
        ended = read(replies, &waiting) => ended,
    };
    ended
        .err()
        .unwrap_or_else(|| io::Error::other("nobody uses it any more"))
}

type Waiting = Mutex<VecDeque<oneshot::Sender<Reply>>>;

async fn write<S: AsyncWrite>(
    socket: WriteHalf<S>,
    mut requests: mpsc::Receiver<Request>,
    waiting: &Waiting,
) -> io::Result<()> {
    let mut socket = BufWriter::new(socket);
    let mut batch = Vec::with_capacity(BATCH);
    while requests.recv_many(&mut batch, BATCH).await > 0 {
        for request in batch.drain(..) {
            if request.answer.is_closed() {
                // The caller has been told that it took too long: then it must not happen any more.
                continue;
            }
            waiting.lock().push_back(request.answer);
            socket.write_all(&request.command).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}

async fn read<S: AsyncRead>(
    mut replies: Replies<ReadHalf<S>>,
    waiting: &Waiting,
) -> io::Result<()> {
    loop {
        let reply = replies.next().await?;
        if matches!(&reply, Reply::Whole(bytes) if bytes.starts_with(b">")) {
            // The server tells something that nobody asked for.
            continue;
        }
        let Some(answer) = waiting.lock().pop_front() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it sent an answer to no question",
            ));
        };
        // Callers that gave up are gone.
        let _ = answer.send(reply);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    fn line() -> (Line, impl Future<Output = io::Error> + Send, DuplexStream) {
        let (ours, server) = duplex(1024);
        let (line, driver) = Line::new(Replies::new(ours));
        (line, driver, server)
    }

    async fn expect(server: &mut DuplexStream, text: &str) {
        let mut read = vec![0; text.len()];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read), text);
    }

    fn whole(text: &str) -> Result<Reply, Broken> {
        Ok(Reply::Whole(text.to_owned().into()))
    }

    #[tokio::test]
    async fn answers_go_to_those_who_asked() {
        let (line, driver, mut server) = line();
        tokio::spawn(driver);
        let (a, b) = (line.call(b"a".to_vec()), line.call(b"b".to_vec()));
        let (a, b, ()) = tokio::join!(a, b, async {
            expect(&mut server, "ab").await;
            server
                .write_all(b">1\r\n+news\r\n:1\r\n+two\r\n")
                .await
                .unwrap();
        });
        assert_eq!((a, b), (whole(":1\r\n"), whole("+two\r\n")));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_any_more_is_not_given_to_the_next() {
        let (line, driver, mut server) = line();
        tokio::spawn(driver);
        let late = tokio::time::timeout(Duration::from_millis(10), line.call(b"a".to_vec()));
        assert!(late.await.is_err());
        expect(&mut server, "a").await;
        let next = tokio::spawn({
            let line = line.clone();
            async move { line.call(b"b".to_vec()).await }
        });
        expect(&mut server, "b").await;
        server.write_all(b"+late\r\n+next\r\n").await.unwrap();
        assert_eq!(next.await.unwrap(), whole("+next\r\n"));
    }

    #[tokio::test]
    async fn a_command_whose_caller_gave_up_before_it_was_written_is_not_sent() {
        let (line, driver, mut server) = line();
        // Not driven yet: the command stays in the queue.
        let late = tokio::time::timeout(Duration::from_millis(10), line.call(b"a".to_vec()));
        assert!(late.await.is_err());
        tokio::spawn(driver);
        let _next = tokio::spawn({
            let line = line.clone();
            async move { line.call(b"b".to_vec()).await }
        });
        expect(&mut server, "b").await;
    }

    #[tokio::test]
    async fn when_the_connection_ends_all_who_wait_are_told() {
        let (line, driver, mut server) = line();
        let driver = tokio::spawn(driver);
        let (a, ()) = tokio::join!(line.call(b"a".to_vec()), async {
            expect(&mut server, "a").await;
            drop(server);
        });
        assert_eq!(a, Err(Broken));
        assert_eq!(driver.await.unwrap().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(line.call(b"b".to_vec()).await, Err(Broken));
    }

    #[tokio::test]
    async fn an_answer_to_no_question_ends_the_connection() {
        let (_line, driver, mut server) = line();
        server.write_all(b"+hello\r\n").await.unwrap();
        assert_eq!(driver.await.kind(), io::ErrorKind::InvalidData);
    }
}
