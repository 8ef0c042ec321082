//! One pooled connection: it is made once, shared by all, watched, and made anew when it breaks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    RedisError, RedisUrl,
    backoff::Backoff,
    commands,
    dial::{Connection, Dialer},
    line::Line,
    replies::Reply,
};

/// A pooled connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Link {
    url: RedisUrl,
    dialer: Arc<Dialer>,
    status: watch::Receiver<Status>,
    /// Told when a command got no answer: the connection may be dead without a sign.
    doubt: Arc<Notify>,
    /// Told when the server says that another one is in charge now.
    misled: Arc<Notify>,
    _supervisor: AbortOnDropHandle<()>,
}

/// How a pooled connection is.
#[derive(Debug, Clone)]
enum Status {
    /// The first attempt is under way.
    Connecting,
    /// The first attempt failed; there will be no other.
    Failed(RedisError),
    /// It works.
    Up(Line),
    /// It broke, and attempts to make it anew are under way.
    Down(RedisError),
}

impl Link {
    /// Begins to connect.
    pub(super) fn new(url: RedisUrl, dialer: Arc<Dialer>) -> Self {
        let (sender, status) = watch::channel(Status::Connecting);
        let doubt = Arc::new(Notify::new());
        let misled = Arc::new(Notify::new());
        let supervisor = Supervisor {
            url: url.clone(),
            dialer: dialer.clone(),
            status: sender,
            doubt: doubt.clone(),
            misled: misled.clone(),
        };
        let _supervisor = AbortOnDropHandle::new(dialer.runtime().spawn(supervisor.run()));
        Self {
            url,
            dialer,
            status,
            doubt,
            misled,
            _supervisor,
        }
    }

    pub(super) fn url(&self) -> &RedisUrl {
        &self.url
    }

    pub(super) fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Whether the first attempt failed, so that this link is of no use to anybody.
    pub(super) fn has_failed(&self) -> bool {
        matches!(&*self.status.borrow(), Status::Failed(_))
    }

    /// Waits for the end of the first attempt, if it is under way.
    pub(super) async fn connected(&self) -> Result<(), RedisError> {
        let mut status = self.status.clone();
        // The attempt has a timeout of its own.
        let settled = status
            .wait_for(|status| !matches!(status, Status::Connecting))
            .await;
        if settled.is_err() {
            return Err(self.unavailable("is not used any more, because the node is shutting down"));
        }
        drop(settled);
        self.up().map(|_| ())
    }

    /// The line, or why there is none now.
    pub(super) fn up(&self) -> Result<Line, RedisError> {
        match &*self.status.borrow() {
            Status::Up(line) => Ok(line.clone()),
            Status::Down(error) | Status::Failed(error) => Err(error.clone()),
            Status::Connecting => Err(self.unavailable("is not connected yet")),
        }
    }

    /// Sends a command in its form on the wire and waits for its answer.
    pub(super) async fn call(&self, command: Vec<u8>) -> Result<Reply, RedisError> {
        self.call_on(self.up()?, command).await
    }

    /// The same over the connection of this number, and over no other.
    pub(super) async fn call_over(
        &self,
        number: u64,
        command: Vec<u8>,
    ) -> Result<Reply, RedisError> {
        let line = self.up()?;
        if line.number() != number {
            return Err(self.unavailable("went away just now; nothing was done"));
        }
        self.call_on(line, command).await
    }

    async fn call_on(&self, line: Line, command: Vec<u8>) -> Result<Reply, RedisError> {
        let limit = self.dialer.timeout();
        match timeout(limit, line.call(command)).await {
            Ok(Ok(reply)) => {
                if self.url.servers().tell_of_another(&reply) {
                    self.misled.notify_one();
                }
                Ok(reply)
            }
            Ok(Err(_)) => Err(self.unavailable(
                "went away before it answered; whether it did what it was asked is not known",
            )),
            Err(_) => {
                self.doubt.notify_one();
                Err(self.unavailable(&format!(
                    "did not answer within {limit:?} (`redis.timeout`); whether it does what it was asked is not \
                     known"
                )))
            }
        }
    }

    fn unavailable(&self, what: &str) -> RedisError {
        RedisError::Unavailable(format!("Redis at {} {what}", self.url.place()))
    }
}

/// Makes the connection and makes it anew.
struct Supervisor {
    url: RedisUrl,
    dialer: Arc<Dialer>,
    status: watch::Sender<Status>,
    doubt: Arc<Notify>,
    misled: Arc<Notify>,
}

impl Supervisor {
    async fn run(self) {
        let address = self.url.place();
        let mut connection = match self.dialer.open(&self.url).await {
            Ok(connection) => connection,
            Err(error) => {
                self.status.send_replace(Status::Failed(error));
                return;
            }
        };
        let mut backoff = Backoff::new();
        loop {
            let since = Instant::now();
            let reason = self.serve(connection).await;
            backoff.lasted(since.elapsed());
            tracing::warn!(
                address,
                reason,
                "the connection to Redis broke; commands fail until it is back"
            );
            self.status.send_replace(Status::Down(RedisError::Unavailable(format!(
                "Redis at {address} is away: {reason}; the connection will be made again as soon as it is back"
            ))));
            let since = Instant::now();
            connection = loop {
                sleep(backoff.next()).await;
                match self.dialer.open(&self.url).await {
                    Ok(connection) => break connection,
                    Err(error) => {
                        tracing::debug!(address, %error, "Redis is still away");
                        self.status.send_replace(Status::Down(error));
                    }
                }
            };
            tracing::info!(address, away = ?since.elapsed(), "the connection to Redis is back");
        }
    }

    /// Lets callers use a connection until it breaks, and returns why.
    async fn serve(&self, connection: Connection) -> String {
        let (line, driver) = Line::new(connection);
        let mut driver = std::pin::pin!(driver);
        // What was said of the connection before is not about this one.
        let _ = self.misled.notified().now_or_never();
        self.status.send_replace(Status::Up(line.clone()));
        loop {
            tokio::select! {
                error = &mut driver => return error.to_string(),
                () = self.misled.notified() => {
                    return "the server says that another one is in charge now".into();
                }
                () = self.doubt.notified() => {}
                () = sleep(self.heartbeat()) => {}
            }
            tokio::select! {
                error = &mut driver => return error.to_string(),
                alive = timeout(self.dialer.timeout(), is_alive(&line)) => match alive {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return "it does not answer any more".into(),
                }
            }
        }
    }

    /// How long a quiet connection is trusted. Asking now and then also keeps servers and firewalls from closing
    /// it as unused.
    fn heartbeat(&self) -> Duration {
        self.dialer.timeout() * 2
    }
}

/// Whether the server answers, whatever it answers.
async fn is_alive(line: &Line) -> bool {
    let Ok(ping) = commands::encode("PING", &[] as &[&[u8]]) else {
        return false;
    };
    line.call(ping).await.is_ok()
}
