//! A shard that has more to do than it can, and sockets of which it hears late.

use std::{
    io::{ErrorKind, Read},
    net::{TcpListener, TcpStream},
};

use tokio::sync::Semaphore;

use super::{
    super::delivery::{outlet::Framing, worker::Worker},
    *,
};

/// A hub of one shard whose turns are the test's.
fn one_shard(queue_bytes: usize) -> (Hub, Space, Worker) {
    let one = delivery::Settings {
        shards: 1,
        ..node()
    };
    let (engine, mut workers) = Engine::with_workers(&one).unwrap();
    let settings = Settings {
        queue_bytes,
        ..settings()
    };
    let (hub, _) = Hub::new(settings, engine);
    (hub.clone(), hub.space(), workers.remove(0))
}

/// A connection that hears channel `a` over a socket, and for which as much waits as its socket does not take.
fn blocked(hub: &Hub, space: &Space, worker: &mut Worker) -> (Arc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    let (connection, delivery) = hub.open(OpenOptions::default()).unwrap();
    let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    delivery.take_over(server, Framing::Close, seat);
    space.register(&connection, &channel("a")).unwrap();
    while hub.figures().queued_bytes == 0 {
        space.publish(&channel("a"), &text(&"x".repeat(10_000)));
        worker.turn(Some(Instant::now()));
    }
    // So that nothing of what the client does is heard of before the next look.
    worker.watch(true);
    (connection, client)
}

/// Reads all that there is, until nothing more comes by itself.
fn read_all(client: &mut TcpStream) {
    let mut bytes = vec![0; 1 << 20];
    let mut quiet = 0;
    while quiet < 10 {
        match client.read(&mut bytes) {
            Ok(_) => quiet = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                quiet += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn one_that_has_read_is_not_slow_though_its_shard_has_not_heard_of_it() {
    let (hub, space, mut worker) = one_shard(1 << 20);
    let (connection, mut client) = blocked(&hub, &space, &mut worker);
    read_all(&mut client);
    for _ in 0..150 {
        space.publish(&channel("a"), &text(&"x".repeat(10_000)));
    }
    worker.work(Some(Instant::now()));
    assert!(connection.is_open());
}

#[test]
fn nor_is_it_stuck() {
    let (hub, space, mut worker) = one_shard(1 << 20);
    let (connection, mut client) = blocked(&hub, &space, &mut worker);
    read_all(&mut client);
    worker.work(Some(Instant::now() + Duration::from_secs(31)));
    assert!(connection.is_open());
    assert_eq!(hub.figures().queued_bytes, 0);
}

#[test]
fn one_that_takes_nothing_for_long_is_given_up() {
    let (hub, space, mut worker) = one_shard(1 << 20);
    let begun = Instant::now();
    let (connection, _client) = blocked(&hub, &space, &mut worker);
    worker.work(Some(begun + Duration::from_secs(29)));
    assert!(connection.is_open());
    // The kernel may take a little more by itself, which is as good as a client that reads.
    let mut now = Instant::now();
    for _ in 0..10 {
        now += Duration::from_secs(31);
        worker.work(Some(now));
    }
    assert!(!connection.is_open());
}

#[test]
fn what_cannot_wait_is_refused_before_it_takes_all_memory() {
    let (hub, space, mut worker) = one_shard(1 << 20);
    let (connection, _delivery) = hub.open(OpenOptions::default()).unwrap();
    space.register(&connection, &channel("a")).unwrap();
    let large = text(&"x".repeat(1 << 20));
    let mut sent = 0;
    while hub.send(&connection, &large).is_ok() {
        sent += 1;
        assert!(sent < 1000, "it is never refused");
    }
    assert_eq!(hub.send(&connection, &text("x")), Err(HubError::Overloaded));
    while worker.has_more() {
        worker.turn(Some(Instant::now()));
    }
    // It was too slow meanwhile, or is open and may be sent to.
    assert_ne!(hub.send(&connection, &text("x")), Err(HubError::Overloaded));
}

#[test]
fn a_turn_ends_though_there_is_more_to_do() {
    let (hub, space, mut worker) = one_shard(1 << 20);
    for number in 0..20_000 {
        space.publish(&channel(&number.to_string()), &text("x"));
    }
    let (connection, _delivery) = hub.open(OpenOptions::default()).unwrap();
    for _ in 0..20_000 {
        hub.send(&connection, &text("x")).unwrap();
    }
    worker.turn(Some(Instant::now()));
    assert!(worker.has_more());
    let mut turns = 1;
    while worker.has_more() {
        worker.turn(Some(Instant::now()));
        turns += 1;
    }
    assert!((3..100).contains(&turns), "{turns}");
}
