//! NATS: `nats-server` with JetStream in files, and async-nats.
//!
//! What the broker is compared with is a publish that the stream acknowledges, heard from what the stream republishes once
//! it has it: as with the broker, nobody hears what is not stored. A plain subscriber of the subject hears what the stream
//! may yet refuse, and without a stream nothing is kept at all; both are measured beside.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_nats::{
    Client, Subscriber,
    jetstream::{
        self,
        stream::{Config, Republish},
    },
};
use fanfare::broker::{
    Broker, Retention,
    nats::{Nats as NatsBroker, NatsUrl, Settings},
};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{
    Bare, Flood, Later, Pass, RETENTION, SETUP, SIZE, Server, Started, TIMEOUT, folder, program,
};
use crate::process::{Process, free_address};

/// What a stream keeps.
const KEPT: &str = "bare.kept.*";
/// A subject of that which the stream pushes, where it does, and one that it does not push.
const PUSHED_FROM: &str = "bare.kept.pushed";
const PUSHED: &str = "bare.pushed";
const NOT_PUSHED: &str = "bare.kept.plain";
/// A subject that nobody keeps.
const NOT_KEPT: &str = "bare.plain";

struct Nats {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// Starts a server.
pub fn start() -> Result<Started> {
    let Some(program) = program("nats-server", &["/usr/sbin".into()]) else {
        return Ok(Started::Missing(SETUP));
    };
    let (address, folder) = (free_address()?, folder("nats")?);
    let mut command = Command::new(program);
    command
        .args(["--addr", "127.0.0.1", "--jetstream"])
        .args(["--port", &address.port().to_string()])
        .arg("--store_dir")
        .arg(folder.path().join("data"));
    let process = Process::start(&mut command, address, folder.path())?;
    Ok(Started::Ready(Box::new(Nats {
        address,
        _process: process,
        _folder: folder,
    })))
}

impl Nats {
    fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    async fn connect(&self) -> Result<Client> {
        Ok(async_nats::connect(self.url()).await?)
    }

    /// A stream that keeps as much as that of the broker, unless it is there.
    async fn stream(&self, client: &Client) -> Result<jetstream::Context> {
        let context = jetstream::new(client.clone());
        let config = Config {
            name: "bare".to_owned(),
            subjects: vec![KEPT.to_owned()],
            max_messages_per_subject: RETENTION.events as i64,
            max_age: RETENTION.age,
            duplicate_window: RETENTION.age,
            republish: Some(Republish {
                source: PUSHED_FROM.to_owned(),
                destination: PUSHED.to_owned(),
                headers_only: false,
            }),
            ..Config::default()
        };
        context.get_or_create_stream(config).await?;
        Ok(context)
    }
}

impl Server for Nats {
    fn broker(&self, log: &str, retention: Retention) -> Result<Box<dyn Broker>> {
        let settings = Settings {
            url: NatsUrl::parse(&self.url())?,
            ca_file: None,
            timeout: TIMEOUT,
            replicas: 1,
        };
        let log = log.to_owned();
        Ok(Box::new(NatsBroker::new(
            settings,
            log,
            retention,
            Handle::current(),
        )?))
    }

    fn bare(&self) -> Later<'_, Vec<Bare>> {
        Box::pin(async {
            // As two nodes have them.
            let (publisher, subscriber) = (self.connect().await?, self.connect().await?);
            let stream = self.stream(&publisher).await?;
            let stored = |what, subject, heard| Bare {
                what,
                way: Box::new(Stored {
                    stream: stream.clone(),
                    subject,
                    heard,
                }),
            };
            let hear = async |subject: &'static str| {
                let heard = subscriber.subscribe(subject).await?;
                subscriber.flush().await?;
                anyhow::Ok(heard)
            };
            Ok(vec![
                stored(
                    "JetStream, heard once stored",
                    PUSHED_FROM,
                    hear(PUSHED).await?,
                ),
                stored(
                    "JetStream, plain subscriber",
                    NOT_PUSHED,
                    hear(NOT_PUSHED).await?,
                ),
                Bare {
                    what: "PUB, SUB: nothing is kept",
                    way: Box::new(Core {
                        publisher,
                        heard: hear(NOT_KEPT).await?,
                    }),
                },
            ])
        })
    }

    fn bare_rate<'a>(&'a self, flood: &'a Flood) -> Later<'a, f64> {
        Box::pin(async {
            let stream = self.stream(&self.connect().await?).await?;
            let publish = move |_| {
                let stream = stream.clone();
                async move {
                    let payload = vec![b'x'; SIZE].into();
                    stream.publish(PUSHED_FROM, payload).await?.await?;
                    Ok(())
                }
            };
            flood.run(publish).await
        })
    }
}

struct Stored {
    stream: jetstream::Context,
    subject: &'static str,
    heard: Subscriber,
}

impl Pass for Stored {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            let publish = async {
                let payload = payload.to_vec().into();
                Ok(self.stream.publish(self.subject, payload).await?.await?)
            };
            let heard = heard(&mut self.heard, payload, begun);
            let (published, heard): (Result<_>, _) = tokio::join!(publish, heard);
            published?;
            heard
        })
    }
}

struct Core {
    publisher: Client,
    heard: Subscriber,
}

impl Pass for Core {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            let publish = self.publisher.publish(NOT_KEPT, payload.to_vec().into());
            let heard = heard(&mut self.heard, payload, begun);
            let (published, heard) = tokio::join!(publish, heard);
            published?;
            heard
        })
    }
}

/// How long it took until these bytes are heard.
async fn heard(messages: &mut Subscriber, payload: &[u8], begun: Instant) -> Result<Duration> {
    let message = messages.next().await;
    let message = message.context("the subscription has ended")?;
    ensure!(*message.payload == *payload, "another message");
    Ok(begun.elapsed())
}
