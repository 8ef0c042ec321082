//! Redis: `redis-server` without persistence, its `PUBLISH` and `SUBSCRIBE`, and `redis-benchmark` with the same script.

use std::{
    net::SocketAddr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fanfare::{
    broker::{Broker, Retention, redis::Redis as RedisBroker},
    redis_pool::{Heard, Push, RedisClient, RedisPool, RedisUrl, Settings},
};
use futures_util::StreamExt as _;
use redis::AsyncCommands as _;
use tempfile::TempDir;

use super::{
    Bare, Flood, ForANode, Later, Pass, SETUP, SIZE, Server, Started, TIMEOUT, folder, program,
};
use crate::process::{Process, free_address};

/// The script that publishing is.
const SCRIPT: &str = include_str!("../../../host/src/broker/redis/scripts/publish.lua");

struct Redis {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

/// Starts a server.
pub fn start() -> Result<Started> {
    let Some(program) = program("redis-server", &[]) else {
        return Ok(Started::Missing(SETUP));
    };
    let (address, folder) = (free_address()?, folder("redis")?);
    let mut command = Command::new(program);
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--client-output-buffer-limit", "pubsub", "0", "0", "0"])
        .args(["--port", &address.port().to_string()])
        .arg("--dir")
        .arg(folder.path());
    let process = Process::start(&mut command, address, folder.path())?;
    Ok(Started::Ready(Box::new(Redis {
        address,
        _process: process,
        _folder: folder,
    })))
}

impl Redis {
    fn url(&self) -> Result<RedisUrl> {
        Ok(RedisUrl::parse(&format!("redis://{}", self.address))?)
    }

    fn pool() -> Result<RedisPool> {
        let settings = Settings {
            ca_file: None,
            timeout: TIMEOUT,
        };
        Ok(RedisPool::new(settings)?)
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        let answer = Command::new("redis-cli")
            .args(["-p", &self.address.port().to_string()])
            .args(words)
            .output()?;
        ensure!(answer.status.success(), "redis-cli has failed");
        Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    }
}

impl Server for Redis {
    fn broker(&self, log: &str, retention: Retention) -> Result<Box<dyn Broker>> {
        let pool = Arc::new(Self::pool()?);
        let log = log.to_owned();
        Ok(Box::new(RedisBroker::new(
            pool,
            self.url()?,
            log,
            retention,
        )))
    }

    fn bare(&self) -> Later<'_, Vec<Bare>> {
        Box::pin(async {
            let client = redis::Client::open(format!("redis://{}", self.address))?;
            let publisher = client.get_multiplexed_async_connection().await?;
            let mut subscriber = client.get_async_pubsub().await?;
            subscriber.subscribe("bare").await?;
            let own = Self::pool()?.connect(&self.url()?).await?;
            let mut push = own.push().await?;
            push.subscribe(&["own".to_owned()]).await?;
            push.next().await?;
            Ok(vec![
                Bare {
                    what: "PUBLISH, SUBSCRIBE, redis-rs",
                    way: Box::new(PubSub {
                        publisher,
                        subscriber,
                    }),
                },
                Bare {
                    what: "the same, a node's connections",
                    way: Box::new(OwnPubSub { client: own, push }),
                },
            ])
        })
    }

    fn bare_rate<'a>(&'a self, flood: &'a Flood) -> Later<'a, f64> {
        Box::pin(async { self.benchmark(flood.events) })
    }

    fn for_a_node(&self) -> Option<&dyn ForANode> {
        Some(self)
    }
}

impl Redis {
    /// What its own benchmark reaches with the same script.
    fn benchmark(&self, events: usize) -> Result<f64> {
        let digest = self.ask(&["SCRIPT", "LOAD", SCRIPT])?;
        self.ask(&["HSET", "{benchmark}", "last", "1", "epoch", "r000000000"])?;
        // As the broker encodes an event.
        let payload = format!("1t\ndata: {}\n\n", "x".repeat(SIZE));
        let answer = Command::new("redis-benchmark")
            .args(["-p", &self.address.port().to_string(), "-q", "--csv"])
            .args(["-n", &events.to_string(), "-c", "4", "-P", "64"])
            .args(["EVALSHA", &digest, "2", "{benchmark}", "{benchmark}:e:c"])
            .args([
                "{benchmark}:p:c",
                "c",
                &payload,
                "100",
                "120000000",
                "PUBLISH",
            ])
            .output()
            .context("redis-benchmark does not start; is it installed?")?;
        let text = String::from_utf8_lossy(&answer.stdout);
        // "test","rps",…: the name of the test holds commas and line endings itself.
        let numbers = text.rsplit_once("\n\"").map_or(&*text, |(_, last)| last);
        let rate = numbers.rsplit("\",\"").nth(6);
        match rate.and_then(|rate| rate.trim_matches('"').parse().ok()) {
            Some(rate) => Ok(rate),
            None => bail!("redis-benchmark says something else than rates: {text}"),
        }
    }
}

impl ForANode for Redis {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn memory(&self) -> Result<u64> {
        let info = self.ask(&["INFO", "memory"])?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        let bytes = line.context("Redis says nothing of its memory")?;
        Ok(bytes.trim().parse()?)
    }
}

struct PubSub {
    publisher: redis::aio::MultiplexedConnection,
    subscriber: redis::aio::PubSub,
}

impl Pass for PubSub {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            let mut messages = self.subscriber.on_message();
            let heard = async {
                messages
                    .next()
                    .await
                    .context("the subscription has ended")?;
                Ok::<_, anyhow::Error>(begun.elapsed())
            };
            let published = self.publisher.publish("bare", payload);
            let (published, heard): (redis::RedisResult<u64>, _) = tokio::join!(published, heard);
            published?;
            heard
        })
    }
}

/// Commands and pushes as a node has them.
struct OwnPubSub {
    client: RedisClient,
    push: Push,
}

impl Pass for OwnPubSub {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            let heard = async {
                let heard = self.push.next().await?;
                ensure!(matches!(heard, Heard::Message { .. }), "another message");
                Ok(begun.elapsed())
            };
            let published = self.client.publish("own", payload.to_vec());
            let (published, heard) = tokio::join!(published, heard);
            published?;
            heard
        })
    }
}
