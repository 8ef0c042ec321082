//! From the call of `publish` on one node until a client of another one has the bytes, and the same with the broker's own
//! client from a publisher to a subscriber: in turns, so that all have the same machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use fanfare::hub::channel::ChannelName;

use super::{
    RETENTION, SIZE, Server,
    node::{Node, event},
};

pub const HEAD: [&str; 8] = [
    "broker",
    "p50 µs",
    "p99 µs",
    "bare",
    "bare p50 µs",
    "bare p99 µs",
    "p50 of bare",
    "p99 of bare",
];

/// Events of one turn.
const TURN: usize = 100;
/// Turns at least. The first is to warm up.
const TURNS: usize = 2;

/// Measures with that many events, or as many as are through in this time. A row for each bare way.
pub async fn measure(
    name: &str,
    server: &dyn Server,
    events: usize,
    time: Duration,
) -> Result<Vec<Vec<String>>> {
    let one = Arc::new(Node::start(server, "latency", RETENTION).await?);
    let other = match server.is_of_one_node() {
        true => one.clone(),
        false => Arc::new(Node::start(server, "latency", RETENTION).await?),
    };
    let channel = ChannelName::new("latency")?;
    let mut client = other.client(&channel).await?;
    let mut bare = server.bare().await?;
    let (event, payload) = (event()?, vec![b'x'; SIZE]);
    let (mut passed, mut passed_bare) = (Vec::new(), vec![Vec::new(); bare.len()]);
    let begun = Instant::now();
    for turn in 0..events.div_ceil(TURN).max(TURNS) {
        if turn >= TURNS && begun.elapsed() > time {
            break;
        }
        for _ in 0..TURN {
            let begun = Instant::now();
            let heard = async {
                client.heard().await?;
                Ok::<_, anyhow::Error>(begun.elapsed())
            };
            let (published, heard) = tokio::join!(one.feed.publish(&channel, &event), heard);
            published?;
            passed.push(heard?);
        }
        for (bare, passed) in bare.iter_mut().zip(&mut passed_bare) {
            for _ in 0..TURN {
                passed.push(bare.way.pass(&payload).await?);
            }
        }
        if turn == 0 {
            passed.clear();
            passed_bare.iter_mut().for_each(Vec::clear);
        }
    }
    let (p50, p99) = percentiles(&mut passed);
    let micros = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
    let ratio = |one: Duration, of: Duration| format!("{:.2}", one.div_duration_f64(of));
    let rows = bare.iter().zip(&mut passed_bare).map(|(bare, passed)| {
        let (bare50, bare99) = percentiles(passed);
        vec![
            name.to_owned(),
            micros(p50),
            micros(p99),
            bare.what.to_owned(),
            micros(bare50),
            micros(bare99),
            ratio(p50, bare50),
            ratio(p99, bare99),
        ]
    });
    Ok(rows.collect())
}

fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
