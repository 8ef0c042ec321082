//! Redis: `redis-server` without persistence, its `PUBLISH` and `SUBSCRIBE`, and `redis-benchmark`.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fanfare::{
    broker::{Broker, Retention, redis::Redis as RedisBroker},
    redis_pool::{Heard, Push, RedisClient, RedisPool, RedisUrl, Settings},
};

use super::{Bare, Later, SIZE, Server};
use crate::process::free_address;

/// The script that publishing is.
const SCRIPT: &str = include_str!("../../../host/src/broker/redis/scripts/publish.lua");

struct Redis {
    port: u16,
    process: Child,
}

/// Starts a server.
pub fn start() -> Result<Box<dyn Server>> {
    let port = free_address()?.port();
    let process = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--client-output-buffer-limit", "pubsub", "0", "0", "0"])
        .args(["--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("redis-server does not start; is it installed?")?;
    let redis = Redis { port, process };
    let begun = Instant::now();
    while redis.ask(&["PING"]).is_err() {
        ensure!(
            begun.elapsed() < Duration::from_secs(10),
            "redis-server does not start"
        );
        sleep(Duration::from_millis(20));
    }
    Ok(Box::new(redis))
}

impl Redis {
    fn url(&self) -> Result<RedisUrl> {
        Ok(RedisUrl::parse(&format!(
            "redis://127.0.0.1:{}",
            self.port
        ))?)
    }

    fn pool() -> Result<RedisPool> {
        let settings = Settings {
            ca_file: None,
            timeout: Duration::from_secs(5),
        };
        Ok(RedisPool::new(settings)?)
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        let answer = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(words)
            .output()?;
        ensure!(answer.status.success(), "redis-cli has failed");
        Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    }
}

impl Server for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn broker(&self, log: &str, retention: Retention) -> Box<dyn Broker> {
        let pool = Self::pool().expect("a pool without certificates");
        let url = self.url().expect("a URL of a port");
        Box::new(RedisBroker::new(
            Arc::new(pool),
            url,
            log.to_owned(),
            retention,
        ))
    }

    fn bare(&self) -> Later<'_, Box<dyn Bare>> {
        Box::pin(async {
            let client = Self::pool()?.connect(&self.url()?).await?;
            let mut push = client.push().await?;
            push.subscribe(&["bare".to_owned()]).await?;
            push.next().await?;
            Ok(Box::new(PubSub { client, push }) as Box<dyn Bare>)
        })
    }

    fn benchmark(&self, events: usize) -> Result<Option<f64>> {
        let digest = self.ask(&["SCRIPT", "LOAD", SCRIPT])?;
        self.ask(&["HSET", "{benchmark}", "last", "1", "epoch", "r000000000"])?;
        // As the broker encodes an event.
        let payload = format!("1t\ndata: {}\n\n", "x".repeat(SIZE));
        let answer = Command::new("redis-benchmark")
            .args(["-p", &self.port.to_string(), "-q", "--csv"])
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
            Some(rate) => Ok(Some(rate)),
            None => bail!("redis-benchmark says something else than rates: {text}"),
        }
    }

    fn memory(&self) -> Result<Option<u64>> {
        let info = self.ask(&["INFO", "memory"])?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        Ok(line.and_then(|bytes| bytes.trim().parse().ok()))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It is gone either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct PubSub {
    client: RedisClient,
    push: Push,
}

impl Bare for PubSub {
    fn pass<'a>(&'a mut self, payload: &'a [u8]) -> Later<'a, Duration> {
        Box::pin(async move {
            let begun = Instant::now();
            let heard = async {
                let heard = self.push.next().await?;
                ensure!(matches!(heard, Heard::Message { .. }), "another message");
                Ok(begun.elapsed())
            };
            let published = self.client.publish("bare", payload.to_vec());
            let (published, heard) = tokio::join!(published, heard);
            published?;
            heard
        })
    }
}
