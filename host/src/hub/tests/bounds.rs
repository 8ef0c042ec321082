//! What is bounded, and what happens at the bound.

use super::{super::resume::GAP_EVENT, *};

#[tokio::test]
async fn forgets_by_age_and_says_so() {
    let (hub, space) = hub();
    let (news, quiet) = (channel("news"), channel("quiet"));
    let begun = Instant::now();
    let first = space.publish(&news, &text("0")).id;
    space.publish(&news, &text("1"));
    space.publish(&quiet, &text("2"));
    hub.expire(begun + Duration::from_secs(59));
    assert_eq!(space.history(&news, 10).len(), 2);
    hub.expire(Instant::now() + Duration::from_secs(61));
    assert_eq!(space.history(&news, 10), []);
    {
        let state = hub.shared.state.lock();
        assert!((state.channels.len() == 0) && state.expiries.is_empty());
    }
    let (connection, mut body) = open(&hub, Some(&first));
    space.register(&connection, &news).unwrap();
    assert_eq!(heard(&connection, &mut body).await, [GAP_EVENT]);
}

#[tokio::test]
async fn an_id_is_delivered_once_while_it_is_remembered() {
    let (hub, space) = hub();
    let (connection, mut body) = open(&hub, None);
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
    assert_eq!(heard(&connection, &mut body).await, ["x"]);
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
    let (hub, mut ended) = Hub::new(settings(), engine());
    let space = hub.space();
    let news = channel("news");
    let abort = CancellationToken::new();
    let (slow, stuck) = hub.open(OpenOptions::default()).unwrap();
    let mut stuck = stuck.into_body(abort.clone());
    let (connection, mut body) = open(&hub, None);
    space.register(&slow, &news).unwrap();
    space.register(&connection, &news).unwrap();
    let data = "x".repeat(10_000);
    for _ in 0..7 {
        space.publish(&news, &text(&data));
        assert_eq!(
            heard(&connection, &mut body).await,
            std::slice::from_ref(&data)
        );
    }
    assert!(!slow.is_open());
    assert!(abort.is_cancelled());
    assert_eq!(ready(&slow, &mut stuck).await, (String::new(), true));
    assert_eq!(ended.recv().await.unwrap().reason, CloseReason::Slow);
    assert_eq!(space.subscribers(&news), 1);
}

#[tokio::test]
async fn an_event_larger_than_the_queue_still_goes_through() {
    let (hub, space) = hub();
    let (connection, mut body) = open(&hub, None);
    space.register(&connection, &channel("a")).unwrap();
    let data = "x".repeat(500_000);
    assert_eq!(space.publish(&channel("a"), &text(&data)).delivered, 1);
    assert_eq!(heard(&connection, &mut body).await, [data]);
}

#[tokio::test]
async fn catching_up_is_not_slow() {
    let (hub, _) = Hub::new(
        Settings {
            queue_bytes: 1000,
            ..settings()
        },
        engine(),
    );
    let space = hub.space();
    let news = channel("news");
    let first = space.publish(&news, &text("0")).id;
    for number in 1..50 {
        space.publish(&news, &text(&number.to_string()));
    }
    let (connection, mut body) = open(&hub, Some(&first));
    space.register(&connection, &news).unwrap();
    space.publish(&news, &text("50"));
    assert_eq!(heard(&connection, &mut body).await, numbers(1..51));
}

#[tokio::test]
async fn histories_are_bounded_together_and_the_oldest_events_go() {
    let (hub, _) = Hub::new(
        Settings {
            history_total_bytes: 100_000,
            ..settings()
        },
        engine(),
    );
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
    let (connection, mut body) = open(&hub, Some(&id));
    space.register(&connection, &channel("channel 1")).unwrap();
    assert_eq!(heard(&connection, &mut body).await, [GAP_EVENT]);
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
    assert!(state.expiries.is_empty() && (state.channels.len() == 0));
    assert_eq!(state.history_cost, 0);
}

#[tokio::test]
async fn a_connection_counts_until_its_socket_is_gone_and_its_end_is_told() {
    let (hub, mut ended) = Hub::new(
        Settings {
            connections: 1,
            ..settings()
        },
        engine(),
    );
    let full = || hub.open(OpenOptions::default()).map(|_| ()).is_err();
    let (connection, body) = open(&hub, None);
    hub.close(&connection, CloseReason::Closed);
    assert!(full());
    drop(body);
    settle(&hub).await;
    assert!(full());
    ended.recv().await.unwrap();
    assert!(!full());
}
