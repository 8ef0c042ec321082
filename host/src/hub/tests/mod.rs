//! What a client may rely on, whatever happens around it.

mod bounds;
mod carried;
mod fire;
mod handover;
mod lagging;
mod model;
mod overload;
mod resume;
mod sockets;
mod timers;

use std::{future::poll_fn, pin::Pin, task::Poll};

use futures_util::Stream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{channel::ChannelName, delivery::body::Body, *};
use crate::event::{Data, IdForm};

/// More than one, so that what happens between them is tested, too.
const SHARDS: usize = 2;

fn settings() -> Settings {
    Settings {
        history_events: 100,
        history_bytes: 64 * 1024,
        history_total_bytes: 1 << 20,
        history_age: Duration::from_secs(60),
        queue_bytes: 64 * 1024,
        connections: 1000,
        channels_per_connection: 10,
        event_data: 1 << 20,
    }
}

fn node() -> delivery::Settings {
    delivery::Settings {
        shards: SHARDS,
        connections: 10_000,
        connections_per_address: usize::MAX,
        queued_bytes: 1 << 30,
        write_timeout: Duration::from_secs(30),
    }
}

fn engine() -> Engine {
    Engine::new(&node()).unwrap()
}

/// Returns once the shards have done all that they were told, and what follows from it.
async fn settle(hub: &Hub) {
    for _ in 0..3 {
        for shard in 0..SHARDS as u16 {
            let (reply, done) = oneshot::channel();
            let group = u32::MAX;
            hub.lock().post.tell(shard, Command::Who { group, reply });
            done.await.unwrap();
        }
    }
}

fn hub() -> (Hub, Space) {
    let (hub, _) = Hub::new(settings(), engine());
    let space = hub.space();
    (hub, space)
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn text(data: &str) -> Event {
    Event::new(Data::Text(data.into()), 1 << 20).unwrap()
}

fn open(hub: &Hub, last_event_id: Option<&str>) -> (Arc<Connection>, Body) {
    let (connection, delivery) = hub
        .open(OpenOptions {
            last_event_id: last_event_id.map(str::to_owned),
            ..Default::default()
        })
        .unwrap();
    (connection, delivery.into_body(CancellationToken::new()))
}

/// What is ready to be written, and whether the stream has ended after it.
async fn ready(connection: &Connection, body: &mut Body) -> (String, bool) {
    connection.release();
    settle(connection.hub()).await;
    let mut out = Vec::new();
    loop {
        let next = poll_fn(|context| match Pin::new(&mut *body).poll_next(context) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => Poll::Ready(None),
        });
        match next.await {
            Some(Some(bytes)) => out.extend_from_slice(&bytes),
            ended => return (String::from_utf8(out).unwrap(), ended.is_some()),
        }
    }
}

/// The data of the events that are ready, and the types of those that have one.
async fn heard(connection: &Connection, body: &mut Body) -> Vec<String> {
    let (wire, _) = ready(connection, body).await;
    let blocks = wire.split_terminator("\n\n");
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(": ")
                .map(str::to_owned)
        })
    };
    blocks
        .filter_map(|block| field(block, "event").or_else(|| field(block, "data")))
        .collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn hears_a_channel_from_its_registration_to_its_removal() {
    let (hub, space) = hub();
    let (connection, mut body) = open(&hub, None);
    let (a, b) = (channel("a"), channel("b"));
    space.publish(&a, &text("before"));
    space.register(&connection, &a).unwrap();
    space.register(&connection, &a).unwrap();
    space.register(&connection, &b).unwrap();
    assert_eq!(hub.channels(&connection), ["a", "b"]);
    let published = space.publish(&a, &text("first"));
    assert_eq!(published.delivered, 1);
    assert_eq!(
        ready(&connection, &mut body).await,
        (format!("id: {}\ndata: first\n\n", published.id), false)
    );

    space.remove(&connection.id().to_string(), &a).unwrap();
    assert_eq!(space.publish(&a, &text("after")).delivered, 0);
    space.publish(&b, &text("last"));
    space.remove(&connection.id().to_string(), &b).unwrap();
    assert!(!connection.is_open());
    let (wire, ended) = ready(&connection, &mut body).await;
    assert!(
        wire.ends_with("data: last\n\n") && !wire.contains("after") && ended,
        "{wire:?}"
    );
}

#[tokio::test]
async fn refuses_what_cannot_be() {
    let (hub, space) = hub();
    let (connection, body) = open(&hub, None);
    assert!(matches!(
        space.remove("nobody", &channel("a")),
        Err(HubError::NotFound(_))
    ));
    assert!(matches!(
        space.remove(&connection.id().to_string(), &channel("a")),
        Err(HubError::NotFound(_))
    ));
    for number in 0..10 {
        space
            .register(&connection, &channel(&number.to_string()))
            .unwrap();
    }
    assert_eq!(
        space.register(&connection, &channel("one too many")),
        Err(HubError::Limited {
            name: "channels-per-connection",
            limit: 10
        })
    );
    drop(body);
    settle(&hub).await;
    assert_eq!(
        space.register(&connection, &channel("a")),
        Err(HubError::Closed)
    );
    assert_eq!(hub.send(&connection, &text("x")), Err(HubError::Closed));
}

#[tokio::test]
async fn spaces_do_not_share_channels_and_hubs_do_not_share_connections() {
    let (hub, space) = hub();
    let other = hub.space();
    let (connection, mut body) = open(&hub, None);
    space.register(&connection, &channel("a")).unwrap();
    assert_eq!(other.publish(&channel("a"), &text("x")).delivered, 0);
    assert_eq!(
        space.clone().publish(&channel("a"), &text("y")).delivered,
        1
    );
    assert_eq!(heard(&connection, &mut body).await, ["y"]);
    let (foreign, _) = self::hub();
    assert_eq!(
        foreign.space().register(&connection, &channel("a")),
        Err(HubError::Closed)
    );
}

#[tokio::test]
async fn limits_connections_and_frees_them() {
    let (hub, mut ended) = Hub::new(
        Settings {
            connections: 1,
            ..settings()
        },
        engine(),
    );
    let (_, body) = open(&hub, None);
    let refused = hub.open(OpenOptions::default()).map(|_| ());
    assert_eq!(
        refused,
        Err(HubError::Limited {
            name: "connections",
            limit: 1
        })
    );
    drop(body);
    settle(&hub).await;
    ended.recv().await.unwrap();
    open(&hub, None);
}

#[tokio::test]
async fn tells_of_every_end_once() {
    let (hub, mut ended) = Hub::new(settings(), engine());
    let space = hub.space();
    let (connection, body) = open(&hub, None);
    space.register(&connection, &channel("b")).unwrap();
    space.register(&connection, &channel("a")).unwrap();
    drop(body);
    settle(&hub).await;
    hub.close(&connection, CloseReason::Closed);
    let told = ended.recv().await.unwrap();
    let expected = Ended {
        connection: connection.id(),
        channels: vec!["a".into(), "b".into()],
        reason: CloseReason::ClientGone,
    };
    assert_eq!(told, expected);
    hub.drain(Duration::from_secs(1));
    assert_eq!(ended.recv().await, None);
}

#[tokio::test]
async fn drains() {
    let (hub, _) = Hub::new(settings(), engine());
    let space = hub.space();
    let (connection, mut body) = open(&hub, None);
    space.register(&connection, &channel("a")).unwrap();
    space.publish(
        &channel("a"),
        &text("last").with_id("1".into(), IdForm::Plain).unwrap(),
    );
    hub.drain(Duration::from_millis(250));
    let (wire, ended) = ready(&connection, &mut body).await;
    let retry = wire.strip_prefix("id: 1\ndata: last\n\nretry: ");
    let retry: u32 = retry.unwrap().trim_end().parse().unwrap();
    assert!((50..=250).contains(&retry) && ended, "{wire}");
    assert_eq!(
        hub.open(OpenOptions::default()).map(|_| ()),
        Err(HubError::Draining)
    );
}
