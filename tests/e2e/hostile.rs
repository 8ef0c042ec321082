//! Whatever one app does, the requests and streams of another go on at their pace.
//!
//! Each test has a node with the probe at `/` and a hostile guest at `/hostile`. It measures how long the probe's
//! requests take and how long an event takes to an open stream, at first on a quiet node and then while many clients
//! have the hostile guest do its worst. The figures are printed: `cargo test hostile:: -- --nocapture`.

use std::{
    fmt,
    io::{self, Read, Write},
    iter,
    net::TcpStream,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fanfare::guest::threads::priority::give_way;
use fanfare_tests::{client::Request, node::Node, wait};
use serde_json::json;

use crate::{
    guests,
    probe::{self, Probe},
};

/// Held by a test that measures: another one's load is not what it is about.
static ALONE: Mutex<()> = Mutex::new(());

/// How many requests, and how many events, are measured each time, unless `FANFARE_SAMPLES` says it.
const SAMPLES: usize = 200;
/// Threads of clients of the hostile guest, and requests that each has in flight.
const CLIENTS: usize = 4;
const IN_FLIGHT: usize = 16;
/// How often a test may measure anew: the machine may have had other things to do. That spoils now one figure and then
/// another, so the best of each counts.
const TRIES: usize = 6;

/// The hostile guests have to leave others this much of their pace: the figure at most so many times the quiet one,
/// unless it is below a floor that the other tests and processes of a busy machine may cause alone. Without turns others
/// wait for seconds; the figures that are printed tell finer differences, on a machine that does nothing else.
const TIMES: u32 = 2;
const FLOOR_P99: Duration = Duration::from_secs(1);
const FLOOR_MEDIAN: Duration = Duration::from_millis(60);

/// What a hostile guest does.
struct Misdeed {
    name: &'static str,
    component: &'static str,
    /// Its limits and other settings, beside the defaults.
    tables: &'static str,
    /// What its clients ask for; nothing where it needs none.
    path: Option<&'static str>,
}

impl Misdeed {
    /// The guest of the blocking world does this to a request for the path of the same name.
    const fn of(path: &'static str) -> Self {
        Self {
            name: path,
            component: guests::HOSTILE,
            tables: "[apps.hostile.limits]\ncpu-time = \"200ms\"\n",
            path: Some(path),
        }
    }

    /// The same of the asynchronous world.
    const fn asynchronous(name: &'static str, path: &'static str) -> Self {
        Self {
            name,
            component: guests::HOSTILE_ASYNC,
            ..Self::of(path)
        }
    }

    /// One that is no request's.
    const fn beside(name: &'static str, tables: &'static str) -> Self {
        Self {
            name,
            tables,
            path: None,
            ..Self::of("")
        }
    }
}

/// What was measured of one kind.
#[derive(Debug, Clone, Copy)]
struct Pace {
    median: Duration,
    p99: Duration,
}

/// What was measured at a time.
#[derive(Debug, Clone, Copy)]
struct Paces {
    /// From a request on a new socket to its answer.
    requests: Pace,
    /// From a request to publish to the event on a stream.
    events: Pace,
}

impl Pace {
    fn measure(mut once: impl FnMut()) -> Self {
        let samples = std::env::var("FANFARE_SAMPLES").map_or(SAMPLES, |text| {
            text.parse().expect("`FANFARE_SAMPLES` is a number")
        });
        let mut times: Vec<_> = iter::repeat_with(|| {
            let begun = Instant::now();
            once();
            begun.elapsed()
        })
        .take(samples)
        .collect();
        times.sort_unstable();
        Self {
            median: times[samples / 2],
            p99: times[(samples * 99 / 100).max(1) - 1],
        }
    }

    fn best(self, other: Self) -> Self {
        Self {
            median: self.median.min(other.median),
            p99: self.p99.min(other.p99),
        }
    }

    fn holds(self, quiet: Self) -> bool {
        self.p99 <= FLOOR_P99.max(quiet.p99 * TIMES)
            && self.median <= FLOOR_MEDIAN.max(quiet.median * TIMES)
    }
}

impl Paces {
    fn measure(node: &Node) -> Self {
        thread::scope(|scope| {
            let requests =
                scope.spawn(|| Pace::measure(|| assert_eq!(node.get("/page").status(), 200)));
            let mut stream = node.subscribe("news");
            let mut publisher = node.connect();
            let publish = Request::post(
                "/run",
                json!([["publish", "news", { "data": "on" }]]).to_string(),
            );
            let events = Pace::measure(|| {
                assert_eq!(publisher.request(&publish).status(), 200);
                assert_eq!(stream.next_event().data, "on");
            });
            Self {
                requests: requests.join().expect("requests are answered"),
                events,
            }
        })
    }

    fn best(self, other: Self) -> Self {
        Self {
            requests: self.requests.best(other.requests),
            events: self.events.best(other.events),
        }
    }

    fn holds(self, quiet: Self) -> bool {
        self.requests.holds(quiet.requests) && self.events.holds(quiet.events)
    }
}

/// Has a hostile guest do its worst, and holds that the other app goes on.
fn hold(misdeed: &Misdeed) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::config(&format!(
        "[apps.probe]\ncomponent = {:?}\n\
         [apps.hostile]\ncomponent = {:?}\nroute = \"/hostile\"\n{}\n",
        guests::PROBE,
        misdeed.component,
        misdeed.tables
    ))
    .start_waiting();
    let mut best: Option<(Paces, Paces)> = None;
    for tried in 1.. {
        let now = (Paces::measure(&node), loaded(&node, misdeed));
        report(misdeed.name, now.0, now.1);
        let (quiet, loaded) = best.map_or(now, |best| (best.0.best(now.0), best.1.best(now.1)));
        if loaded.holds(quiet) {
            break;
        }
        assert!(
            tried < TRIES,
            "{}: at best quiet {quiet:?}, loaded {loaded:?}",
            misdeed.name
        );
        best = Some((quiet, loaded));
    }
    // Nothing of it is left.
    assert_eq!(node.get("/healthz").status(), 200);
    let keys = probe::target("", &json!([["keys"]]));
    assert_eq!(node.get(&keys).status(), 200);
}

/// Measures while clients of the hostile guest do all they can.
fn loaded(node: &Node, misdeed: &Misdeed) -> Paces {
    let (ended, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _end = End(&ended);
        if let Some(path) = misdeed.path {
            let request = Request::get(&format!("/hostile{path}"));
            let request = request.encode(&node.address.to_string());
            for _ in 0..CLIENTS {
                let (request, ended, sent) = (request.clone(), &ended, &sent);
                scope.spawn(move || {
                    // On other machines, where they would be, they would take no cores from the node. Giving way twice
                    // comes to the lowest priority.
                    give_way();
                    give_way();
                    while !ended.load(Ordering::Relaxed) {
                        drive(node, &request, sent);
                    }
                });
            }
            wait::until_true("the hostile guest is at work", || {
                sent.load(Ordering::Relaxed) >= CLIENTS * IN_FLIGHT
            });
        }
        Paces::measure(node)
    })
}

/// Ends the clients of the hostile guest, also where the measurement fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends some requests at a time, and leaves when they are answered. Whatever the answers are, and also where none
/// comes: so many calls of a guest that has to give way may take long, and they are not what is measured.
fn drive(node: &Node, request: &[u8], sent: &AtomicUsize) {
    let ask = || {
        let mut socket = TcpStream::connect_timeout(&node.address, wait::PATIENCE)?;
        socket.write_all(request)?;
        sent.fetch_add(1, Ordering::Relaxed);
        io::Result::Ok(socket)
    };
    let sockets: Vec<_> = iter::repeat_with(ask).take(IN_FLIGHT).collect();
    let begun = Instant::now();
    for mut socket in sockets.into_iter().flatten() {
        let left = wait::PATIENCE.saturating_sub(begun.elapsed());
        let left = left.max(Duration::from_millis(1));
        let waits = socket.set_read_timeout(Some(left));
        let _ = waits.and_then(|()| socket.read(&mut [0; 4096]));
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(f, "{:6.1} {:6.1}", ms(self.median), ms(self.p99))
    }
}

/// One row: the medians and 99th percentiles in milliseconds, quiet and loaded, of requests and of events.
fn report(name: &str, quiet: Paces, loaded: Paces) {
    println!(
        "{name:24} | requests {} -> {} ({:4.1} x) | events {} -> {} ({:4.1} x)",
        quiet.requests,
        loaded.requests,
        loaded.requests.p99.as_secs_f64() / quiet.requests.p99.as_secs_f64(),
        quiet.events,
        loaded.events,
        loaded.events.p99.as_secs_f64() / quiet.events.p99.as_secs_f64(),
    );
}

/// A test for each misdeed.
macro_rules! misdeeds {
    ($($test:ident: $misdeed:expr,)+) => {
        $(#[test]
        fn $test() {
            hold(&$misdeed);
        })+
    };
}

misdeeds! {
    endless_loop: Misdeed::of("/loop"),
    endless_loop_in_start: Misdeed::beside(
        "start = loop",
        "variables = { start = \"loop\" }\n[apps.hostile.limits]\ncpu-time = \"3s\"",
    ),
    memory_bomb: Misdeed::of("/memory"),
    deep_recursion: Misdeed::of("/recursion"),
    host_call_flood: Misdeed::of("/host-call-flood"),
    log_flood: Misdeed::of("/log-flood"),
    endless_line: Misdeed::of("/endless-line"),
    handle_flood: Misdeed::of("/handle-flood"),
    registry_flood: Misdeed::of("/registry-flood"),
    registry_entries: Misdeed::of("/registry-entries"),
    channel_flood: Misdeed::of("/channel-flood"),
    short_calls: Misdeed::of("/well"),
    trap_in_start: Misdeed::beside("start = trap", "variables = { start = \"trap\" }"),
    trap_in_handle: Misdeed::of("/panic"),
    trap_in_disconnected: Misdeed {
        name: "disconnected = trap",
        tables: "variables = { disconnected = \"trap\" }",
        path: Some("/upgrade"),
        ..Misdeed::of("")
    },
    endless_loop_in_disconnected: Misdeed {
        name: "disconnected = loop",
        tables: "variables = { disconnected = \"loop\" }\n[apps.hostile.limits]\ncpu-time = \"200ms\"",
        path: Some("/upgrade"),
        ..Misdeed::of("")
    },
    asynchronous_loop: Misdeed::asynchronous("async /loop", "/loop"),
    asynchronous_memory_bomb: Misdeed::asynchronous("async /memory", "/memory"),
    asynchronous_handle_flood: Misdeed::asynchronous("async /handle-flood", "/handle-flood"),
    asynchronous_host_call_flood: Misdeed::asynchronous("async /host-call-flood", "/host-call-flood"),
    asynchronous_channel_flood: Misdeed::asynchronous("async /channel-flood", "/channel-flood"),
    asynchronous_trap: Misdeed::asynchronous("async /panic", "/panic"),
    asynchronous_short_calls: Misdeed::asynchronous("async /well", "/well"),
}
