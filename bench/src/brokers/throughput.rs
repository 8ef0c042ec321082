//! How many publications of one node a broker accepts in a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use fanfare::{broker::Retention, hub::channel::ChannelName};

use super::{
    Server,
    node::{Node, event},
};

pub const HEAD: [&str; 4] = ["broker", "events/s", "its benchmark", "of it"];

/// Callers that publish at a time, each one event after another.
pub const CALLERS: usize = 256;
/// Rounds; the best counts, of both.
const ROUNDS: usize = 3;

pub async fn measure(server: &dyn Server, events: usize) -> Result<Vec<String>> {
    let retention = Retention {
        events: 100,
        age: Duration::from_secs(120),
    };
    let node = Arc::new(Node::start(server, "throughput", retention).await?);
    let channel = ChannelName::new("throughput")?;
    let (mut best, mut benchmark) = (0f64, None::<f64>);
    for _ in 0..ROUNDS {
        let left = Arc::new(AtomicUsize::new(events));
        let begun = Instant::now();
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let (node, channel, left, event) =
                (node.clone(), channel.clone(), left.clone(), event()?);
            callers.push(tokio::spawn(async move {
                let take = || {
                    left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(1)
                    })
                };
                while take().is_ok() {
                    node.feed.publish(&channel, &event).await?;
                }
                anyhow::Ok(())
            }));
        }
        for caller in callers {
            caller.await??;
        }
        best = best.max(events as f64 / begun.elapsed().as_secs_f64());
        if let Some(reached) = server.benchmark(events)? {
            benchmark = Some(benchmark.unwrap_or_default().max(reached));
        }
    }
    let shown = |rate: f64| format!("{rate:.0}");
    let of = benchmark.map(|benchmark| format!("{:.2}", best / benchmark));
    Ok(vec![
        server.name().to_owned(),
        shown(best),
        benchmark.map(shown).unwrap_or_default(),
        of.unwrap_or_default(),
    ])
}
