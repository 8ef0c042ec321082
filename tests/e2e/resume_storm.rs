//! Many clients that leave and come back at once, while several handlers publish as fast as they can.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    servers::ports,
    sse::Event,
    stream::Stream,
    wait,
};
use serde_json::{Value, json};

use crate::probe::{self, Probe};

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const PUBLISHERS: usize = 3;
/// A client leaves after so many events, if not before.
const AT_A_TIME: usize = 100;
/// What a history holds that is soon too small.
const KEPT: usize = 25;
/// The last word on every channel.
const END: &str = "end";

/// A node with this history.
fn with_history(events: usize) -> Node {
    setup(events).start()
}

/// The same, not started yet.
fn setup(events: usize) -> Setup {
    probe::setup(&format!(
        "[apps.probe.history]\nevents = {events}\nbytes = \"64MiB\"\n\
         [apps.probe.limits]\nqueue-bytes = \"64MiB\"\ncpu-time = \"20s\"\nqueue-time = \"20s\"\n"
    ))
}

/// A request for a stream that hears all channels.
fn request(last: Option<&str>, by_query: bool) -> Request {
    let mut steps = vec![json!(["upgrade"])];
    steps.extend(CHANNELS.iter().map(|channel| json!(["register", channel])));
    let mut request = Request::events(&probe::target("", &Value::from(steps)));
    match last {
        Some(last) if by_query => request.target += &format!("&last-event-id={last}"),
        Some(last) => request = request.last_event_id(last),
        None => {}
    }
    request
}

/// Opens the streams of clients that were not here before, each of which hears all channels when it returns.
#[track_caller]
fn first_visits(node: &Node, count: usize) -> Vec<Stream> {
    let streams = (0..count)
        .map(|_| node.open(&request(None, false)))
        .collect();
    for channel in CHANNELS {
        node.run(json!([["wait-subscribers", channel, count]]))
            .all_ok();
    }
    streams
}

/// Publishes so many events on each channel from each of the publishers, all at once and turn by turn, and then the
/// last word. The data of an event is its channel, its publisher and its number. Before it goes on, a publisher waits
/// as long as `may_go_on` says no to the number of all events so far.
fn publish_all(node: &Node, events: usize, may_go_on: impl Fn(usize) -> bool + Sync) {
    const AT_ONCE: usize = 3;
    let (published, may_go_on) = (AtomicUsize::new(0), &may_go_on);
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let published = &published;
            scope.spawn(move || {
                for first in (0..events).step_by(AT_ONCE) {
                    wait::until_true("the clients have kept up", || {
                        may_go_on(published.load(Ordering::Relaxed))
                    });
                    let step = |n, channel| {
                        json!(["publish", channel, format!("{channel} {publisher} {n}")])
                    };
                    let numbers = first..(first + AT_ONCE).min(events);
                    let steps: Vec<_> = numbers
                        .flat_map(|n| CHANNELS.map(|channel| step(n, channel)))
                        .collect();
                    published.fetch_add(steps.len(), Ordering::Relaxed);
                    node.run(steps.into()).all_ok();
                }
            });
        }
    });
    for channel in CHANNELS {
        node.publish(channel, &format!("{channel} {END}"));
    }
}

fn channel(data: &str) -> &str {
    data.split(' ').next().unwrap_or_default()
}

fn is_last(data: &str) -> bool {
    data == format!("{} {END}", CHANNELS[2])
}

/// All events until the last word on the last channel.
#[track_caller]
fn to_the_last(stream: &mut Stream) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let event = stream.next_event();
        assert_eq!(event.event_type, "message", "{event:?}");
        heard.push(event.data);
        if heard.last().is_some_and(|data| is_last(data)) {
            return heard;
        }
    }
}

/// Holds that one who stayed has heard everything, of each publisher and channel in its order.
#[track_caller]
fn assert_everything(heard: &[String], events: usize) {
    assert_eq!(heard.len(), CHANNELS.len() * (PUBLISHERS * events + 1));
    for channel in CHANNELS {
        for publisher in 0..PUBLISHERS {
            let its = format!("{channel} {publisher} ");
            let its = heard.iter().filter_map(|data| data.strip_prefix(&its));
            assert!(its.eq((0..events).map(|n| n.to_string()).collect::<Vec<_>>()));
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % most + 1
    }
}

/// Leaves in one of several ways, and comes back as one that heard `last` at last.
#[track_caller]
fn come_back(node: &Node, stream: Stream, last: &str, turn: usize) -> Stream {
    let back = || node.open(&request(Some(last), turn % 4 == 3));
    match turn % 3 {
        0 => {
            stream.reset();
            back()
        }
        1 => {
            stream.close();
            back()
        }
        // The node has not noticed that the other one is gone.
        _ => {
            let next = back();
            stream.reset();
            next
        }
    }
}

#[test]
fn whoever_comes_and_goes_in_a_storm_hears_everything_once_and_in_order() {
    const CLIENTS: usize = 200;
    const EVENTS: usize = 120;
    /// So many events publishers are ahead of the slowest client at most.
    const AHEAD: usize = 100;
    let node = with_history(100_000);
    let returns = &AtomicUsize::new(0);
    let mut streams = first_visits(&node, CLIENTS + 1);
    let mut stays = streams.pop().expect("one more was opened");
    let (expected, heard) = thread::scope(|scope| {
        let stays = scope.spawn(|| to_the_last(&mut stays));
        let clients: Vec<_> = (1..)
            .zip(streams)
            .map(|(seed, stream)| {
                let node = &node;
                scope.spawn(move || storm(node, stream, Dice(seed), returns))
            })
            .collect();
        // Nobody leaves later than that, so events go out all the while that clients come and go.
        publish_all(&node, EVENTS, |published| {
            let visits = published.saturating_sub(AHEAD) / AT_A_TIME;
            returns.load(Ordering::Relaxed) >= visits * CLIENTS
        });
        let heard: Vec<_> = clients
            .into_iter()
            .map(|client| client.join().expect("a client hears all"))
            .collect();
        (stays.join().expect("who stays hears all"), heard)
    });
    assert_everything(&expected, EVENTS);
    for (n, (heard, visits)) in heard.iter().enumerate() {
        assert!(*visits >= expected.len() / AT_A_TIME, "{n}: {visits}");
        if *heard != expected {
            let place = heard
                .iter()
                .zip(&expected)
                .position(|(heard, expected)| heard != expected);
            panic!(
                "client {n} heard {} of {} events, other ones from {place:?} on",
                heard.len(),
                expected.len()
            );
        }
    }
}

/// One client: hears some events, leaves, comes back, until the last word. Returns what it heard, all visits together,
/// and how many there were.
#[track_caller]
fn storm(
    node: &Node,
    mut stream: Stream,
    mut dice: Dice,
    returns: &AtomicUsize,
) -> (Vec<String>, usize) {
    let (mut heard, mut visits) = (Vec::new(), 1);
    loop {
        for _ in 0..dice.up_to(AT_A_TIME) {
            let event = stream.next_event();
            assert_eq!(event.event_type, "message", "{event:?}");
            heard.push(event.data);
            if heard.last().is_some_and(|data| is_last(data)) {
                return (heard, visits);
            }
        }
        let last = stream.last_event_id().to_owned();
        stream = come_back(node, stream, &last, visits);
        visits += 1;
        returns.fetch_add(1, Ordering::Relaxed);
    }
}

/// What was published on each channel.
#[derive(Default)]
struct Order<'a> {
    /// The place of each event on its channel.
    places: HashMap<&'a str, usize>,
    counts: HashMap<&'a str, usize>,
}

/// What a visit said.
struct Visit {
    /// What the client had heard before it, as it told.
    last: Option<String>,
    events: Vec<Event>,
}

/// The channel and the id of a gap event.
fn gap(event: &Event) -> Option<(String, String)> {
    if event.event_type != "fanfare-gap" {
        assert_eq!(event.event_type, "message", "{event:?}");
        return None;
    }
    let told: Value = serde_json::from_str(&event.data).expect("a gap event is JSON");
    let text = |name: &str| told[name].as_str().expect("a text").to_owned();
    Some((text("channel"), text("last-event-id")))
}

#[test]
fn what_a_storm_has_swept_out_of_the_history_is_told_before_anything_else() {
    const CLIENTS: usize = 60;
    const EVENTS: usize = 300;
    let node = with_history(KEPT);
    let mut streams = first_visits(&node, CLIENTS + 1);
    let mut stays = streams.pop().expect("one more was opened");
    let (expected, visits) = thread::scope(|scope| {
        let stays = scope.spawn(|| to_the_last(&mut stays));
        let clients: Vec<_> = (1..)
            .zip(streams)
            .map(|(seed, stream)| {
                let node = &node;
                scope.spawn(move || storm_with_gaps(node, stream, Dice(seed)))
            })
            .collect();
        publish_all(&node, EVENTS, |_| true);
        let visits: Vec<_> = clients
            .into_iter()
            .map(|client| client.join().expect("a client hears the end"))
            .collect();
        (stays.join().expect("who stays hears all"), visits)
    });
    assert_everything(&expected, EVENTS);
    let mut order = Order::default();
    for data in &expected {
        let count = order.counts.entry(channel(data)).or_default();
        order.places.insert(data, *count);
        *count += 1;
    }
    let gaps: usize = visits
        .iter()
        .map(|visits| assert_covered(visits, &order))
        .sum();
    assert!(gaps > 0, "nobody has missed anything");
}

/// As [`storm`], but it stays away until more was published than the history holds, now and then.
#[track_caller]
fn storm_with_gaps(node: &Node, mut stream: Stream, mut dice: Dice) -> Vec<Visit> {
    let mut visits = vec![Visit {
        last: None,
        events: Vec::new(),
    }];
    let mut last = String::new();
    loop {
        for _ in 0..dice.up_to(60) {
            let event = stream.next_event();
            let over = is_last(&event.data);
            let visit = visits.last_mut().expect("there is a first visit");
            visit.events.push(event);
            if over {
                return visits;
            }
        }
        let turn = visits.len();
        // A visit that heard of gaps alone leaves the client where it was.
        if !stream.last_event_id().is_empty() {
            stream.last_event_id().clone_into(&mut last);
        }
        if turn % 3 == 1 {
            // Away until something that it has not heard is swept out, or nothing more comes.
            stream.close();
            let kept = || {
                let kept = node.ask(json!(["history", CHANNELS[0], KEPT]));
                serde_json::from_value::<Vec<Value>>(kept).expect("a list")
            };
            let newest = kept().pop().expect("something was published");
            wait::until_true("the history has moved on", || {
                let kept = kept();
                let end = format!("{} {END}", CHANNELS[0]);
                !kept.contains(&newest) || kept.iter().any(|event| event["data"] == end)
            });
            stream = node.open(&request(Some(&last), false));
        } else {
            stream = come_back(node, stream, &last, turn);
        }
        visits.push(Visit {
            last: Some(last.clone()),
            events: Vec::new(),
        });
    }
}

/// Holds that what a client heard is in order and once, and that it was told of whatever it missed of a channel, at the
/// begin of a visit, before it heard more of it. Returns how often it was told.
#[track_caller]
fn assert_covered(visits: &[Visit], order: &Order) -> usize {
    let mut places: HashMap<String, usize> = HashMap::new();
    // Channels of which something is missing, which was told, and nothing was heard since.
    let mut told: HashSet<String> = HashSet::new();
    let mut count = 0;
    for visit in visits {
        let gaps: Vec<_> = visit.events.iter().map_while(gap).collect();
        count += gaps.len();
        for (channel, last) in &gaps {
            assert_eq!(Some(last), visit.last.as_ref());
            told.insert(channel.clone());
        }
        for event in &visit.events[gaps.len()..] {
            assert_eq!(gap(event), None, "a gap is told after an event");
            let channel = channel(&event.data);
            let place = order.places[event.data.as_str()];
            let next = places.insert(channel.to_owned(), place + 1).unwrap_or(0);
            if told.remove(channel) {
                assert!(
                    place > next,
                    "a gap was told, and nothing is missing before {event:?}"
                );
            } else {
                assert_eq!(place, next, "untold, {event:?} does not follow");
            }
        }
    }
    for (channel, count) in &order.counts {
        assert_eq!(places[*channel], *count, "the end of {channel}");
    }
    count
}

#[test]
fn after_a_restart_every_client_is_told_of_the_gap_on_every_channel() {
    const CLIENTS: usize = 50;
    const EVENTS: usize = 40;
    // A port that nobody else is given between the two.
    let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let node = setup(100_000).listen(address).start();
    let mut streams = first_visits(&node, CLIENTS);
    publish_all(&node, EVENTS, |_| true);
    let mut dice = Dice(7);
    let lasts: Vec<_> = streams
        .iter_mut()
        .map(|stream| {
            stream.next_data(dice.up_to(EVENTS));
            stream.last_event_id().to_owned()
        })
        .collect();
    node.stop();
    drop(streams);

    let toml =
        "[apps.probe.limits]\nqueue-bytes = \"64MiB\"\ncpu-time = \"20s\"\nqueue-time = \"20s\"\n";
    let node = probe::setup(toml).listen(address).start();
    // Something is in the history again before they come, which they are not to hear: they may have missed more.
    for channel in CHANNELS {
        node.publish(channel, &format!("{channel} old"));
    }
    let mut streams: Vec<_> = thread::scope(|scope| {
        let back: Vec<_> = lasts
            .iter()
            .enumerate()
            .map(|(n, last)| {
                let node = &node;
                scope.spawn(move || node.open(&request(Some(last), n % 2 == 0)))
            })
            .collect();
        back.into_iter()
            .map(|back| back.join().expect("a client comes back"))
            .collect()
    });
    for channel in CHANNELS {
        node.run(json!([["wait-subscribers", channel, CLIENTS]]))
            .all_ok();
    }
    publish_all(&node, EVENTS, |_| true);
    let mut orders = Vec::new();
    for (stream, last) in streams.iter_mut().zip(&lasts) {
        let mut gaps: Vec<_> = CHANNELS
            .iter()
            .map(|_| gap(&stream.next_event()).expect("a gap is told first"))
            .collect();
        gaps.sort();
        assert_eq!(
            gaps,
            CHANNELS.map(|channel| (channel.to_owned(), last.clone()))
        );
        orders.push(to_the_last(stream));
    }
    assert_everything(&orders[0], EVENTS);
    assert!(orders.iter().all(|order| *order == orders[0]));
}
