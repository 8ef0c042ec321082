//! A connection to the server that is ready for the statements of a log.

use std::{future::Future, future::poll_fn, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    sync::Notify,
    time::timeout,
};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Row, Statement, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::{failure::Failure, url::PostgresUrl};
use crate::trust::Trust;

/// What Fanfare keeps in a database. It may be run by somebody else where the role of the nodes may not.
pub const SETUP: &str = include_str!("sql/setup.sql");

/// Of all that nodes set up, one at a time.
const SETUP_LOCK: &str = "SELECT pg_advisory_xact_lock(7226150472116)";

/// The version of setup.sql.
const VERSION: i32 = 1;
/// Whether some version of it was run. A name is asked for, because calling a function that is not there is an error.
const IS_SET_UP: &str = "SELECT to_regprocedure('fanfare.version()') IS NOT NULL";
/// Which one.
const SET_UP: &str = "SELECT fanfare.version()";

/// How long a connection may be idle before it is looked after: less than firewalls wait before they forget one.
const IDLE: Duration = Duration::from_secs(60);
/// What a connection is given in a URL that says nothing of this.
const DEFAULT_IDLE: Duration = Duration::from_secs(2 * 3600);

/// Opens connections.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) url: PostgresUrl,
    pub(super) trust: Arc<Trust>,
    /// How long opening, and each statement, may take.
    pub(super) timeout: Duration,
    /// Where connections live.
    pub(super) runtime: Handle,
}

/// A connection. Dropping it closes it, whatever the server is doing.
pub(super) struct Session {
    client: Client,
    pub(super) statements: Statements,
    pub(super) news: Arc<News>,
    opener: Arc<Opener>,
    _driver: AbortOnDropHandle<()>,
}

/// What the server is asked for, prepared.
pub(super) struct Statements {
    pub(super) attach: Statement,
    pub(super) publish: Statement,
    pub(super) take: Statement,
    pub(super) trim: Statement,
    pub(super) scan: Statement,
    pub(super) fetch: Statement,
    pub(super) read: Statement,
    pub(super) place: Statement,
    pub(super) renew: Statement,
    pub(super) tell: Statement,
    pub(super) others: Statement,
    pub(super) members: Statement,
}

/// What notifications told, which only wake.
#[derive(Debug, Default)]
pub(super) struct News {
    told: Mutex<Told>,
    pub(super) notify: Notify,
}

/// What notifications told since it was last asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// The log goes up to this position.
    pub(super) position: u64,
    /// There are rows in the outbox, from this transaction on.
    pub(super) outbox: Option<i64>,
    /// The connection has ended.
    pub(super) is_over: bool,
}

// === impl Opener ===

impl Opener {
    /// Opens a connection, and sets up what is missing in the database.
    pub(super) async fn open(self: &Arc<Self>) -> Result<Session, Failure> {
        let opened = timeout(self.timeout, self.open_now());
        opened
            .await
            .unwrap_or_else(|_| Err(Failure::late(&self.url, "connecting", self.timeout)))
    }

    async fn open_now(self: &Arc<Self>) -> Result<Session, Failure> {
        let mut config = self.url.config().clone();
        // Of several, one that does not answer must not take all the time.
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        config.connect_timeout(self.timeout / hosts.max(1));
        if config.get_keepalives_idle() == DEFAULT_IDLE {
            config.keepalives_idle(IDLE);
        }
        let tls = self.trust.config().await;
        let tls = tls.map_err(|error| Failure::lost(error.to_string()))?;
        let mut tls = (*tls).clone();
        // PostgreSQL's documentation, section 54.2.10.
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
        let connected = config.connect(MakeRustlsConnect::new(tls)).await;
        let (client, connection) =
            connected.map_err(|error| Failure::opening(&self.url, &error))?;
        if let Some(encoding) = connection.parameter("server_encoding")
            && encoding != "UTF8"
        {
            return Err(Failure::denied(format!(
                "the database {:?} of PostgreSQL at {} has the encoding {encoding}, which cannot hold every text; make \
                 one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
                self.url.database(),
                self.url.address()
            )));
        }
        let news = Arc::<News>::default();
        let driver = self.runtime.spawn(drive(connection, news.clone()));
        let _driver = AbortOnDropHandle::new(driver);
        let asked =
            |what: &'static str| move |error: Error| Failure::asking(&self.url, what, &error);
        client
            .batch_execute(&self.settings())
            .await
            .map_err(asked("the settings of a session"))?;
        self.set_up(&client).await?;
        let statements = Statements::prepare(&client);
        Ok(Session {
            statements: statements.await.map_err(asked("preparing"))?,
            client,
            news,
            opener: self.clone(),
            _driver,
        })
    }

    fn settings(&self) -> String {
        // Shorter than what is waited for here: so it is known what became of most of what takes too long.
        let limit = (self.timeout * 3 / 4).as_millis().max(1);
        // Whatever the database has by default, a statement sees what was committed before it. And all that is asked for
        // is found by an index, however small the tables were when it was planned.
        format!(
            "SET default_transaction_isolation = 'read committed'; SET statement_timeout = {limit}; \
             SET client_min_messages = warning; SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off"
        )
    }

    async fn set_up(&self, client: &Client) -> Result<(), Failure> {
        let asked =
            |error: Error| Failure::asking(&self.url, "looking for the schema `fanfare`", &error);
        let row = client.query_one(IS_SET_UP, &[]).await.map_err(asked)?;
        if row.try_get(0).map_err(asked)? {
            let row = client.query_one(SET_UP, &[]).await.map_err(asked)?;
            // What a later version has set up serves this one too.
            if row.try_get::<_, i32>(0).map_err(asked)? >= VERSION {
                return Ok(());
            }
        }
        let script = format!("BEGIN; {SETUP_LOCK}; {SETUP} COMMIT");
        client.batch_execute(&script).await.map_err(|error| {
            let failure = Failure::asking(&self.url, "setting up the schema `fanfare`", &error);
            if !failure.is_denied() {
                return failure;
            }
            let role = self.url.user().replace('"', "\"\"");
            Failure::denied(format!(
                "{}; have somebody who may do so run this in the database {:?}, and all else is set up in it: CREATE \
                 SCHEMA fanfare AUTHORIZATION \"{role}\"",
                failure.text(),
                self.url.database()
            ))
        })
    }
}

// === impl Statements ===

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, Error> {
        let (attach, publish, take, trim, scan, fetch, read, place, renew, tell, others, members) =
            tokio::try_join!(
                client.prepare(include_str!("sql/attach.sql")),
                client.prepare(include_str!("sql/publish.sql")),
                client.prepare(include_str!("sql/take.sql")),
                client.prepare(include_str!("sql/trim.sql")),
                client.prepare(include_str!("sql/scan.sql")),
                client.prepare(include_str!("sql/fetch.sql")),
                client.prepare(include_str!("sql/read.sql")),
                client.prepare(include_str!("sql/place.sql")),
                client.prepare(include_str!("sql/renew.sql")),
                client.prepare(include_str!("sql/tell.sql")),
                client.prepare(include_str!("sql/others.sql")),
                client.prepare(include_str!("sql/members.sql")),
            )?;
        Ok(Self {
            attach,
            publish,
            take,
            trim,
            scan,
            fetch,
            read,
            place,
            renew,
            tell,
            others,
            members,
        })
    }
}

// === impl Session ===

impl Session {
    /// Has the server run a statement, within the timeout.
    pub(super) async fn ask(
        &self,
        what: &str,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        self.within(what, self.client.query(statement, parameters))
            .await
    }

    /// Has the server tell of a log. Its epoch is one by [`is_epoch`].
    pub(super) async fn listen(&self, epoch: &str) -> Result<(), Failure> {
        let listen = format!("LISTEN \"fanfare_{epoch}\"");
        self.within("LISTEN", self.client.batch_execute(&listen))
            .await
    }

    async fn within<T>(
        &self,
        what: &str,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let (url, limit) = (&self.opener.url, self.opener.timeout);
        match timeout(limit, asked).await {
            Ok(answer) => answer.map_err(|error| Failure::asking(url, what, &error)),
            Err(_) => Err(Failure::late(url, what, limit)),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.client.is_closed()
    }
}

/// Whether a text can name a log in ids and in the names of notifications.
pub(super) fn is_epoch(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=40).contains(&text.len()) && text.bytes().all(good)
}

/// Reads and writes for a connection until it ends.
async fn drive<S, T>(mut connection: Connection<S, T>, news: Arc<News>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                news.heard(notification.payload());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection to PostgreSQL broke");
                break;
            }
            None => break,
        }
    }
    news.told.lock().is_over = true;
    news.notify.notify_one();
}

// === impl News ===

impl News {
    /// What setup.sql notifies: a position, or `outbox` and the number of a transaction. Whatever else there is wakes too.
    fn heard(&self, payload: &str) {
        {
            let mut told = self.told.lock();
            match payload.parse() {
                Ok(position) => told.position = told.position.max(position),
                Err(_) => {
                    let first = payload.strip_prefix("outbox ");
                    let first = first.and_then(|first| first.parse().ok()).unwrap_or(0);
                    told.outbox = Some(told.outbox.map_or(first, |known| known.min(first)));
                }
            }
        }
        self.notify.notify_one();
    }

    /// What was told since this was last asked for.
    pub(super) fn take(&self) -> Told {
        let mut told = self.told.lock();
        let is_over = told.is_over;
        std::mem::replace(
            &mut told,
            Told {
                is_over,
                ..Told::default()
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_add_up() {
        let news = News::default();
        for payload in ["7", "outbox 12", "5", "outbox 9", "outbox 10"] {
            news.heard(payload);
        }
        let told = news.take();
        assert_eq!((told.position, told.outbox), (7, Some(9)));
        assert_eq!(news.take(), Told::default());
        news.heard("what is this");
        assert_eq!(news.take().outbox, Some(0));
    }

    #[test]
    fn an_epoch_needs_no_quotes() {
        assert!(is_epoch("r012345678"));
        for bad in ["", "R1", "a\"b", "é", &"x".repeat(41)] {
            assert!(!is_epoch(bad), "{bad}");
        }
    }
}
