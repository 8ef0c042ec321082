//! A listener: accepts sockets, speaks HTTP/1.1 and HTTP/2 on them, and drains.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use hyper::{Method, Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    response::without_body,
    service::{Peer, Service},
    socket::Socket,
    stuck::Streams,
    takeover::{Exit, Leaving},
};
use crate::config::Listen;

/// Accepting goes on after so long when the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer is asked so often whether it is still there; its streams may be quiet for hours.
const PROBE_EVERY: Duration = Duration::from_secs(20);
/// What waits in the kernel for one client beside what is on its way.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 << 10;
/// Streams that one HTTP/2 connection may carry at a time.
const H2_STREAMS: u32 = 1000;

/// A bound socket.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    protocol: Builder<TokioExecutor>,
    /// Room for sockets, and how much there is.
    room: Arc<Semaphore>,
    seats: u32,
    /// How long a TLS handshake may take, and after it the head of the first request.
    head_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    write_timeout: Duration,
    /// The sockets that are served.
    tasks: TaskTracker,
    /// No new sockets, and no new requests on the old ones.
    drain: CancellationToken,
    /// Drops all sockets.
    stop: CancellationToken,
}

impl Listener {
    /// Binds the configured address.
    pub async fn bind(listen: &Listen, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let mut protocol = Builder::new(TokioExecutor::new());
        let head_bytes = usize::try_from(listen.head_bytes).unwrap_or(usize::MAX);
        protocol
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(listen.head_timeout)
            .max_buf_size(head_bytes);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PROBE_EVERY)
            .max_concurrent_streams(H2_STREAMS)
            .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX));
        let seats = u32::try_from(listen.max_connections).unwrap_or(u32::MAX);
        Ok(Self {
            socket: TcpListener::bind(listen.address).await?,
            tls,
            protocol,
            room: Arc::new(Semaphore::new(seats as usize)),
            seats,
            head_timeout: listen.head_timeout,
            write_timeout: listen.write_timeout,
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
        })
    }

    /// The address that was bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts sockets until the listener drains.
    pub async fn serve(&self, service: impl Service) {
        loop {
            // Past the limit sockets wait in the backlog of the kernel, not in the memory of the node.
            let accepted = tokio::select! {
                () = self.drain.cancelled() => return,
                accepted = self.accept() => accepted,
            };
            let (room, stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a socket; is the limit of open files too low?");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // An IPv4 client of a socket for both versions is shown as what it is.
            let address = address.ip().to_canonical();
            self.tasks
                .spawn(self.connection(stream, address, service.clone(), room));
        }
    }

    async fn accept(&self) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
        let room = self
            .room
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, address) = self.socket.accept().await?;
        Ok((room, stream, address))
    }

    /// One socket, from the handshake to its end, or until an event stream takes it over. Its seat is a place among
    /// all sockets.
    fn connection<S: Service>(
        &self,
        stream: TcpStream,
        address: IpAddr,
        service: S,
        seat: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + use<S> {
        let (protocol, tls) = (self.protocol.clone(), self.tls.clone());
        let (head_timeout, write_timeout) = (self.head_timeout, self.write_timeout);
        let (drain, stop) = (self.drain.clone(), self.stop.clone());
        async move {
            // An event is small and must not wait for the next one.
            let _ = stream.set_nodelay(true);
            // A client whose network is gone sends nothing that says so, and a quiet stream sends it nothing either.
            let keepalive = TcpKeepalive::new().with_time(PROBE_EVERY);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
            // Without this the kernel takes megabytes for a client that reads slowly, and does not say for a minute that
            // it reads at all.
            #[cfg(target_os = "linux")]
            let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES);
            let stream = Socket::new(stream, write_timeout);
            let abort = stop.child_token();
            let exit = tls.is_none().then(Exit::default);
            let talk = Talk {
                protocol,
                service,
                peer: Peer {
                    address,
                    abort: abort.clone(),
                    streams: Streams::default(),
                    exit: exit.clone(),
                },
                head_timeout,
                write_timeout,
                drain,
            };
            let serve = async {
                let Some(tls) = tls else {
                    let exit = exit.clone().unwrap_or_default();
                    return talk.over(Leaving::new(stream, exit)).await;
                };
                match timeout(head_timeout, tls.accept(stream)).await {
                    Ok(Ok(stream)) => talk.over(stream).await,
                    Ok(Err(error)) => debug!(%address, %error, "TLS handshake failed"),
                    Err(_) => debug!(%address, "TLS handshake took too long"),
                }
            };
            tokio::select! {
                () = serve => {}
                () = abort.cancelled() => {}
            }
            if let Some((delivery, framing, stream)) = exit.and_then(|exit| exit.take()) {
                match stream.into_std() {
                    Ok(stream) => delivery.take_over(stream, framing, seat),
                    Err(error) => debug!(%address, %error, "a socket could not be taken over"),
                }
            }
        }
    }

    /// Takes no new sockets and requests, waits until `deadline` for those there are, and drops what is left.
    pub async fn drain(&self, deadline: tokio::time::Instant) {
        self.drain.cancel();
        self.tasks.close();
        // A socket that was taken over has its seat, too.
        let closed = self.room.acquire_many(self.seats);
        if timeout_at(deadline, closed).await.is_err() {
            debug!("sockets are still open; they are dropped");
        }
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// HTTP on one socket.
struct Talk<S> {
    protocol: Builder<TokioExecutor>,
    service: S,
    peer: Peer,
    head_timeout: Duration,
    write_timeout: Duration,
    drain: CancellationToken,
}

impl<S: Service> Talk<S> {
    async fn over(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self {
            protocol,
            service,
            peer,
            head_timeout,
            write_timeout,
            drain,
        } = self;
        let (streams, exit) = (peer.streams.clone(), peer.exit.clone());
        let address = peer.address;
        let heard = Arc::new(AtomicBool::new(false));
        let answer = service_fn({
            let heard = heard.clone();
            move |request: Request<Incoming>| {
                heard.store(true, Ordering::Relaxed);
                let (service, peer) = (service.clone(), peer.clone());
                async move {
                    let head = request.method() == Method::HEAD;
                    let response = service.respond(request, peer).await;
                    Ok::<_, Infallible>(match head {
                        true => without_body(response),
                        false => response,
                    })
                }
            }
        });
        let connection = protocol.serve_connection(TokioIo::new(stream), answer);
        tokio::pin!(connection);
        // The library begins to count when it knows the version; a client that sends less than that would stay.
        let silent = async {
            sleep(head_timeout).await;
            if heard.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        };
        let talk = async {
            tokio::select! {
                result = connection.as_mut() => result,
                () = drain.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        let left = poll_fn(|_| match exit.as_ref().is_some_and(Exit::is_due) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        tokio::select! {
            // In this order, because it is the library that makes it due.
            biased;
            result = talk => if let Err(error) = result {
                debug!(%address, error, "connection failed");
            },
            () = left => {}
            () = silent => debug!(%address, "no request in time"),
            () = streams.stuck(write_timeout) => debug!(%address, "a stream takes nothing"),
        }
    }
}
