//! Opening a connection: name, socket, TLS, user and password, database.

use std::{io, path::PathBuf, time::Duration};

use rustls::{CertificateError, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    RedisError, RedisUrl, commands,
    replies::{Replies, Reply},
};
use crate::trust::Trust;

/// What the server calls these connections in `CLIENT LIST`.
const CLIENT_NAME: &[u8] = b"fanfare";

/// A socket, with TLS or without.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that is ready for commands.
pub(super) type Connection = Replies<Box<dyn Socket>>;

/// Opens connections.
#[derive(Debug)]
pub(super) struct Dialer {
    /// Where connections live. Callers come from threads that guests keep busy, and one app that computes must not
    /// make Redis look dead to all others.
    runtime: Handle,
    timeout: Duration,
    trust: Trust,
}

impl Dialer {
    pub(super) fn new(
        ca_file: Option<PathBuf>,
        timeout: Duration,
        runtime: Handle,
    ) -> Result<Self, RedisError> {
        let trust = Trust::new(ca_file.as_deref())
            .map_err(|error| RedisError::Invalid(format!("`redis.ca-file` {error}")))?;
        Ok(Self {
            runtime,
            timeout,
            trust,
        })
    }

    /// Where connections live.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How long opening, and each command, may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Opens a connection to the server, which is found first where there are several, logs in and sees that it answers.
    pub(super) async fn open(&self, url: &RedisUrl) -> Result<Connection, RedisError> {
        let opened = timeout(self.timeout, async {
            match self.find(url).await? {
                Some(found) => self.open_one(&found).await,
                None => self.open_one(url).await,
            }
        });
        opened.await.unwrap_or_else(|_| {
            let hint = match url.is_tls() {
                true => "that this is its port for TLS, and that no firewall is in between",
                false => "and that no firewall is in between",
            };
            Err(RedisError::Unavailable(format!(
                "Redis at {} did not take a connection within {:?}; check the address, {hint}",
                url.place(),
                self.timeout
            )))
        })
    }

    pub(super) async fn open_one(&self, url: &RedisUrl) -> Result<Connection, RedisError> {
        let mut connection = Replies::new(self.socket(url).await?);
        log_in(&mut connection, url).await?;
        Ok(connection)
    }

    async fn socket(&self, url: &RedisUrl) -> Result<Box<dyn Socket>, RedisError> {
        let stream = TcpStream::connect((url.host(), url.port())).await;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|error| {
            RedisError::Unavailable(format!(
                "Redis at {} cannot be reached: {error}; check the address, and that the server is running",
                url.address()
            ))
        })?;
        if !url.is_tls() {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(url.host().to_owned()).map_err(|error| {
            RedisError::Invalid(format!(
                "a certificate cannot be for {}: {error}",
                url.address()
            ))
        })?;
        let config = self.trust.config().await;
        let config = config.map_err(|error| RedisError::Unavailable(error.to_string()))?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(tls_failed(url, &error)),
        }
    }
}

fn tls_failed(url: &RedisUrl, error: &io::Error) -> RedisError {
    let address = url.address();
    let cause = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    RedisError::Unavailable(match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => format!(
            "the certificate of Redis at {address} is not trusted: nobody known has issued it; set `redis.ca-file` \
             to a file with the certificate of its authority"
        ),
        Some(rustls::Error::InvalidCertificate(cause)) => {
            format!("the certificate of Redis at {address} is not trusted: {cause}")
        }
        Some(rustls::Error::InvalidMessage(_)) => format!(
            "Redis at {address} does not speak TLS on this port; use the port for TLS, or redis:// to do without it"
        ),
        _ => format!(
            "Redis at {address} cannot be reached with TLS: {error}; check that this is its port for TLS"
        ),
    })
}

/// Logs in, chooses the database and sees that the server answers.
async fn log_in(connection: &mut Connection, url: &RedisUrl) -> Result<(), RedisError> {
    let login = url.login();
    let mut hello: Vec<&[u8]> = vec![b"3"];
    if let Some((user, password)) = login {
        hello.extend([b"AUTH".as_slice(), user.as_bytes(), password.as_bytes()]);
    }
    hello.extend([b"SETNAME", CLIENT_NAME]);
    if let Some(error) = ask(connection, url, "HELLO", &hello).await? {
        // Servers before Redis 6, and some proxies, know the older protocol alone.
        if !(error.starts_with("ERR unknown command") || error.starts_with("NOPROTO")) {
            return Err(RedisError::from_setup(&url.address(), &error));
        }
        let auth: Option<Vec<&[u8]>> = login.map(|(user, password)| match user {
            "default" => vec![password.as_bytes()],
            user => vec![user.as_bytes(), password.as_bytes()],
        });
        if let Some(auth) = auth
            && let Some(error) = ask(connection, url, "AUTH", &auth).await?
        {
            return Err(RedisError::from_setup(&url.address(), &error));
        }
    }
    if url.database() != 0
        && let Some(error) = ask(connection, url, "SELECT", &[url.database().to_string()]).await?
    {
        return Err(match RedisError::from_reply(&url.address(), &error) {
            RedisError::Other(text) => RedisError::Invalid(format!(
                "Redis at {} does not open database {}. It says: {text}",
                url.address(),
                url.database()
            )),
            error => error,
        });
    }
    match ask(connection, url, "PING", &[] as &[&[u8]]).await? {
        // Logged in, and not allowed this one command: there are others.
        Some(error) if !error.starts_with("NOPERM") => {
            Err(RedisError::from_setup(&url.address(), &error))
        }
        _ => Ok(()),
    }
}

/// Sends a command and waits for its answer. Returns the text of an error reply.
async fn ask(
    connection: &mut Connection,
    url: &RedisUrl,
    command: &str,
    arguments: &[impl AsRef<[u8]>],
) -> Result<Option<String>, RedisError> {
    match query(connection, url, command, arguments).await? {
        Reply::Whole(reply) => Ok(reply
            .strip_prefix(b"-")
            .map(|text| String::from_utf8_lossy(text).trim_end().to_owned())),
        Reply::TooLarge => Ok(None),
    }
}

/// Sends a command and waits for its answer.
pub(super) async fn query(
    connection: &mut Connection,
    url: &RedisUrl,
    command: &str,
    arguments: &[impl AsRef<[u8]>],
) -> Result<Reply, RedisError> {
    let command = commands::encode(command, arguments)?;
    let answer = async {
        connection.socket().write_all(&command).await?;
        connection.socket().flush().await?;
        connection.next().await
    };
    match answer.await {
        Ok(reply) => Ok(reply),
        Err(error) => Err(RedisError::Unavailable(format!(
            "Redis at {} broke off while the connection was made: {error}{}",
            url.address(),
            if url.is_tls() {
                ""
            } else {
                "; where the server wants TLS, write rediss:// in the URL"
            }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_file_of_authorities_is_refused_by_its_key() {
        let nowhere = Some(PathBuf::from("nowhere/ca.pem"));
        let error = Dialer::new(nowhere, Duration::from_secs(1), Handle::current()).unwrap_err();
        assert!(
            matches!(&error, RedisError::Invalid(text) if text.contains("`redis.ca-file` nowhere/ca.pem")),
            "{error}"
        );
    }
}
