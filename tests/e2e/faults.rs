//! A node that is killed under load, over each broker that several nodes share, with every event accounted for.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use fanfare_tests::{
    account::Account,
    client::{Request, Socket},
    node::Node,
    servers::{kafka::KafkaServer, nats::NatsServer, postgres::PostgresServer, redis::RedisServer},
    sse::Item,
    stream::Stream,
    wait,
};

use crate::guests;

/// Those who publish, and clients, of each node.
const PUBLISHERS: usize = 2;
const CLIENTS: usize = 3;
/// Events that have to be accepted, and heard by everybody, before all goes on.
const ON: usize = 50;
/// The data of the last event.
const END: &str = "end";

/// What goes on while the node is killed.
struct Load {
    /// The nodes; the first one is killed.
    nodes: [SocketAddr; 2],
    stop: AtomicBool,
    /// Publications that were accepted so far.
    accepted: AtomicUsize,
    /// How much each client has heard so far.
    heard: [AtomicUsize; 2 * CLIENTS],
    /// Clients and publishers that went to the other node.
    moved: AtomicUsize,
}

impl Load {
    /// Publishes until it is told to stop, at this node and, once that is gone, at the other one. Returns the ids of what
    /// was accepted.
    fn publish(&self, number: usize, mut node: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let id = format!("{number}-{}", ids.len());
            // Under the same id until it is accepted: what the node that was killed did not answer may be there.
            let mut request = Request::post(&format!("/publish/c?id={id}"), &*id);
            request = request.header("connection", "close");
            loop {
                match ask(self.nodes[node], &request) {
                    Some(answer) if answer.contains("\"id\"") => break,
                    // The broker is busy.
                    Some(answer) => assert!(answer.contains("unavailable"), "{answer}"),
                    None => {
                        assert_eq!(node, 0, "the other node was not killed");
                        node = 1;
                        self.moved.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            ids.push(id);
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
        ids
    }

    /// Hears the channel until its end, at this node and, once that is gone, at the other one. Returns the ids that it
    /// heard, or nothing for a gap.
    fn hear(&self, number: usize, mut node: usize, mut stream: Stream) -> Vec<Option<String>> {
        let mut heard = Vec::new();
        loop {
            match stream.next_item() {
                Ok(Item::Event(event)) => {
                    match (&*event.event_type, &*event.data) {
                        ("hello", _) => continue,
                        (_, END) => return heard,
                        ("fanfare-gap", _) => heard.push(None),
                        _ => heard.push(Some(event.last_event_id)),
                    }
                    self.heard[number].fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(_) => {
                    assert_eq!(node, 0, "the other node was not killed");
                    node = 1;
                    let last = stream.last_event_id();
                    let request = Request::events("/events?channel=c").last_event_id(last);
                    stream = Socket::connect(self.nodes[node]).open(&request);
                    self.moved.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Waits until so many more events were accepted, and heard by everybody.
    fn more(&self, events: usize) {
        let counts = self.heard.iter().chain([&self.accepted]);
        let wanted = counts.map(|count| (count, count.load(Ordering::Relaxed) + events));
        for (count, wanted) in wanted.collect::<Vec<_>>() {
            wait::until_true("all goes on", || count.load(Ordering::Relaxed) >= wanted);
        }
    }
}

/// Asks a node something, and returns what it answers, unless it is gone.
fn ask(node: SocketAddr, request: &Request) -> Option<String> {
    let mut socket = TcpStream::connect(node).ok()?;
    let set = socket.set_read_timeout(Some(wait::PATIENCE));
    set.expect("a socket has options");
    socket.write_all(&request.encode("node")).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

fn assert_survives_a_killed_node(broker: &str, keys: &str) {
    let [killed, stays] = [(); 2].map(|()| {
        let setup = Node::config(&format!(
            "[brokers.main]\n{keys}\n\
             [apps.relay]\ncomponent = '{}'\ncapabilities.brokers = ['main']\nvariables.broker = 'main'\n\
             history.events = 50_000\nhistory.bytes = '32MiB'\n",
            guests::RELAY
        ));
        setup.start()
    });
    let load = Load {
        nodes: [killed.address, stays.address],
        stop: AtomicBool::new(false),
        accepted: AtomicUsize::new(0),
        heard: Default::default(),
        moved: AtomicUsize::new(0),
    };
    let streams = [&killed, &stays].map(|node| {
        [(); CLIENTS].map(|()| {
            let mut stream = node.events("/events?channel=c");
            assert_eq!(stream.next_event().event_type, "hello");
            stream
        })
    });
    let (accepted, heard, goes_on_after) = thread::scope(|scope| {
        let load = &load;
        let clients = streams.into_iter().flatten().enumerate();
        let clients = clients
            .map(|(number, stream)| {
                scope.spawn(move || load.hear(number, number / CLIENTS, stream))
            })
            .collect::<Vec<_>>();
        let publishers = (0..2 * PUBLISHERS)
            .map(|number| scope.spawn(move || load.publish(number, number % 2)))
            .collect::<Vec<_>>();
        load.more(2 * ON);
        killed.kill();
        let begun = Instant::now();
        load.more(ON);
        let goes_on_after = begun.elapsed();
        load.more(ON);
        wait::until_true("all have moved", || {
            load.moved.load(Ordering::Relaxed) == PUBLISHERS + CLIENTS
        });
        load.stop.store(true, Ordering::Relaxed);
        let publishers = publishers.into_iter();
        let accepted: Vec<_> = publishers.map(|one| one.join().expect("it ends")).collect();
        let answer = stays.post("/publish/c", END).text().to_owned();
        assert!(answer.contains("\"id\""), "{answer}");
        let clients = clients.into_iter();
        let heard: Vec<_> = clients.map(|one| one.join().expect("it ends")).collect();
        (accepted, heard, goes_on_after)
    });
    assert_eq!(load.moved.into_inner(), PUBLISHERS + CLIENTS);
    let heard = heard.iter().map(|heard| heard.iter().map(Option::as_deref));
    let account = Account::new(&accepted, heard);
    account.report(broker, "node-killed", goes_on_after);
    account.check();
}

#[test]
fn a_node_that_is_killed_loses_nothing_over_redis() {
    let server = RedisServer::start();
    let url = server.url();
    let keys = format!("type = 'redis'\nurl = '{url}'\nsync-channel = 's'");
    assert_survives_a_killed_node("redis", &keys);
}

#[test]
fn a_node_that_is_killed_loses_nothing_over_nats() {
    let server = NatsServer::start();
    let url = server.url();
    let keys = format!("type = 'nats'\nurl = '{url}'\nsync-channel = 's'");
    assert_survives_a_killed_node("nats", &keys);
}

#[test]
fn a_node_that_is_killed_loses_nothing_over_postgres() {
    let server = PostgresServer::start();
    let url = server.url();
    let keys = format!("type = 'postgres'\nurl = '{url}'\nsync-channel = 's'");
    assert_survives_a_killed_node("postgres", &keys);
}

#[test]
fn a_node_that_is_killed_loses_nothing_over_kafka() {
    let server = KafkaServer::start();
    let address = server.address();
    let keys =
        format!("type = 'kafka'\nservers = ['{address}']\nsync-channel = 's'\ntimeout = '10s'");
    assert_survives_a_killed_node("kafka", &keys);
    // Of which it is the first node, the one that is killed, that orders them.
    let keys = format!("{keys}\npartitions = 3").replace("'s'", "'several'");
    assert_survives_a_killed_node("kafka, 3 partitions", &keys);
}
