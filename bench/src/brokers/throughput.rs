//! How many publications of one node a broker accepts in a second, and how many of its own client.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use fanfare::hub::channel::ChannelName;

use super::{
    RETENTION, Server,
    flood::Flood,
    node::{Node, event},
};

pub const HEAD: [&str; 4] = ["broker", "events/s", "bare events/s", "of bare"];

/// Rounds; the best counts, of both.
const ROUNDS: usize = 3;

pub async fn measure(name: &str, server: &dyn Server, round: Duration) -> Result<Vec<String>> {
    let node = Arc::new(Node::start(server, "throughput", RETENTION).await?);
    let channel = ChannelName::new("throughput")?;
    let event = Arc::new(event()?);
    let (mut best, mut bare) = (0f64, 0f64);
    for _ in 0..ROUNDS {
        let mut flood = Flood {
            time: round,
            events: 0,
        };
        let publish = {
            let (node, channel, event) = (node.clone(), channel.clone(), event.clone());
            move |_| {
                let (node, channel, event) = (node.clone(), channel.clone(), event.clone());
                async move {
                    node.feed.publish(&channel, &event).await?;
                    Ok(())
                }
            }
        };
        let rate = flood.run(publish).await?;
        best = best.max(rate);
        flood.events = (rate * round.as_secs_f64()) as usize;
        bare = bare.max(server.bare_rate(&flood).await?);
    }
    Ok(vec![
        name.to_owned(),
        format!("{best:.0}"),
        format!("{bare:.0}"),
        format!("{:.2}", best / bare),
    ])
}
