//! What went wrong at the server, and what it means.

use std::{error::Error as _, io, time::Duration};

use rustls::CertificateError;
use tokio_postgres::{
    Error,
    error::{DbError, Severity, SqlState},
};

use super::{super::BrokerError, url::PostgresUrl};

/// Why the server did not do what it was asked.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    text: String,
    is_denied: bool,
    /// The connection is of no use any more, and nobody knows whether the server has done it.
    pub(super) is_lost: bool,
}

impl Failure {
    /// A connection could not be opened.
    pub(super) fn opening(url: &PostgresUrl, error: &Error) -> Self {
        let address = url.address();
        let text = match error.as_db_error() {
            Some(db) => format!(
                "PostgreSQL at {address} does not take a connection to the database {:?}. It says: {}{}",
                url.database(),
                db.message(),
                opening_hint(db)
            ),
            None => match tls_cause(error) {
                Some(cause) => tls_text(&address, cause),
                None => format!(
                    "PostgreSQL at {address} cannot be reached: {}; check the address, and that the server is running",
                    chain(error)
                ),
            },
        };
        Self {
            text,
            is_denied: error.as_db_error().is_some_and(is_denied),
            is_lost: true,
        }
    }

    /// It did not do something.
    pub(super) fn asking(url: &PostgresUrl, what: &str, error: &Error) -> Self {
        let address = url.address();
        match error.as_db_error() {
            Some(db) => Self {
                text: format!(
                    "PostgreSQL at {address} refuses {what}. It says: {}",
                    db.message()
                ),
                is_denied: is_denied(db),
                is_lost: is_lost(db),
            },
            None => Self::lost(format!(
                "the connection to PostgreSQL at {address} broke at {what}: {}",
                chain(error)
            )),
        }
    }

    /// It did not answer in time.
    pub(super) fn late(url: &PostgresUrl, what: &str, limit: Duration) -> Self {
        Self::lost(format!(
            "PostgreSQL at {} did not answer to {what} within {limit:?}",
            url.address()
        ))
    }

    /// The connection is to be made anew.
    pub(super) fn lost(text: String) -> Self {
        Self {
            text,
            is_denied: false,
            is_lost: true,
        }
    }

    /// It refuses for good.
    pub(super) fn denied(text: String) -> Self {
        Self {
            text,
            is_denied: true,
            is_lost: true,
        }
    }

    pub(super) fn is_denied(&self) -> bool {
        self.is_denied
    }

    /// What it says, with something more.
    pub(super) fn with(&self, more: &str) -> BrokerError {
        let text = format!("{}; {more}", self.text);
        match self.is_denied {
            true => BrokerError::Denied(text),
            false => BrokerError::Unavailable(text),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl From<Failure> for BrokerError {
    fn from(failure: Failure) -> Self {
        match failure.is_denied {
            true => Self::Denied(failure.text),
            false => Self::Unavailable(failure.text),
        }
    }
}

/// Trying again as this user, in this database, is of no use.
fn is_denied(db: &DbError) -> bool {
    db.code().code().starts_with("28")
        || *db.code() == SqlState::INVALID_CATALOG_NAME
        || *db.code() == SqlState::INSUFFICIENT_PRIVILEGE
}

/// All but what concerns one statement alone, by class of PostgreSQL's error codes (its documentation, appendix A): data,
/// constraints, conflicts of transactions, lack of resources, objects in use, a statement that took too long.
fn is_lost(db: &DbError) -> bool {
    let class = db.code().code().get(..2).unwrap_or_default();
    let of_statement = matches!(class, "22" | "23" | "40" | "53" | "55")
        || *db.code() == SqlState::QUERY_CANCELED
        || *db.code() == SqlState::INSUFFICIENT_PRIVILEGE;
    !of_statement || db.parsed_severity() != Some(Severity::Error)
}

fn opening_hint(db: &DbError) -> &'static str {
    let code = db.code();
    if *code == SqlState::INVALID_PASSWORD {
        "; check the user and the password in the URL"
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        "; create the database, or name another one in the URL"
    } else if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        "; check the user in the URL, and the server's pg_hba.conf"
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "; each publisher needs two connections on each node: raise the server's `max_connections`"
    } else {
        ""
    }
}

/// The error of TLS that is the cause.
fn tls_cause(error: &Error) -> Option<&rustls::Error> {
    let io: &io::Error = error.source()?.downcast_ref()?;
    io.get_ref()?.downcast_ref()
}

fn tls_text(address: &str, cause: &rustls::Error) -> String {
    match cause {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate of PostgreSQL at {address} is not trusted: nobody known has issued it; set the broker's \
             `ca-file` to a file with the certificate of its authority, or do without TLS by `sslmode=disable` in the URL"
        ),
        rustls::Error::InvalidCertificate(cause) => format!(
            "the certificate of PostgreSQL at {address} is not trusted: {cause}; do without TLS by `sslmode=disable` in \
             the URL if nobody else can reach the network in between"
        ),
        cause => format!("PostgreSQL at {address} cannot be reached with TLS: {cause}"),
    }
}

/// An error with all its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
