//! The connection to a server: its address, the socket, TLS.

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use crate::{config::Upstream, trust::Trust};

/// A socket, with TLS or without.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Connects to a server.
pub async fn connect(upstream: &Upstream, trust: &Trust) -> Result<Box<dyn Socket>, Failure> {
    let addresses = lookup_host((upstream.host(), upstream.port())).await;
    let addresses: Vec<_> = addresses.map_err(Failure::Unknown)?.collect();
    let stream = TcpStream::connect(addresses.as_slice()).await;
    let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    let stream = stream.map_err(Failure::Unreachable)?;
    if !upstream.is_tls() {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(upstream.host().to_owned());
    let name = name.map_err(|error| Failure::Tls(error.to_string()))?;
    let config = trust.config().await;
    let config = config.map_err(|error| Failure::Tls(error.to_string()))?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(Failure::of_handshake(&error)),
    }
}
