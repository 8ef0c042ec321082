//! Why a request failed: a code for the guest, which carries no text, and a sentence for the log, which does.

use std::{error::Error as _, io, time::Duration};

use rustls::CertificateError;
use thiserror::Error as ThisError;
use wasmtime_wasi_http::Error;

use super::counters::Ending;
use crate::config::Upstream;

/// Why.
#[derive(Debug, ThisError)]
pub enum Failure {
    /// The app may not send there.
    #[error(
        "denied: the app was not granted {0}; the operator grants it with `capabilities.http = [\"{0}\"]` in the app's \
         configuration, or with `--allow-http {0}` on the command line"
    )]
    NotGranted(Upstream),
    /// The method is CONNECT.
    #[error("refused: guests open no tunnels (CONNECT)")]
    Tunnel,
    /// Too many are in flight.
    #[error("refused: the app has {0} requests in flight, which is its limit `http.requests`")]
    TooMany(usize),
    /// The name has no address.
    #[error("the address cannot be found: {0}")]
    Unknown(io::Error),
    /// The server takes no connection.
    #[error("the server cannot be reached: {0}")]
    Unreachable(io::Error),
    /// Connecting took too long.
    #[error(
        "no connection within {0:?} (limit `http.connect-timeout`, or less as the guest asked)"
    )]
    ConnectTimeout(Duration),
    /// The server is not who it should be.
    #[error("the server's certificate is not trusted: {0}")]
    Certificate(String),
    /// TLS failed in another way.
    #[error("TLS failed: {0}; check that the server speaks it on this port")]
    Tls(String),
    /// There was no head in time.
    #[error(
        "no response within {0:?} (limit `http.first-byte-timeout`, or less as the guest asked)"
    )]
    FirstByte(Duration),
    /// The body paused.
    #[error(
        "nothing of the response's body for {0:?} (limit `http.between-bytes-timeout`, or less as the guest asked)"
    )]
    BetweenBytes(Duration),
    /// The body is too large.
    #[error("the response's body is larger than {0} bytes, the limit `http.response-bytes`")]
    BodySize(u64),
    /// The head is too large.
    #[error("the response's head is larger than {0} bytes")]
    HeadSize(usize),
    /// The server closed the connection.
    #[error("the server closed the connection before the response was complete")]
    Cut,
    /// The guest did not send all of its request.
    #[error("the guest did not finish its request")]
    Unfinished,
    /// HTTP failed in another way.
    #[error("no good HTTP: {0}")]
    Protocol(String),
}

impl Failure {
    /// Of a TLS handshake.
    pub fn of_handshake(error: &io::Error) -> Self {
        let cause = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Self::Certificate(
                    "nobody known has issued it; set the app's `http.ca-file` to a file with the certificate of its \
                     authority"
                        .to_owned(),
                )
            }
            Some(rustls::Error::InvalidCertificate(cause)) => Self::Certificate(cause.to_string()),
            _ => Self::Tls(error.to_string()),
        }
    }

    /// Of HTTP on a connection whose heads have at most so many bytes.
    pub fn of_http(error: &hyper::Error, head_bytes: usize) -> Self {
        if error.is_parse_too_large() {
            return Self::HeadSize(head_bytes);
        }
        if error.is_user() {
            return Self::Unfinished;
        }
        let broken = error
            .source()
            .and_then(|cause| cause.downcast_ref::<io::Error>());
        if error.is_incomplete_message() || error.is_canceled() || broken.is_some() {
            return Self::Cut;
        }
        Self::Protocol(error.to_string())
    }

    /// What the guest is told.
    pub fn code(&self) -> Error {
        match self {
            Self::NotGranted(_) => Error::HttpRequestDenied,
            Self::Tunnel => Error::HttpRequestMethodInvalid,
            Self::TooMany(_) => Error::ConnectionLimitReached,
            Self::Unknown(_) => Error::DnsError {
                rcode: Some("address not available".to_owned()),
                info_code: None,
            },
            Self::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Error::ConnectionRefused
            }
            Self::Unreachable(_) => Error::DestinationUnavailable,
            Self::ConnectTimeout(_) => Error::ConnectionTimeout,
            Self::Certificate(_) => Error::TlsCertificateError,
            Self::Tls(_) => Error::TlsProtocolError,
            Self::FirstByte(_) => Error::HttpResponseTimeout,
            Self::BetweenBytes(_) => Error::ConnectionReadTimeout,
            Self::BodySize(limit) => Error::HttpResponseBodySize(Some(*limit)),
            Self::HeadSize(bytes) => {
                Error::HttpResponseHeaderSectionSize(u32::try_from(*bytes).ok())
            }
            Self::Cut => Error::HttpResponseIncomplete,
            Self::Unfinished | Self::Protocol(_) => Error::HttpProtocolError,
        }
    }

    /// What it counts as.
    pub fn ending(&self) -> Ending {
        match self {
            Self::NotGranted(_) | Self::Tunnel => Ending::Denied,
            Self::TooMany(_) => Ending::Limited,
            _ => Ending::Failed,
        }
    }
}
