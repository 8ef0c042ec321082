//! From the call of `publish` on one node until a client of another one has the bytes, and the same with the broker's own
//! client from a publisher to a subscriber: in turns, so that both have the same machine.

use std::time::{Duration, Instant};

use anyhow::Result;
use fanfare::{broker::Retention, hub::channel::ChannelName};

use super::{
    SIZE, Server,
    node::{Node, event},
};

pub const HEAD: [&str; 7] = [
    "broker",
    "p50 µs",
    "p99 µs",
    "bare p50 µs",
    "bare p99 µs",
    "p50 of bare",
    "p99 of bare",
];

/// Events of one turn.
const TURN: usize = 100;

pub async fn measure(server: &dyn Server, events: usize) -> Result<Vec<String>> {
    let retention = Retention {
        events: 100,
        age: Duration::from_secs(120),
    };
    let (one, other) = (
        Node::start(server, "latency", retention).await?,
        Node::start(server, "latency", retention).await?,
    );
    let channel = ChannelName::new("latency")?;
    let mut client = other.client(&channel).await?;
    let mut bare = server.bare().await?;
    let (event, payload) = (event()?, vec![b'x'; SIZE]);
    let (mut passed, mut passed_bare) = (Vec::new(), Vec::new());
    for turn in 0..events.div_ceil(TURN).max(2) {
        let mut turns = (Vec::new(), Vec::new());
        for _ in 0..TURN {
            let begun = Instant::now();
            let heard = async {
                client.heard().await?;
                Ok::<_, anyhow::Error>(begun.elapsed())
            };
            let (published, heard) = tokio::join!(one.feed.publish(&channel, &event), heard);
            published?;
            turns.0.push(heard?);
        }
        for _ in 0..TURN {
            turns.1.push(bare.pass(&payload).await?);
        }
        // The first is to warm up.
        if turn > 0 {
            passed.extend(turns.0);
            passed_bare.extend(turns.1);
        }
    }
    let (p50, p99) = percentiles(&mut passed);
    let (bare50, bare99) = percentiles(&mut passed_bare);
    let micros = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
    let ratio = |one: Duration, of: Duration| format!("{:.2}", one.div_duration_f64(of));
    Ok(vec![
        server.name().to_owned(),
        micros(p50),
        micros(p99),
        micros(bare50),
        micros(bare99),
        ratio(p50, bare50),
        ratio(p99, bare99),
    ])
}

fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
