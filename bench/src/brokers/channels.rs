//! What many channels take, at the broker and on a node where each is heard, and whether they give it back.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fanfare::{broker::Retention, hub::channel::ChannelName};
use tokio::time::sleep;

use super::{
    Server,
    node::{Node, event},
};

pub const HEAD: [&str; 7] = [
    "broker",
    "broker MB",
    "bytes/event",
    "broker MB after",
    "node MB",
    "bytes/channel",
    "node MB after",
];

const EVENTS: usize = 10;
/// Callers that publish at a time.
const CALLERS: usize = 64;
/// How long events are kept.
const AGE: Duration = Duration::from_secs(90);
/// How long after that the broker may take to forget them.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(server: &dyn Server, channels: usize) -> Result<Vec<String>> {
    let retention = Retention {
        events: 100,
        age: AGE,
    };
    let node = Arc::new(Node::start(server, "channels", retention).await?);
    let (before, own) = (server.memory()?, resident()?);
    let begun = Instant::now();
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let (node, event) = (node.clone(), event()?);
        callers.push(tokio::spawn(async move {
            let mut clients = Vec::new();
            for number in (caller..channels).step_by(CALLERS) {
                let channel = ChannelName::new(&format!("channel {number}"))?;
                clients.push(node.client(&channel).await?);
                for _ in 0..EVENTS {
                    node.feed.publish(&channel, &event).await?;
                }
            }
            anyhow::Ok(clients)
        }));
    }
    let mut clients = Vec::new();
    for caller in callers {
        clients.extend(caller.await??);
    }
    let (peak, own_peak) = (server.memory()?, resident()?);
    let took = begun.elapsed();
    drop(clients);
    // What is too old goes, and what nobody hears is not listened to any more.
    sleep(AGE.saturating_sub(begun.elapsed().saturating_sub(took))).await;
    let deadline = Instant::now() + PATIENCE;
    let mut after = server.memory()?;
    while let (Some(now), Some(before), Some(peak)) = (after, before, peak)
        && now.saturating_sub(before) > peak.saturating_sub(before) / 50
        && Instant::now() < deadline
    {
        sleep(Duration::from_secs(1)).await;
        node.hub.expire(Instant::now());
        after = server.memory()?;
    }
    node.hub.expire(Instant::now());
    let own_after = resident()?;
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let over = |bytes: Option<u64>| Some(bytes?.saturating_sub(before?));
    let each = |bytes: u64, count: usize| format!("{}", bytes / count as u64);
    let own_taken = own_peak.saturating_sub(own);
    Ok(vec![
        server.name().to_owned(),
        over(peak).map(megabytes).unwrap_or_default(),
        over(peak)
            .map(|taken| each(taken, channels * EVENTS))
            .unwrap_or_default(),
        over(after).map(megabytes).unwrap_or_default(),
        megabytes(own_taken),
        each(own_taken, channels),
        megabytes(own_after.saturating_sub(own)),
    ])
}

/// The memory of this process, in bytes.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: u64 = kilobytes.context("the system says no memory")?.parse()?;
    Ok(kilobytes * 1024)
}
