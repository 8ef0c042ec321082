//! Shards that lag behind their hubs: what happens between an end and the time at which both have heard of it.

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
};

use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::{
    super::delivery::{outlet::Framing, worker::Worker},
    *,
};

/// A node of one shard whose turns are the test's.
struct Node {
    hub: Hub,
    space: Space,
    ended: EndedReceiver,
    worker: Worker,
    seats: Arc<Semaphore>,
}

impl Node {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let one = delivery::Settings {
            shards: 1,
            ..node()
        };
        let (engine, mut workers) = Engine::with_workers(&one).unwrap();
        let (hub, ended) = Hub::new(settings, engine);
        Self {
            space: hub.space(),
            hub,
            ended,
            worker: workers.remove(0),
            seats: Arc::new(Semaphore::new(10)),
        }
    }

    /// A connection that hears a channel, and what its response is to be made of.
    fn open(&self) -> (Arc<Connection>, Delivery) {
        let (connection, delivery) = self.hub.open(OpenOptions::default()).unwrap();
        self.space.register(&connection, &channel("a")).unwrap();
        (connection, delivery)
    }

    /// Gives a connection a socket, and returns its client's side.
    fn take_over(&self, delivery: Delivery) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let seat = self.seats.clone().try_acquire_owned().unwrap();
        delivery.take_over(server, Framing::Close, seat);
        client
    }

    fn turn(&mut self) {
        self.worker.turn(Some(Instant::now()));
    }

    /// More than may wait for a connection.
    fn publish_too_much(&self) {
        for _ in 0..8 {
            self.space
                .publish(&channel("a"), &text(&"x".repeat(10_000)));
        }
    }

    fn next_end(&mut self) -> CloseReason {
        self.ended.recv().now_or_never().unwrap().unwrap().reason
    }
}

/// What a body says without waiting.
fn said(body: &mut Body) -> String {
    let mut said = String::new();
    while let Some(Some(bytes)) =
        poll_fn(|context| Pin::new(&mut *body).poll_next(context)).now_or_never()
    {
        said.push_str(str::from_utf8(&bytes).unwrap());
    }
    said
}

#[test]
fn after_what_was_lost_nothing_is_heard_over_a_socket_that_comes_late() {
    let mut node = Node::new();
    let (connection, delivery) = node.open();
    node.publish_too_much();
    // All in one turn: the hub hears of the end after it.
    node.space.publish(&channel("a"), &text("later"));
    let mut client = node.take_over(delivery);
    node.turn();
    node.turn();
    assert_eq!(node.next_end(), CloseReason::Slow);
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "");
    assert!(!connection.is_open());
}

#[test]
fn after_what_was_lost_nothing_is_heard_over_a_body_that_comes_late() {
    let mut node = Node::new();
    let (_connection, delivery) = node.open();
    node.publish_too_much();
    node.space.publish(&channel("a"), &text("later"));
    let mut body = delivery.into_body(CancellationToken::new());
    node.turn();
    assert_eq!(said(&mut body), "");
}

#[test]
fn after_what_was_lost_nothing_is_heard_over_a_body() {
    let mut node = Node::new();
    let (_connection, delivery) = node.open();
    let mut body = delivery.into_body(CancellationToken::new());
    node.turn();
    node.publish_too_much();
    node.space.publish(&channel("a"), &text("later"));
    node.turn();
    assert_eq!(said(&mut body), "");
}

#[test]
fn one_that_reads_is_not_slow_whatever_is_published_at_a_time() {
    let mut node = Node::new();
    let (connection, delivery) = node.open();
    let mut client = node.take_over(delivery);
    node.turn();
    node.publish_too_much();
    node.turn();
    node.hub.close(&connection, CloseReason::Closed);
    node.turn();
    assert_eq!(node.next_end(), CloseReason::Closed);
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard.matches("data: ").count(), 8);
}

#[test]
fn what_a_socket_left_to_do_is_not_done_to_its_successor() {
    let mut node = Node::with(Settings {
        queue_bytes: 1 << 20,
        ..settings()
    });
    let (first, delivery) = node.open();
    let client = node.take_over(delivery);
    node.turn();
    // More than is written in one turn, to a socket that would take it.
    for _ in 0..2500 {
        node.hub.send(&first, &text("x")).unwrap();
    }
    node.hub.close(&first, CloseReason::Closed);
    node.turn();
    drop(client);
    node.worker.watch(true);
    // Its number is free and somebody else's before the turn goes on.
    let (next, delivery) = node.open();
    node.space.publish(&channel("a"), &text("hello"));
    node.hub.close(&next, CloseReason::Closed);
    node.worker.work(Some(Instant::now()));
    let mut client = node.take_over(delivery);
    node.turn();
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert!(heard.ends_with("data: hello\n\n"), "{heard}");
    node.turn();
    assert_eq!(node.worker.holds(), (0, 0));
    assert_eq!(node.hub.shared.engine.leftovers(), Vec::<String>::new());
}

#[test]
fn an_end_that_comes_late_is_not_that_of_whoever_has_its_number_now() {
    let node = Node::new();
    let outlet = |connection: &Connection| {
        let state = node.hub.lock();
        let member = state.members.find(connection.id()).unwrap();
        (member, state.members.get(member).unwrap().outlet)
    };
    let (first, _delivery) = node.open();
    let (member, its_outlet) = outlet(&first);
    node.hub.close(&first, CloseReason::Closed);
    let (next, _next_delivery) = node.open();
    assert_eq!(outlet(&next).0, member);
    node.hub.end_of(member, its_outlet, CloseReason::Slow);
    assert!(next.is_open());
}

#[test]
fn publishers_wait_for_a_shard_that_has_too_much_to_do_and_go_on_when_it_has_not() {
    let mut node = Node::new();
    let (_connection, _delivery) = node.open();
    let space = node.space.clone();
    let full = || space.room().now_or_never().is_none();
    while !full() {
        node.space
            .publish(&channel("a"), &text(&"x".repeat(100_000)));
    }
    let mut waiting = Box::pin(space.room());
    assert!(waiting.as_mut().now_or_never().is_none());
    node.turn();
    assert!(waiting.now_or_never().is_some());
    assert!(!full());
}

#[test]
fn no_publisher_that_waits_is_forgotten() {
    let (hub, space) = hub();
    let (connection, _body) = open(&hub, None);
    space.register(&connection, &channel("a")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                // Each round is more than the shard may be behind, so that every publisher waits again and again.
                for _ in 0..20 {
                    for _ in 0..5_000 {
                        space.publish(&channel("b"), &text("x"));
                        space.publish(&channel("a"), &text("x"));
                    }
                    runtime.block_on(space.room());
                }
            });
        }
    });
}
