//! What many channels take, at the broker and on a real node where each is heard and whose guest publishes, and whether
//! both give it back.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fanfare_bench_protocol::Publish;
use fanfare_load::{Load, Plan};

use super::{ForANode, SIZE, folder};
use crate::{
    contenders::{Contender, Demand, Server, fanfare::Fanfare},
    loads::memory,
};

pub const HEAD: [&str; 8] = [
    "memory of",
    "before MB",
    "peak MB",
    "bytes/channel",
    "bytes/event",
    "expired MB",
    "left MB",
    "events/s",
];

/// Events of each channel.
pub const EVENTS: usize = 10;

/// Channels that one stream hears: as many as it may by default.
const EACH: usize = 100;
/// Requests that publish at a time, each on the channels of one stream.
const CALLERS: usize = 64;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The warm-up has as many streams as are opened at a time, with so many channels each.
const WARM_UP: (usize, usize) = (200, 10);
/// How long the allocator of the node, jemalloc, keeps what is free before it has given all of it back (`dirty_decay_ms`).
const DECAY: Duration = Duration::from_secs(10);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many channels there are.
pub fn count(quick: bool) -> usize {
    if quick { 5_000 } else { 100_000 }
}

/// How long events are kept: longer than it takes to publish all, so that all are there at once.
fn age(quick: bool) -> Duration {
    Duration::from_secs(if quick { 5 } else { 45 })
}

/// A row for the broker and one for the node.
pub fn measure(name: &str, broker: &dyn ForANode, quick: bool) -> Result<Vec<Vec<String>>> {
    let (channels, age) = (count(quick), age(quick));
    let (streams, events) = (channels / EACH, channels * EVENTS);
    let folder = folder("node")?;
    let demand = Demand {
        streams,
        channels,
        backlog: EVENTS,
        history_age: Some(age),
        redis: Some(broker.address()),
        ..Demand::default()
    };
    let node = Fanfare::beside()?.start(demand, folder.path())?;
    let node = &*node;
    let look = || -> Result<[u64; 2]> {
        thread::sleep(DECAY);
        let kept = memory::settle(|| broker.memory())?;
        Ok([kept, memory::settled(node)?])
    };
    let (warm_streams, warm_each) = WARM_UP;
    let warm_up = hear(node, "warm", warm_streams, warm_each)?;
    publish(node, "warm", warm_streams, warm_each)?;
    leave(node, warm_up)?;
    let before = look()?;

    let load = hear(node, "many", streams, EACH)?;
    let (looks, (took, peak)) = memory::during(node, LOOK, || {
        let begun = Instant::now();
        publish(node, "many", streams, EACH)?;
        let took = begun.elapsed();
        let all = events as u64;
        load.wait(PATIENCE, |progress| progress.payloads >= all);
        let progress = load.progress();
        ensure!(
            progress.payloads == all && progress.closed == 0,
            "of {all} events {} were heard, and {} streams were closed",
            progress.payloads,
            progress.closed
        );
        Ok((took, broker.memory()?))
    })?;
    let peak = [peak, looks.into_iter().max().unwrap_or_default()];
    // What is too old goes, an eighth later at most, while all channels are still heard.
    thread::sleep(age + age / 8);
    let expired = look()?;
    leave(node, load)?;
    let left = look()?;

    let rate = format!("{:.0}", events as f64 / took.as_secs_f64());
    let rows = [name, "its node"]
        .into_iter()
        .enumerate()
        .map(|(of, name)| {
            let megabytes = |bytes: [u64; 2]| format!("{:.1}", bytes[of] as f64 / 1e6);
            let each =
                |count: usize| format!("{}", (peak[of] - before[of].min(peak[of])) / count as u64);
            vec![
                name.to_owned(),
                megabytes(before),
                megabytes(peak),
                each(channels),
                each(events),
                megabytes(expired),
                megabytes(left),
                if of == 0 { String::new() } else { rate.clone() },
            ]
        });
    Ok(rows.collect())
}

/// Streams that each hear so many channels of their own.
fn hear(node: &dyn Server, prefix: &str, streams: usize, each: usize) -> Result<Load> {
    let address = node.address();
    let target = format!("http://{address}/many?prefix={prefix}-{{n}}&channels={each}");
    let load = Load::start(Plan::new(target.parse()?, streams))?;
    wait_for(node, streams * each)?;
    Ok(load)
}

/// Closes streams, and waits until nothing is left of their channels.
fn leave(node: &dyn Server, load: Load) -> Result<()> {
    load.stop(None)?;
    wait_for(node, 0)
}

/// Waits until the node has so many channels.
fn wait_for(node: &dyn Server, channels: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let there = node.channels()?.context("no number of channels")?;
        if there == channels as u64 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{there} channels where there should be {channels}"
        );
        thread::sleep(LOOK);
    }
}

/// Has the guest publish on the channels of all streams.
fn publish(node: &dyn Server, prefix: &str, streams: usize, each: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let stream = next.fetch_add(1, Ordering::Relaxed);
                        if stream >= streams {
                            return anyhow::Ok(());
                        }
                        node.publish(&Publish {
                            prefix: format!("{prefix}-{stream}"),
                            channels: each as u64,
                            events: EVENTS as u64,
                            interval: Duration::ZERO,
                            size: SIZE,
                            from: 0,
                        })?;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().ok().context("a caller panicked")??;
        }
        Ok(())
    })
}
