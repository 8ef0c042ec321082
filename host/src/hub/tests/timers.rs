//! Pings, inactivity and lifetimes, in a time that the tests make.

use super::{super::delivery::worker::Worker, connection::Timing, *};

/// Shards that do nothing by themselves, and their time.
struct Clock {
    workers: Vec<Worker>,
    began: Instant,
}

impl Clock {
    fn new() -> (Self, Hub, Space, EndedReceiver) {
        let (engine, workers) = Engine::with_workers(&node()).unwrap();
        let (hub, ended) = Hub::new(settings(), engine);
        let space = hub.space();
        let began = Instant::now();
        (Self { workers, began }, hub, space, ended)
    }

    /// It is so many milliseconds after the beginning, and everything has been done that is due then.
    fn at(&mut self, milliseconds: u64) {
        let now = self.began + Duration::from_millis(milliseconds);
        for _ in 0..3 {
            for worker in &mut self.workers {
                worker.turn(Some(now));
            }
        }
    }
}

/// What is ready, without a settling of its own.
async fn wire(body: &mut Body) -> (String, bool) {
    let mut out = String::new();
    loop {
        let next = poll_fn(|context| match Pin::new(&mut *body).poll_next(context) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        });
        match next.await {
            Some(Some(bytes)) => out.push_str(str::from_utf8(&bytes).unwrap()),
            ended => return (out, ended.is_some()),
        }
    }
}

fn open_with(hub: &Hub, timing: Timing) -> (Arc<Connection>, Body) {
    let options = OpenOptions {
        timing,
        ..Default::default()
    };
    let (connection, delivery) = hub.open(options).unwrap();
    (connection, delivery.into_body(CancellationToken::new()))
}

const PING: &str = ": ping\n\n";

#[tokio::test]
async fn a_quiet_stream_is_pinged_and_an_inactive_one_closed() {
    let (mut clock, hub, space, mut ended) = Clock::new();
    let timing = Timing {
        ping: Some(Duration::from_secs(10)),
        inactivity: Some(Duration::from_secs(25)),
        lifetime: None,
    };
    let (connection, mut body) = open_with(&hub, timing);
    space.register(&connection, &channel("a")).unwrap();
    clock.at(0);
    clock.at(9_900);
    assert_eq!(wire(&mut body).await, (String::new(), false));
    // Never early, and at most two ticks late.
    clock.at(10_100);
    assert_eq!(wire(&mut body).await, (PING.to_owned(), false));
    clock.at(15_000);
    space.publish(&channel("a"), &text("x"));
    clock.at(15_000);
    assert!(wire(&mut body).await.0.ends_with("data: x\n\n"));
    clock.at(24_900);
    assert_eq!(wire(&mut body).await.0, "");
    clock.at(25_100);
    assert_eq!(wire(&mut body).await.0, PING);
    clock.at(35_200);
    assert_eq!(wire(&mut body).await.0, PING);
    clock.at(39_900);
    assert!(connection.is_open());
    clock.at(40_100);
    assert_eq!(wire(&mut body).await, (String::new(), true));
    assert_eq!(ended.recv().await.unwrap().reason, CloseReason::Inactive);
}

#[tokio::test]
async fn streams_end_at_the_end_of_their_lifetimes_and_not_all_at_once() {
    let (mut clock, hub, _, mut ended) = Clock::new();
    let timing = Timing {
        lifetime: Some(Duration::from_secs(100)),
        ..Default::default()
    };
    let clients: Vec<_> = (0..200).map(|_| open_with(&hub, timing)).collect();
    let open = || clients.iter().filter(|client| client.0.is_open()).count();
    clock.at(0);
    clock.at(79_900);
    assert_eq!(open(), 200);
    clock.at(90_000);
    assert!((50..150).contains(&open()), "{}", open());
    clock.at(100_100);
    assert_eq!(open(), 0);
    assert_eq!(ended.recv().await.unwrap().reason, CloseReason::Expired);
}

#[tokio::test]
async fn behind_what_waits_no_ping_is_put() {
    let (mut clock, hub, space, _) = Clock::new();
    let timing = Timing {
        ping: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let (connection, mut body) = open_with(&hub, timing);
    space.register(&connection, &channel("a")).unwrap();
    clock.at(0);
    space.publish(&channel("a"), &text("x"));
    for second in 1..100 {
        clock.at(second * 1000);
    }
    assert_eq!(wire(&mut body).await.0.matches(PING).count(), 0);
    clock.at(102_000);
    assert_eq!(wire(&mut body).await.0, PING);
}

#[tokio::test]
async fn timers_of_a_connection_that_is_gone_do_nothing_to_the_next() {
    let (mut clock, hub, _, _) = Clock::new();
    let short = Timing {
        inactivity: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let (_, body) = open_with(&hub, short);
    clock.at(0);
    drop(body);
    clock.at(10);
    let (next, _body) = open_with(&hub, Timing::default());
    clock.at(10);
    clock.at(5_000);
    assert!(next.is_open());
}
