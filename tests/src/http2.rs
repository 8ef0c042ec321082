//! HTTP/2: several requests over one socket, plain (with prior knowledge) or TLS.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_rustls::TlsConnector;

use crate::{
    client::{Head, Request, Response},
    stream::{Body, End, Leave, Stream},
    wait::PATIENCE,
};

/// What may be on its way on all streams together: many windows of one stream, so that one that is not read leaves
/// room for the others.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A connection that speaks HTTP/2. It is closed when it and all its streams are dropped.
pub struct Http2 {
    requests: SendRequest<Bytes>,
    runtime: Handle,
    authority: String,
    scheme: &'static str,
    /// Held by everybody who needs the runtime.
    user: tokio::sync::mpsc::Sender<()>,
}

impl Http2 {
    /// A plain one, with prior knowledge.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(
            address,
            "http",
            async move { TcpStream::connect(address).await },
        )
    }

    /// One with TLS, for `localhost`. The configuration has to offer `h2`.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let connector = TlsConnector::from(config);
        Self::new(address, "https", async move {
            let name = ServerName::try_from("localhost").expect("a good name");
            let stream = connector
                .connect(name, TcpStream::connect(address).await?)
                .await?;
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Ok(stream),
                other => Err(io::Error::other(format!(
                    "not h2 but {other:?} was agreed on"
                ))),
            }
        })
    }

    #[track_caller]
    fn new<S>(
        address: SocketAddr,
        scheme: &'static str,
        connect: impl Future<Output = io::Result<S>> + Send + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (ready, wait) = mpsc::channel();
        let (user, mut users) = tokio::sync::mpsc::channel(1);
        // A thread of its own drives it until its last handle is gone.
        thread::spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_io()
                .build()
                .expect("a runtime");
            let handle = runtime.handle().clone();
            runtime.block_on(async move {
                let stream = connect.await.expect("the node takes sockets");
                let (requests, connection) = h2::client::Builder::new()
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .handshake(stream)
                    .await
                    .expect("the node speaks HTTP/2");
                let _ = ready.send((requests, handle));
                // An error is seen by the streams it breaks.
                let _ = connection.await;
                // What has come by then is still handed over.
                while users.recv().await.is_some() {}
            });
        });
        let (requests, runtime) = wait
            .recv_timeout(PATIENCE)
            .expect("the connection is made in time");
        Self {
            requests,
            runtime,
            authority: address.to_string(),
            scheme,
            user,
        }
    }

    /// Sends a request and gives the body of the response to be read as it comes.
    #[track_caller]
    pub fn stream(&self, request: &Request) -> Stream {
        self.begin(request, true)
    }

    /// Sends a request and takes no more of the body of the response than one window of it, until the stream is
    /// dropped.
    #[track_caller]
    pub fn stalled(&self, request: &Request) -> Stream {
        self.begin(request, false)
    }

    #[track_caller]
    fn begin(&self, request: &Request, reads: bool) -> Stream {
        let uri = format!("{}://{}{}", self.scheme, self.authority, request.target);
        let mut head = http::Request::builder()
            .method(request.method.as_str())
            .uri(uri)
            .version(http::Version::HTTP_2);
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        let head = head.body(()).expect("a good request");
        let body = Bytes::from(request.body.clone());
        let (requests, user) = (self.requests.clone(), self.user.clone());
        let (tell_head, head_told) = mpsc::channel();
        let (tell_body, body_told) = mpsc::channel();
        let (leave, left) = oneshot::channel();
        self.runtime.spawn(async move {
            let _user = user;
            let response = async {
                let mut requests = requests.ready().await?;
                let (response, mut sender) = requests.send_request(head, body.is_empty())?;
                drop(requests);
                if !body.is_empty() {
                    sender.send_data(body, true)?;
                }
                Ok::<_, h2::Error>((response.await?, sender))
            };
            let (response, mut sender) = match response.await {
                Ok(response) => response,
                Err(error) => return drop(tell_head.send(Err(error))),
            };
            let (head, mut body) = response.into_parts();
            let _ = tell_head.send(Ok(head));
            tokio::select! {
                () = forward(&mut body, reads, &tell_body) => {}
                // Either the stream was dropped or it is to be reset: for HTTP/2 the same.
                _ = left => sender.send_reset(Reason::CANCEL),
            }
        });
        let head = head_told
            .recv_timeout(PATIENCE)
            .expect("a response comes in time")
            .expect("a response comes");
        let headers = head.headers.iter().map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        let head = Head {
            raw: Vec::new(),
            version: "HTTP/2".to_owned(),
            status: head.status.as_u16(),
            headers: headers.collect(),
        };
        Stream::new(
            head,
            Box::new(Http2Body {
                told: body_told,
                _leave: leave,
            }),
        )
    }

    /// Sends a request and reads the complete response to it.
    #[track_caller]
    pub fn request(&self, request: &Request) -> Response {
        let mut stream = self.stream(request);
        let (_, end) = stream.rest();
        assert_eq!(
            end,
            End::Complete,
            "the response was cut: {:?}",
            stream.head()
        );
        Response {
            head: stream.head().clone(),
            body: stream.raw().to_vec(),
        }
    }
}

async fn forward(body: &mut RecvStream, reads: bool, to: &mpsc::Sender<Result<Vec<u8>, End>>) {
    loop {
        let told = match body.data().await {
            Some(Ok(bytes)) => {
                if reads {
                    let _ = body.flow_control().release_capacity(bytes.len());
                }
                Ok(bytes.to_vec())
            }
            Some(Err(_)) => Err(End::Cut),
            None => Err(End::Complete),
        };
        let over = told.is_err();
        if to.send(told).is_err() || over {
            return;
        }
    }
}

struct Http2Body {
    told: mpsc::Receiver<Result<Vec<u8>, End>>,
    /// Dropped to leave.
    _leave: oneshot::Sender<()>,
}

impl Body for Http2Body {
    fn next(&mut self) -> Result<Vec<u8>, End> {
        match self.told.recv_timeout(PATIENCE) {
            Ok(told) => told,
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(End::Cut),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("the node sent nothing for {PATIENCE:?}")
            }
        }
    }

    fn leave(self: Box<Self>, _: Leave) {}
}
