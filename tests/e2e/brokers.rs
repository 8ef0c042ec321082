//! Brokers by their labels: a guest opens one, and what the operator has put behind it carries its events.

use fanfare_tests::{
    client::Request,
    node::{Node, Setup},
    servers::{kafka::KafkaServer, nats::NatsServer, postgres::PostgresServer, redis::RedisServer},
    stream::Stream,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::guests;

/// A node whose guest opens the broker `main`, of these keys.
fn setup(keys: &str) -> Setup {
    Node::config(&format!(
        "[brokers.main]\n{keys}\n\
         [apps.relay]\ncomponent = '{}'\ncapabilities.brokers = ['main']\nvariables.broker = 'main'\n",
        guests::RELAY
    ))
}

#[track_caller]
fn hear(node: &Node, last: Option<&str>) -> Stream {
    let mut request = Request::events("/events?channel=c");
    if let Some(last) = last {
        request = request.last_event_id(last);
    }
    node.open(&request)
}

#[track_caller]
fn publish(node: &Node, data: &str) {
    let answer = node.post("/publish/c", data).json();
    assert!(answer.get("id").is_some_and(Value::is_string), "{answer}");
}

/// So many events of the channel.
#[track_caller]
fn data(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut data = Vec::new();
    while data.len() < count {
        let event = stream.next_event();
        assert_ne!(event.event_type, "fanfare-gap");
        if event.event_type != "hello" {
            data.push(event.data);
        }
    }
    data
}

/// Events cross from node to node, and a client that comes to the other one goes on where it was.
fn assert_carries(keys: &str) {
    let nodes = [setup(keys).start(), setup(keys).start()];
    let mut stream = hear(&nodes[0], None);
    assert_eq!(stream.next_event().event_type, "hello");
    publish(&nodes[1], "1");
    publish(&nodes[0], "2");
    assert_eq!(data(&mut stream, 2), ["1", "2"]);
    let last = stream.last_event_id().to_owned();
    stream.close();
    publish(&nodes[0], "3");
    let mut stream = hear(&nodes[1], Some(&last));
    publish(&nodes[0], "4");
    assert_eq!(data(&mut stream, 2), ["3", "4"]);
}

#[test]
fn redis_carries_events() {
    let server = RedisServer::start();
    let url = server.url();
    assert_carries(&format!(
        "type = 'redis'\nurl = '{url}'\nsync-channel = 's'"
    ));
}

#[test]
fn nats_carries_events() {
    let server = NatsServer::start();
    let url = server.url();
    assert_carries(&format!("type = 'nats'\nurl = '{url}'\nsync-channel = 's'"));
}

#[test]
fn postgres_carries_events_also_those_of_a_plain_insert() {
    let server = PostgresServer::start();
    let keys = format!(
        "type = 'postgres'\nurl = '{}'\nsync-channel = 's'",
        server.url()
    );
    assert_carries(&keys);
    let node = setup(&keys).start();
    let mut stream = hear(&node, None);
    assert_eq!(stream.next_event().event_type, "hello");
    server
        .ask("INSERT INTO fanfare.outbox (log, channel, data) VALUES ('relay:s', 'c', 'from SQL')");
    assert_eq!(data(&mut stream, 1), ["from SQL"]);
}

#[test]
fn kafka_carries_events_also_those_of_others() {
    let server = KafkaServer::start();
    let address = server.address();
    assert_carries(&format!(
        "type = 'kafka'\nservers = ['{address}']\nsync-channel = 's'\ntimeout = '10s'"
    ));
    let node = setup(&format!(
        "type = 'kafka'\nservers = ['{address}']\ntopic = 'news'\ntimeout = '10s'"
    ));
    let node = node.start();
    let mut stream = hear(&node, None);
    assert_eq!(stream.next_event().event_type, "hello");
    server.produce("news", &[("c", "from elsewhere")]);
    assert_eq!(data(&mut stream, 1), ["from elsewhere"]);
}

#[test]
fn a_file_keeps_events_over_a_kill() {
    let folder = TempDir::with_prefix("fanfare-data-").unwrap();
    let keys = format!(
        "type = 'memory'\ndurable = 'process'\n[node]\ndata = '{}'",
        folder.path().display()
    );
    let node = setup(&keys).start();
    let mut stream = hear(&node, None);
    assert_eq!(stream.next_event().event_type, "hello");
    publish(&node, "1");
    assert_eq!(data(&mut stream, 1), ["1"]);
    let last = stream.last_event_id().to_owned();
    publish(&node, "2");
    node.kill();
    let node = setup(&keys).start();
    let mut stream = hear(&node, Some(&last));
    publish(&node, "3");
    assert_eq!(data(&mut stream, 2), ["2", "3"]);
}
