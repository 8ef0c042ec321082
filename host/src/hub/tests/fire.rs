//! Clients that leave and come back while events are published as fast as it goes: real threads, real shards.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize},
    thread,
};

use futures_util::StreamExt;
use tokio::runtime;

use super::*;

const CHANNELS: usize = 3;
const CLIENTS: usize = 3;
/// How often each of them comes back.
const ROUNDS: usize = 150;

/// Counts somebody out who is at work, also where that one fails: the others do not go on for ever.
struct AtWork<'a>(&'a AtomicUsize);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a client has heard of each channel.
#[derive(Debug, Default)]
struct Heard {
    /// The number of the next event of each channel, once it has heard one.
    next: [Option<u64>; CHANNELS],
    last_id: Option<String>,
}

/// How many events were published on each channel.
type Counts = [AtomicU64; CHANNELS];

impl Heard {
    /// Whether it has heard an event of each channel that was published later than so many.
    fn is_past(&self, counts: &[u64]) -> bool {
        let mut channels = self.next.iter().zip(counts);
        channels.all(|(next, count)| next.is_some_and(|next| next > *count))
    }

    /// Takes whole blocks; each channel's events have to follow each other.
    fn take(&mut self, wire: &str) {
        for block in wire.split_terminator("\n\n") {
            let (id, data) = block
                .split_once("\ndata: ")
                .unwrap_or_else(|| panic!("{block:?}"));
            let (channel, number) = data.split_once(' ').unwrap();
            let channel: usize = channel.parse().unwrap();
            let number: u64 = number.parse().unwrap();
            let next = self.next[channel].unwrap_or(number);
            assert_eq!(
                number, next,
                "of channel {channel}, after {:?}",
                self.last_id
            );
            self.next[channel] = Some(number + 1);
            self.last_id = id.strip_prefix("id: ").map(str::to_owned);
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

/// A history that reaches back as far as a client may be behind.
fn long_history() -> Settings {
    Settings {
        history_events: 1 << 20,
        history_bytes: 1 << 30,
        history_total_bytes: 1 << 30,
        queue_bytes: 1 << 30,
        ..settings()
    }
}

/// Comes back with its last id, again and again.
fn come_and_go(hub: &Hub, space: &Space, counts: &Counts, heard: &mut Heard) {
    for round in 0..ROUNDS {
        let last = heard.last_id.clone();
        let (connection, mut body) = open(hub, last.as_deref());
        for number in 0..CHANNELS {
            // In another order each time.
            let name = (number + round) % CHANNELS;
            space
                .register(&connection, &channel(&name.to_string()))
                .unwrap();
        }
        connection.release();
        let counts: Vec<_> = counts
            .iter()
            .map(|count| count.load(Ordering::Acquire))
            .collect();
        block_on(async {
            while !heard.is_past(&counts) {
                let wire = body.next().await.unwrap();
                heard.take(str::from_utf8(&wire).unwrap());
            }
        });
        // Some part of what was on its way is lost with it.
    }
}

#[test]
fn whoever_comes_back_again_and_again_hears_everything_once() {
    let (hub, _ended) = Hub::new(long_history(), engine());
    let space = hub.space();
    let counts = Counts::default();
    let at_work = AtomicUsize::new(CLIENTS);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let _guard = AtWork(&at_work);
                let mut heard = Heard::default();
                come_and_go(&hub, &space, &counts, &mut heard);
                assert!(heard.next.iter().all(Option::is_some));
            });
        }
        let (space, at_work, counts) = (&space, &at_work, &counts);
        let publish = move |number: usize| {
            let name = channel(&number.to_string());
            let runtime = runtime::Builder::new_current_thread().build().unwrap();
            while at_work.load(Ordering::Acquire) > 0 {
                let event = counts[number].load(Ordering::Relaxed);
                space.publish(&name, &text(&format!("{number} {event}")));
                counts[number].store(event + 1, Ordering::Release);
                // As fast as the shards are, and no faster.
                runtime.block_on(space.room());
            }
        };
        for number in 0..CHANNELS {
            scope.spawn(move || publish(number));
        }
    });
    let published = counts.iter().map(|count| count.load(Ordering::Relaxed));
    assert_eq!(hub.figures().published, published.sum::<u64>());
    assert_eq!(hub.figures().gaps, 0);
}

/// A connection that hears so many channels and one event, and then ends.
fn come_once(hub: &Hub, space: &Space, name: &str, channels: usize) {
    let (connection, mut body) = open(hub, None);
    for number in 0..channels {
        space
            .register(&connection, &channel(&number.to_string()))
            .unwrap();
    }
    space.publish(&channel("0"), &text(name));
    hub.close(&connection, CloseReason::Closed);
    let heard = block_on(async {
        let mut heard = Vec::new();
        while let Some(bytes) = body.next().await {
            heard.extend_from_slice(&bytes);
        }
        String::from_utf8(heard).unwrap()
    });
    assert_eq!(heard.matches("data: ").count(), 1, "{heard}");
    assert!(heard.ends_with(&format!("data: {name}\n\n")), "{heard}");
}

#[test]
fn apps_that_share_a_shard_never_hear_each_other() {
    let one = delivery::Settings {
        shards: 1,
        ..node()
    };
    let engine = Engine::new(&one).unwrap();
    let many = Settings {
        channels_per_connection: 300,
        ..settings()
    };
    let apps = [0; 2].map(|_| Hub::new(many.clone(), engine.clone()).0);
    let [many, few] = &apps;
    let at_work = AtomicUsize::new(1);
    thread::scope(|scope| {
        // The one gives numbers back, many at a time; the other takes them at once.
        scope.spawn(|| {
            let _guard = AtWork(&at_work);
            let space = many.space();
            (0..200).for_each(|_| come_once(many, &space, "many", 300));
        });
        scope.spawn(|| {
            let space = few.space();
            while at_work.load(Ordering::Acquire) > 0 {
                come_once(few, &space, "few", 1);
            }
        });
    });
}
