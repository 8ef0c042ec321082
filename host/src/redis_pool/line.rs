//! One socket that many callers share: commands go out in turn, and answers come back in the same order.
//!
//! Who finds nothing under way writes at once, on its own thread: waking the driver would take longer than writing. Where
//! others wait for answers already, commands are left to the driver, which writes many at a time.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf},
    sync::{mpsc, oneshot},
};

use super::replies::{Replies, Reply};

/// Commands that may wait to be written; past it, callers wait in line.
const QUEUE: usize = 256;
/// Commands that are written at a time.
const BATCH: usize = 64;
/// Bytes that are written at a time, but for a command that is larger.
const BATCH_BYTES: usize = 64 * 1024;
/// The largest command that its caller writes, in bytes: a caller of low priority may be held up meanwhile, and the
/// driver with it.
const AT_ONCE: usize = 16 * 1024;
/// How many lines there were.
static LINES: AtomicU64 = AtomicU64::new(0);

/// A caller's end. Clones share the socket.
#[derive(Debug, Clone)]
pub(super) struct Line {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
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

/// What callers and the driver share. Where both locks are held, that of the writer was taken first.
#[derive(Debug)]
struct Shared {
    writer: Mutex<Writer>,
    /// Who waits for an answer, in the order in which the commands were written.
    waiting: Mutex<VecDeque<oneshot::Sender<Reply>>>,
}

/// The half of the socket that is written.
struct Writer {
    socket: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// What is to be written before anything else.
    unwritten: Vec<u8>,
    /// How much of that was written.
    written: usize,
    /// Something was written since the last flush.
    unflushed: bool,
    /// Why nothing can be written any more, until the driver ends with it.
    failed: Option<io::Error>,
    /// Wakes the driver; `None` before it has begun and after it has ended: then nobody else writes either.
    driver: Option<Waker>,
}

/// Ends what callers and the driver share, when the driver is dropped.
struct End(Arc<Shared>);

impl Line {
    /// A line over a connection, and what drives it: nothing moves unless that future runs, and it ends with why
    /// the connection ended.
    pub(super) fn new<S>(connection: Replies<S>) -> (Self, impl Future<Output = io::Error> + Send)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let number = LINES.fetch_add(1, Ordering::Relaxed);
        let (replies, socket) = connection.split();
        let shared = Arc::new(Shared {
            writer: Mutex::new(Writer {
                socket: Some(Box::pin(socket)),
                unwritten: Vec::new(),
                written: 0,
                unflushed: false,
                failed: None,
                driver: None,
            }),
            waiting: Mutex::default(),
        });
        let line = Self {
            requests,
            shared: shared.clone(),
            number,
        };
        (line, drive(replies, End(shared), receiver))
    }

    /// Tells it from all others of this process.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Sends a command in its form on the wire, which must be one that has exactly one reply. A command that was
    /// not yet written when this future is dropped is not sent.
    pub(super) async fn call(&self, command: Vec<u8>) -> Result<Reply, Broken> {
        let (answer, answered) = oneshot::channel();
        let request = Request { command, answer };
        if let Err(request) = self.write_at_once(request) {
            self.requests.send(request).await.map_err(|_| Broken)?;
        }
        answered.await.map_err(|_| Broken)
    }

    /// Writes a command if nothing is under way; else it is given back.
    fn write_at_once(&self, request: Request) -> Result<(), Request> {
        if request.command.len() > AT_ONCE {
            return Err(request);
        }
        let Some(mut writer) = self.shared.writer.try_lock() else {
            return Err(request);
        };
        // The driver takes requests from the queue under the lock: so none that came before is overtaken.
        let is_idle = writer.is_idle()
            && self.requests.capacity() == QUEUE
            && self.shared.waiting.lock().is_empty();
        if !is_idle {
            return Err(request);
        }
        let Some(driver) = writer.driver.clone() else {
            return Err(request);
        };
        let Request { command, answer } = request;
        // Before it is written: its answer may come at once.
        self.shared.waiting.lock().push_back(answer);
        writer.unwritten = command;
        writer.unflushed = true;
        // Whatever is left then is the driver's, which is woken when the socket takes more.
        match writer.poll_write(&mut Context::from_waker(&driver)) {
            Poll::Ready(Err(error)) => {
                writer.failed = Some(error);
                driver.wake();
            }
            // Nothing was written: as long as it is not, the caller may give up.
            Poll::Pending if writer.has_begun_nothing() => {
                if let Some(answer) = self.shared.waiting.lock().pop_back() {
                    writer.unflushed = false;
                    let command = mem::take(&mut writer.unwritten);
                    return Err(Request { command, answer });
                }
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Ok(())
    }
}

/// Ends when the connection has.
async fn drive<S: AsyncRead + AsyncWrite>(
    replies: Replies<ReadHalf<S>>,
    end: End,
    mut requests: mpsc::Receiver<Request>,
) -> io::Error {
    let shared = &*end.0;
    let mut batch = Vec::new();
    let write = poll_fn(|context| {
        let mut writer = shared.writer.lock();
        writer.poll_drive(context, &mut requests, &mut batch, &shared.waiting)
    });
    let ended = tokio::select! {
        ended = write => ended,
        ended = read(replies, &shared.waiting) => ended,
    };
    ended
        .err()
        .unwrap_or_else(|| io::Error::other("nobody uses it any more"))
}

type Waiting = Mutex<VecDeque<oneshot::Sender<Reply>>>;

impl Writer {
    /// Writes what callers have left and what they ask for, until nobody is left who could.
    fn poll_drive(
        &mut self,
        context: &mut Context<'_>,
        requests: &mut mpsc::Receiver<Request>,
        batch: &mut Vec<Request>,
        waiting: &Waiting,
    ) -> Poll<io::Result<()>> {
        match &mut self.driver {
            Some(driver) => driver.clone_from(context.waker()),
            None => self.driver = Some(context.waker().clone()),
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        loop {
            ready!(self.poll_write(context))?;
            if batch.is_empty() {
                if ready!(requests.poll_recv_many(context, batch, BATCH)) == 0 {
                    return Poll::Ready(Ok(()));
                }
                // They are taken from the end.
                batch.reverse();
            }
            while self.unwritten.len() < BATCH_BYTES
                && let Some(Request { command, answer }) = batch.pop()
            {
                if answer.is_closed() {
                    // The caller has been told that it took too long: then it must not happen any more.
                    continue;
                }
                waiting.lock().push_back(answer);
                self.unwritten.extend(command);
                self.unflushed = true;
            }
        }
    }

    /// Writes what is to be written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while self.written < self.unwritten.len() {
            let rest = &self.unwritten[self.written..];
            match ready!(socket.as_mut().poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.written = 0;
        self.unwritten.clear();
        self.unwritten.shrink_to(BATCH_BYTES);
        if self.unflushed {
            ready!(socket.as_mut().poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// There is something to be written, and none of it was yet.
    fn has_begun_nothing(&self) -> bool {
        self.written == 0 && !self.unwritten.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.unwritten.is_empty() && !self.unflushed && self.failed.is_none()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = f.debug_struct("Writer");
        writer.field("unwritten", &(self.unwritten.len() - self.written));
        writer.finish_non_exhaustive()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // The lines may live on, and are not to keep the connection open.
        let mut writer = self.0.writer.lock();
        (writer.socket, writer.driver) = (None, None);
        // Under the lock: nobody writes any more and then waits for ever.
        let waiting = mem::take(&mut *self.0.waiting.lock());
        drop(writer);
        drop(waiting);
    }
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

    use futures_util::FutureExt as _;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::yield_now,
    };

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
    async fn who_finds_nothing_under_way_writes_at_once() {
        let (line, driver, mut server) = line();
        tokio::spawn(driver);
        yield_now().await;
        let mut first = std::pin::pin!(line.call(b"a".to_vec()));
        assert!(first.as_mut().now_or_never().is_none());
        let mut read = [0; 8];
        assert_eq!(server.read(&mut read).now_or_never().unwrap().unwrap(), 1);
        // While somebody waits for an answer, it is the driver that writes.
        let mut second = std::pin::pin!(line.call(b"b".to_vec()));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(server.read(&mut read).now_or_never().is_none());
        expect(&mut server, "b").await;
        server.write_all(b":1\r\n:2\r\n").await.unwrap();
        let answers = tokio::join!(first, second);
        assert_eq!(answers, (whole(":1\r\n"), whole(":2\r\n")));
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_at_once_is_written_in_order() {
        let (line, driver, mut server) = line();
        tokio::spawn(driver);
        yield_now().await;
        let long = "a".repeat(5000);
        let mut first = std::pin::pin!(line.call(long.clone().into()));
        assert!(first.as_mut().now_or_never().is_none());
        let second = line.call(b"b".to_vec());
        let (first, second, ()) = tokio::join!(first, second, async {
            expect(&mut server, &(long + "b")).await;
            server.write_all(b":1\r\n:2\r\n").await.unwrap();
        });
        assert_eq!((first, second), (whole(":1\r\n"), whole(":2\r\n")));
    }

    #[tokio::test]
    async fn who_wrote_at_once_is_told_when_the_connection_ends() {
        let (line, driver, mut server) = line();
        let driver = tokio::spawn(driver);
        yield_now().await;
        let mut call = std::pin::pin!(line.call(b"a".to_vec()));
        assert!(call.as_mut().now_or_never().is_none());
        driver.abort();
        assert_eq!(call.await, Err(Broken));
        assert_eq!(line.call(b"b".to_vec()).await, Err(Broken));
        expect(&mut server, "a").await;
        // The line is there, and the connection is not.
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn when_writing_at_once_fails_the_connection_ends() {
        let (line, driver, server) = line();
        let driver = tokio::spawn(driver);
        yield_now().await;
        drop(server);
        assert_eq!(line.call(b"a".to_vec()).await, Err(Broken));
        driver.await.unwrap();
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
