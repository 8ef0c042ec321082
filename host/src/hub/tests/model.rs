//! Random schedules, against a model that knows the words of the contract alone.
//!
//! Two apps share a node of two shards whose turns are steps of the schedule, too: so shards lag behind the apps and
//! behind each other, and all that happens in between happens at any time. `PROPTEST_CASES=10000` tries more of them.

mod app;
mod check;
mod client;
mod reference;
mod world;

use std::time::Duration;

use proptest::{prelude::*, sample::Index};

use self::{client::Way, world::World};

/// Apps of the node.
const APPS: usize = 2;
/// Spaces of an app.
const SPACES: usize = 2;
/// Names of channels in each space.
const NAMES: usize = 3;
/// Events that a channel keeps.
const KEPT: usize = 4;
/// Channels that one connection may hear.
const CHANNELS_PER_CONNECTION: usize = 4;
/// Bytes of an event that is too large for a history. Two of them are more than may wait for a client.
const BIG: usize = 40_000;
/// What may wait for a client.
const QUEUE_BYTES: usize = 60_000;
/// When a quiet client is closed.
const INACTIVITY: Duration = Duration::from_secs(5);
/// When a client that takes nothing is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long something may take that the kernel has to do. It is waited for only where something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// A step of a schedule. Clients, events and shards are any of those there are then.
#[derive(Debug, Clone)]
enum Step {
    /// A connection; the head of its response may still be on its way.
    Open {
        last: Last,
        quiet: bool,
        way: Option<Way>,
    },
    Attach(Index, Way),
    Release(Index),
    /// A client registers with a channel.
    Register(Index, usize),
    Remove(Index, usize),
    Publish {
        channel: usize,
        id: Id,
        big: bool,
    },
    Send(Index),
    Close(Index),
    Leave(Index),
    Read(Index),
    /// All histories grow too old.
    Expire,
    /// The time of the shards goes on by so many milliseconds.
    Wait(u64),
    /// A shard looks at its sockets.
    Watch(Index),
    /// A shard does what it was told.
    Work(Index),
    Drain,
}

/// Where a client says that it was.
#[derive(Debug, Clone)]
enum Last {
    Nowhere,
    /// Where another client is.
    Of(Index),
    /// At an event, whether anybody heard it or not, and whether it is still known or not.
    Event(Index),
    /// Where nobody can have been.
    Unknown,
}

/// The id of an event that is published.
#[derive(Debug, Clone)]
enum Id {
    Given,
    Own(usize),
    /// That of an event before it.
    Again(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let client = any::<Index>;
    let channel = 0..SPACES * NAMES;
    let way = || prop_oneof![Just(Way::Body), Just(Way::Chunked), Just(Way::Plain)];
    let last = prop_oneof![
        3 => Just(Last::Nowhere),
        4 => any::<Index>().prop_map(Last::Of),
        2 => any::<Index>().prop_map(Last::Event),
        1 => Just(Last::Unknown),
    ];
    let id = prop_oneof![
        6 => Just(Id::Given),
        2 => (0..4usize).prop_map(Id::Own),
        1 => any::<Index>().prop_map(Id::Again),
    ];
    let way_of_open = prop_oneof![3 => way().prop_map(Some), 1 => Just(None)];
    let open = (last, prop::bool::weighted(0.1), way_of_open);
    prop_oneof![
        8 => open.prop_map(|(last, quiet, way)| Step::Open { last, quiet, way }),
        2 => (client(), way()).prop_map(|(client, way)| Step::Attach(client, way)),
        5 => client().prop_map(Step::Release),
        16 => (client(), channel.clone()).prop_map(|(client, channel)| Step::Register(client, channel)),
        3 => (client(), channel.clone()).prop_map(|(client, channel)| Step::Remove(client, channel)),
        24 => (channel, id, prop::bool::weighted(0.15)).prop_map(|(channel, id, big)| Step::Publish { channel, id, big }),
        3 => client().prop_map(Step::Send),
        2 => client().prop_map(Step::Close),
        4 => client().prop_map(Step::Leave),
        10 => client().prop_map(Step::Read),
        1 => Just(Step::Expire),
        2 => (0..4000u64).prop_map(Step::Wait),
        6 => any::<Index>().prop_map(Step::Watch),
        12 => any::<Index>().prop_map(Step::Work),
    ]
}

/// Steps, each of one of the apps; some schedules end with the drain of one.
fn schedule() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let steps = prop::collection::vec((0..APPS, step()), 0..150);
    (steps, any::<(bool, bool, Index)>()).prop_map(|(mut steps, (one, drain, at))| {
        if drain {
            let at = at.index(steps.len() + 1);
            steps.insert(at, (usize::from(one), Step::Drain));
        }
        steps
    })
}

/// So many cases, or those of the variable `PROPTEST_CASES`.
fn config(cases: u32) -> ProptestConfig {
    let config = ProptestConfig {
        // A case that fails because something never comes takes its time.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases, ..config },
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn every_schedule_agrees_with_the_model(steps in schedule()) {
        let mut world = World::new();
        for (app, step) in steps {
            world.take(app, step);
        }
        world.settle();
        world.check();
        world.end();
    }
}
