//! What a client may rely on, whatever happens around it.

use std::{future::poll_fn, pin::Pin, task::Poll};

use futures_util::{Stream, StreamExt};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::{channel::ChannelName, connection::Timing, resume::GAP_EVENT, *};
use crate::event::{Data, IdForm};

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

fn hub() -> (Hub, Space) {
    let (hub, _) = Hub::new(settings());
    let space = hub.space();
    (hub, space)
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn text(data: &str) -> Event {
    Event::new(Data::Text(data.into()), 1 << 20).unwrap()
}

fn open(hub: &Hub, last_event_id: Option<&str>) -> (Arc<Connection>, Delivery) {
    hub.open(OpenOptions {
        last_event_id: last_event_id.map(str::to_owned),
        ..Default::default()
    })
    .unwrap()
}

/// What is ready to be written, and whether the stream has ended after it.
async fn ready(delivery: &mut Delivery) -> (String, bool) {
    delivery.connection().release();
    let mut out = Vec::new();
    loop {
        let next = poll_fn(
            |context| match Pin::new(&mut *delivery).poll_next(context) {
                Poll::Ready(next) => Poll::Ready(Some(next)),
                Poll::Pending => Poll::Ready(None),
            },
        );
        match next.await {
            Some(Some(bytes)) => out.extend_from_slice(&bytes),
            ended => return (String::from_utf8(out).unwrap(), ended.is_some()),
        }
    }
}

/// The data of the events that are ready, and the types of those that have one.
async fn heard(delivery: &mut Delivery) -> Vec<String> {
    let (wire, _) = ready(delivery).await;
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
    let (connection, mut delivery) = open(&hub, None);
    let (a, b) = (channel("a"), channel("b"));
    space.publish(&a, &text("before"));
    space.register(&connection, &a).unwrap();
    space.register(&connection, &a).unwrap();
    space.register(&connection, &b).unwrap();
    assert_eq!(hub.channels(&connection), ["a", "b"]);
    let published = space.publish(&a, &text("first"));
    assert_eq!(published.delivered, 1);
    assert_eq!(
        ready(&mut delivery).await,
        (format!("id: {}\ndata: first\n\n", published.id), false)
    );

    space.remove(connection.id(), &a).unwrap();
    assert_eq!(space.publish(&a, &text("after")).delivered, 0);
    space.publish(&b, &text("last"));
    space.remove(connection.id(), &b).unwrap();
    assert!(!connection.is_open());
    let (wire, ended) = ready(&mut delivery).await;
    assert!(
        wire.ends_with("data: last\n\n") && !wire.contains("after") && ended,
        "{wire:?}"
    );
}

#[tokio::test]
async fn refuses_what_cannot_be() {
    let (hub, space) = hub();
    let (connection, delivery) = open(&hub, None);
    assert!(matches!(
        space.remove("nobody", &channel("a")),
        Err(HubError::NotFound(_))
    ));
    assert!(matches!(
        space.remove(connection.id(), &channel("a")),
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
    drop(delivery);
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
    let (connection, mut delivery) = open(&hub, None);
    space.register(&connection, &channel("a")).unwrap();
    assert_eq!(other.publish(&channel("a"), &text("x")).delivered, 0);
    assert_eq!(
        space.clone().publish(&channel("a"), &text("y")).delivered,
        1
    );
    assert_eq!(heard(&mut delivery).await, ["y"]);
    let (foreign, _) = self::hub();
    assert_eq!(
        foreign.space().register(&connection, &channel("a")),
        Err(HubError::Closed)
    );
}

#[tokio::test]
async fn limits_connections_and_frees_them() {
    let (hub, mut ended) = Hub::new(Settings {
        connections: 1,
        ..settings()
    });
    let (_, delivery) = open(&hub, None);
    let refused = hub.open(OpenOptions::default()).map(|_| ());
    assert_eq!(
        refused,
        Err(HubError::Limited {
            name: "connections",
            limit: 1
        })
    );
    drop(delivery);
    ended.recv().await.unwrap();
    open(&hub, None);
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_once() {
    let (hub, space) = hub();
    let news = channel("news");
    let ids: Vec<_> = (0..10)
        .map(|number| space.publish(&news, &text(&number.to_string())).id)
        .collect();
    let (connection, mut delivery) = open(&hub, Some(&ids[3]));
    space.register(&connection, &news).unwrap();
    space.publish(&news, &text("10"));
    assert_eq!(heard(&mut delivery).await, numbers(4..11));

    let (connection, mut delivery) = open(&hub, Some(&ids[9]));
    space.register(&connection, &news).unwrap();
    assert_eq!(heard(&mut delivery).await, ["10"]);
}

#[tokio::test]
async fn one_id_is_a_place_on_every_channel() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    space.publish(&a, &text("0"));
    space.publish(&b, &text("1"));
    let last = space.publish(&a, &text("2")).id;
    space.publish(&b, &text("3"));
    let (connection, mut delivery) = open(&hub, Some(&last));
    space.register(&connection, &b).unwrap();
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&mut delivery).await, ["3"]);
}

#[tokio::test]
async fn ids_of_guests_work_too_even_one_on_two_channels() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    let own = |id: &str| text(id).with_id(id.into(), IdForm::Plain).unwrap();
    space.publish(&b, &own("7"));
    space.publish(&b, &own("8"));
    space.publish(&a, &own("7"));
    space.publish(&a, &own("9"));
    let (connection, mut delivery) = open(&hub, Some("7"));
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&mut delivery).await, ["9"]);
    space.register(&connection, &b).unwrap();
    assert_eq!(heard(&mut delivery).await, ["8"]);
}

#[tokio::test]
async fn tells_a_gap_before_anything_else() {
    let (hub, space) = hub();
    let news = channel("news");
    let ids: Vec<_> = (0..150)
        .map(|number| space.publish(&news, &text(&number.to_string())).id)
        .collect();
    // Event 49 is the newest that was forgotten: who heard it has missed nothing that is not there.
    for (last, gap, first) in [
        (&ids[49], false, 50),
        (&ids[48], true, 50),
        (&ids[0], true, 50),
    ] {
        let (connection, mut delivery) = open(&hub, Some(last));
        space.register(&connection, &news).unwrap();
        let mut expected = numbers(first..150);
        if gap {
            expected.insert(0, GAP_EVENT.into());
        }
        assert_eq!(heard(&mut delivery).await, expected);
    }
    // Unknown ids: of another epoch, of nobody, and one that looks like the next.
    let epoch = ids[0].split('-').next().unwrap();
    for last in [
        "0123456789-7".to_owned(),
        "nonsense\u{0}".into(),
        format!("{epoch}-151"),
        format!("{epoch}-+1"),
    ] {
        let (connection, mut delivery) = open(&hub, Some(&last));
        space.register(&connection, &news).unwrap();
        let (wire, _) = ready(&mut delivery).await;
        let data = serde_json::json!({ "channel": "news", "last-event-id": last });
        assert_eq!(wire, format!("event: fanfare-gap\ndata: {data}\n\n"));
    }
}

#[tokio::test]
async fn forgets_by_age_and_says_so() {
    let (hub, space) = hub();
    let (news, quiet) = (channel("news"), channel("quiet"));
    let first = space.publish(&news, &text("0")).id;
    space.publish(&news, &text("1"));
    space.publish(&quiet, &text("2"));
    hub.expire(Instant::now() + Duration::from_secs(59));
    assert_eq!(space.history(&news, 10).len(), 2);
    hub.expire(Instant::now() + Duration::from_secs(61));
    assert_eq!(space.history(&news, 10), []);
    {
        let state = hub.shared.state.lock();
        assert!(
            state.channels.is_empty() && state.expiries.is_empty(),
            "{state:?}"
        );
    }
    let (connection, mut delivery) = open(&hub, Some(&first));
    space.register(&connection, &news).unwrap();
    assert_eq!(heard(&mut delivery).await, [GAP_EVENT]);
}

#[tokio::test]
async fn without_a_history_a_gap_is_told_and_nothing_is_kept() {
    let (hub, _) = Hub::new(Settings {
        history_events: 0,
        ..settings()
    });
    let space = hub.space();
    let news = channel("news");
    let first = space.publish(&news, &text("0")).id;
    space.publish(&news, &text("1"));
    assert!(hub.shared.state.lock().channels.is_empty());
    let (connection, mut delivery) = open(&hub, Some(&first));
    space.register(&connection, &news).unwrap();
    assert_eq!(heard(&mut delivery).await, [GAP_EVENT]);
}

#[tokio::test]
async fn an_id_is_delivered_once_while_it_is_remembered() {
    let (hub, space) = hub();
    let (connection, mut delivery) = open(&hub, None);
    let (a, b) = (channel("a"), channel("b"));
    space.register(&connection, &a).unwrap();
    let event = text("x").with_id("order-7".into(), IdForm::Plain).unwrap();
    assert!(!space.publish(&a, &event).duplicate);
    let again = space.publish(&a, &event);
    assert_eq!(
        again,
        Published {
            id: "order-7".into(),
            delivered: 0,
            duplicate: true
        }
    );
    assert!(!space.publish(&b, &event).duplicate);
    assert_eq!(heard(&mut delivery).await, ["x"]);
    let given = space.publish(&a, &text("y")).id;
    assert!(
        space
            .publish(&a, &text("z").with_id(given, IdForm::Plain).unwrap())
            .duplicate
    );
    hub.expire(Instant::now() + Duration::from_secs(61));
    assert!(!space.publish(&a, &event).duplicate);
}

#[tokio::test]
async fn a_slow_client_is_closed_and_delays_nobody() {
    let (hub, mut ended) = Hub::new(settings());
    let space = hub.space();
    let news = channel("news");
    let abort = CancellationToken::new();
    let (slow, mut stuck) = hub
        .open(OpenOptions {
            abort: abort.clone(),
            ..Default::default()
        })
        .unwrap();
    let (quick, mut delivery) = open(&hub, None);
    space.register(&slow, &news).unwrap();
    space.register(&quick, &news).unwrap();
    let data = "x".repeat(10_000);
    for _ in 0..7 {
        space.publish(&news, &text(&data));
        assert_eq!(heard(&mut delivery).await, std::slice::from_ref(&data));
    }
    assert_eq!(slow.close_reason(), Some(CloseReason::Slow));
    assert!(abort.is_cancelled());
    assert_eq!(ready(&mut stuck).await, (String::new(), true));
    assert_eq!(ended.recv().await.unwrap().reason, CloseReason::Slow);
    assert_eq!(space.subscribers(&news), 1);
}

#[tokio::test]
async fn an_event_larger_than_the_queue_still_goes_through() {
    let (hub, space) = hub();
    let (connection, mut delivery) = open(&hub, None);
    space.register(&connection, &channel("a")).unwrap();
    let data = "x".repeat(500_000);
    assert_eq!(space.publish(&channel("a"), &text(&data)).delivered, 1);
    assert_eq!(heard(&mut delivery).await, [data]);
}

#[tokio::test]
async fn catching_up_is_not_slow() {
    let (hub, _) = Hub::new(Settings {
        queue_bytes: 1000,
        ..settings()
    });
    let space = hub.space();
    let news = channel("news");
    let first = space.publish(&news, &text("0")).id;
    for number in 1..50 {
        space.publish(&news, &text(&number.to_string()));
    }
    let (connection, mut delivery) = open(&hub, Some(&first));
    space.register(&connection, &news).unwrap();
    space.publish(&news, &text("50"));
    assert_eq!(heard(&mut delivery).await, numbers(1..51));
}

#[tokio::test]
async fn tells_of_every_end_once() {
    let (hub, mut ended) = Hub::new(settings());
    let space = hub.space();
    let (connection, delivery) = open(&hub, None);
    space.register(&connection, &channel("b")).unwrap();
    space.register(&connection, &channel("a")).unwrap();
    drop(delivery);
    hub.close(&connection, CloseReason::Closed);
    let told = ended.recv().await.unwrap();
    let expected = Ended {
        connection: connection.id().clone(),
        channels: vec!["a".into(), "b".into()],
        reason: CloseReason::ClientGone,
    };
    assert_eq!(told, expected);
    hub.drain(Duration::from_secs(1));
    assert_eq!(ended.recv().await, None);
}

#[tokio::test]
async fn drains() {
    let (hub, _) = Hub::new(settings());
    let space = hub.space();
    let (connection, mut delivery) = open(&hub, None);
    space.register(&connection, &channel("a")).unwrap();
    space.publish(
        &channel("a"),
        &text("last").with_id("1".into(), IdForm::Plain).unwrap(),
    );
    hub.drain(Duration::from_millis(250));
    let (wire, ended) = ready(&mut delivery).await;
    let retry = wire.strip_prefix("id: 1\ndata: last\n\nretry: ");
    let retry: u32 = retry.unwrap().trim_end().parse().unwrap();
    assert!((50..=250).contains(&retry) && ended, "{wire}");
    assert_eq!(
        hub.open(OpenOptions::default()).map(|_| ()),
        Err(HubError::Draining)
    );
}

#[tokio::test(start_paused = true)]
async fn pings_a_quiet_stream_and_closes_an_inactive_one() {
    let (hub, space) = hub();
    let timing = Timing {
        ping: Some(Duration::from_secs(10)),
        inactivity: Some(Duration::from_secs(25)),
    };
    let (connection, mut delivery) = hub
        .open(OpenOptions {
            timing,
            ..Default::default()
        })
        .unwrap();
    space.register(&connection, &channel("a")).unwrap();
    let begun = tokio::time::Instant::now();
    let at = || begun.elapsed().as_secs();
    assert_eq!(
        (delivery.next().await.as_deref(), at()),
        (Some(&b": ping\n\n"[..]), 10)
    );
    tokio::time::advance(Duration::from_secs(5)).await;
    space.publish(&channel("a"), &text("x"));
    assert!(
        delivery
            .next()
            .await
            .is_some_and(|bytes| bytes.ends_with(b"data: x\n\n"))
    );
    assert_eq!(
        (delivery.next().await.as_deref(), at()),
        (Some(&b": ping\n\n"[..]), 25)
    );
    assert_eq!(
        (delivery.next().await.as_deref(), at()),
        (Some(&b": ping\n\n"[..]), 35)
    );
    assert_eq!((delivery.next().await, at()), (None, 40));
    assert_eq!(connection.close_reason(), Some(CloseReason::Inactive));
}

#[tokio::test]
async fn what_was_missed_on_several_channels_is_merged() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    let first = space.publish(&a, &text("0")).id;
    space.publish(&a, &text("1"));
    space.publish(&b, &text("2"));
    space.publish(&a, &text("3"));
    let (connection, mut delivery) = open(&hub, Some(&first));
    space.register(&connection, &a).unwrap();
    space.publish(&a, &text("4"));
    space.register(&connection, &b).unwrap();
    space.publish(&b, &text("5"));
    assert_eq!(heard(&mut delivery).await, numbers(1..6));
}

/// What a client's `Last-Event-ID` is after these blocks.
fn last_event_id(wire: &str) -> Option<&str> {
    wire.lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "))
}

#[tokio::test]
async fn who_is_registered_late_still_misses_nothing_and_hears_nothing_twice() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    let first = space.publish(&a, &text("0")).id;
    space.publish(&b, &text("1"));
    let newest = space.publish(&a, &text("2")).id;
    let (connection, mut delivery) = open(&hub, Some(&first));
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&mut delivery).await, ["2"]);
    space.register(&connection, &b).unwrap();
    let (wire, _) = ready(&mut delivery).await;
    assert!(wire.contains("data: 1\n"), "{wire}");
    assert_eq!(last_event_id(&wire), Some(newest.as_str()), "{wire}");
}

#[tokio::test]
async fn who_leaves_and_joins_again_does_not_hear_it_all_again() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    let first = space.publish(&a, &text("0")).id;
    space.publish(&a, &text("1"));
    let (connection, mut delivery) = open(&hub, Some(&first));
    space.register(&connection, &a).unwrap();
    space.register(&connection, &b).unwrap();
    assert_eq!(heard(&mut delivery).await, ["1"]);
    space.remove(connection.id(), &a).unwrap();
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&mut delivery).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_id_that_was_on_two_channels_is_no_place_on_a_third() {
    let (hub, space) = hub();
    let own = |id: &str| text(id).with_id(id.into(), IdForm::Plain).unwrap();
    space.publish(&channel("a"), &own("7"));
    space.publish(&channel("b"), &own("7"));
    space.publish(&channel("c"), &own("8"));
    let (connection, mut delivery) = open(&hub, Some("7"));
    space.register(&connection, &channel("c")).unwrap();
    assert_eq!(heard(&mut delivery).await, [GAP_EVENT]);
}

#[tokio::test]
async fn histories_are_bounded_together_and_the_oldest_events_go() {
    let (hub, _) = Hub::new(Settings {
        history_total_bytes: 100_000,
        ..settings()
    });
    let space = hub.space();
    let mut first = None;
    for number in 0..5000 {
        let name = channel(&format!("channel {number}"));
        let id = space.publish(&name, &text(&"x".repeat(100))).id;
        first.get_or_insert((name, id));
    }
    {
        let state = hub.shared.state.lock();
        assert!(state.history_cost <= 100_000);
        assert!(state.channels.len() < 1000);
        assert_eq!(state.channels.len(), state.expiries.len());
    }
    assert_eq!(space.history(&channel("channel 4999"), 1).len(), 1);
    let (name, id) = first.unwrap();
    assert_eq!(space.history(&name, 1), []);
    let (connection, mut delivery) = open(&hub, Some(&id));
    space.register(&connection, &channel("channel 1")).unwrap();
    assert_eq!(heard(&mut delivery).await, [GAP_EVENT]);
}

#[tokio::test]
async fn a_history_is_looked_after_once_whatever_is_published() {
    let (hub, space) = hub();
    let news = channel("news");
    for _ in 0..10 {
        space.publish(&news, &text("x"));
        // Larger than what is kept: it forgets all others and is not kept itself.
        space.publish(&news, &text(&"x".repeat(100_000)));
    }
    assert_eq!(hub.shared.state.lock().expiries.len(), 1);
    hub.expire(Instant::now() + Duration::from_secs(61));
    let state = hub.shared.state.lock();
    assert!(state.expiries.is_empty() && state.channels.is_empty());
    assert_eq!(state.history_cost, 0);
}

#[tokio::test]
async fn a_connection_counts_until_its_socket_is_gone_and_its_end_is_told() {
    let (hub, mut ended) = Hub::new(Settings {
        connections: 1,
        ..settings()
    });
    let full = || hub.open(OpenOptions::default()).map(|_| ()).is_err();
    let (connection, delivery) = open(&hub, None);
    hub.close(&connection, CloseReason::Closed);
    assert!(full());
    drop(delivery);
    assert!(full());
    ended.recv().await.unwrap();
    assert!(!full());
}

/// One step of a random schedule.
#[derive(Debug, Clone)]
enum Step {
    Open,
    Register(usize, usize),
    Remove(usize, usize),
    Publish(usize),
    Close(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (client, name) = (0..4usize, 0..3usize);
    prop_oneof![
        Just(Step::Open),
        (client.clone(), name.clone()).prop_map(|(client, name)| Step::Register(client, name)),
        (client.clone(), name.clone()).prop_map(|(client, name)| Step::Remove(client, name)),
        name.prop_map(Step::Publish),
        client.clone().prop_map(Step::Close),
        client.prop_map(Step::Drop),
    ]
}

/// What a connection ought to have heard, by the words of the contract alone.
#[derive(Debug, Default)]
struct Model {
    channels: BTreeSet<usize>,
    heard: Vec<String>,
    open: bool,
}

proptest! {
    #[test]
    fn every_schedule_agrees_with_the_model(steps in proptest::collection::vec(step(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (hub, space) = hub();
            let names = ["a", "b", "c"].map(channel);
            let mut clients: Vec<(Arc<Connection>, Option<Delivery>, Model)> = Vec::new();
            let mut published = 0;
            for step in steps {
                match step {
                    Step::Open if clients.len() < 4 => {
                        let (connection, delivery) = open(&hub, None);
                        clients.push((connection, Some(delivery), Model { open: true, ..Model::default() }));
                    }
                    Step::Register(client, name) => {
                        let Some((connection, _, model)) = clients.get_mut(client) else { continue };
                        prop_assert_eq!(space.register(connection, &names[name]).is_ok(), model.open);
                        if model.open {
                            model.channels.insert(name);
                        }
                    }
                    Step::Remove(client, name) => {
                        let Some((connection, _, model)) = clients.get_mut(client) else { continue };
                        let known = model.channels.remove(&name);
                        prop_assert_eq!(space.remove(connection.id(), &names[name]).is_ok(), known);
                        model.open &= !(known && model.channels.is_empty());
                    }
                    Step::Publish(name) => {
                        let data = published.to_string();
                        published += 1;
                        let delivered = space.publish(&names[name], &text(&data)).delivered;
                        let mut expected = 0;
                        for (_, _, model) in &mut clients {
                            if model.channels.contains(&name) {
                                model.heard.push(data.clone());
                                expected += 1;
                            }
                        }
                        prop_assert_eq!(delivered, expected);
                    }
                    Step::Close(client) => {
                        let Some((connection, _, model)) = clients.get_mut(client) else { continue };
                        hub.close(connection, CloseReason::Closed);
                        model.open = false;
                        model.channels.clear();
                    }
                    Step::Drop(client) => {
                        let Some((_, delivery, model)) = clients.get_mut(client) else { continue };
                        *delivery = None;
                        model.open = false;
                        model.channels.clear();
                    }
                    Step::Open => {}
                }
            }
            for (connection, delivery, model) in &mut clients {
                prop_assert_eq!(connection.is_open(), model.open);
                if let Some(delivery) = delivery {
                    prop_assert_eq!(heard(delivery).await, std::mem::take(&mut model.heard));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn wherever_a_client_leaves_it_misses_nothing(
        left in 0..40usize,
        names in proptest::collection::vec(0..3usize, 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (hub, space) = hub();
            let channels = ["a", "b", "c"].map(channel);
            let ids: Vec<_> = names.iter().enumerate()
                .map(|(number, name)| space.publish(&channels[*name], &text(&number.to_string())).id)
                .collect();
            let (connection, mut delivery) = open(&hub, Some(&ids[left]));
            for channel in &channels {
                space.register(&connection, channel).unwrap();
            }
            let missed = numbers(left as u32 + 1..40);
            prop_assert_eq!(heard(&mut delivery).await, missed);
            Ok(())
        })?;
    }
}
