//! The connection to a server: its address, the socket, TLS.

use std::{io, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use crate::{config::Upstream, trust::Trust};

/// A socket, with TLS or without.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Connects to a server, for a request that has this place among the app's.
pub async fn connect(
    upstream: &Upstream,
    trust: &Trust,
    place: &Arc<OwnedSemaphorePermit>,
) -> Result<Box<dyn Socket>, Failure> {
    let (host, port) = (upstream.host().to_owned(), upstream.port());
    let lookup = async move {
        let addresses = lookup_host((host, port)).await?;
        Ok(addresses.collect::<Vec<_>>())
    };
    let addresses = to_its_end(lookup, place.clone()).await;
    let addresses = addresses.map_err(Failure::Unknown)?;
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

/// Lets a lookup go on when nobody waits for it any more, and the place with it. It has a thread that nothing can stop,
/// one of few that the node has for this: without the place, an app could have them all.
async fn to_its_end<T: Send + 'static>(
    lookup: impl Future<Output = io::Result<T>> + Send + 'static,
    place: Arc<OwnedSemaphorePermit>,
) -> io::Result<T> {
    let task = tokio::spawn(async move {
        let found = lookup.await;
        drop(place);
        found
    });
    task.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        sync::{Semaphore, oneshot},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_keeps_its_place_until_it_returns() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::new(places.clone().try_acquire_owned().unwrap());
        let (returns, returned) = oneshot::channel::<()>();
        let lookup = async move {
            let _ = returned.await;
            Ok(())
        };
        let waited = timeout(Duration::from_millis(20), to_its_end(lookup, place)).await;
        assert!(waited.is_err());
        assert_eq!(places.available_permits(), 0);
        returns.send(()).unwrap();
        let free = timeout(Duration::from_secs(20), places.acquire()).await;
        assert!(free.is_ok());
    }
}
