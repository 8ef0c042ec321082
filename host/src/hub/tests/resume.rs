//! Clients that come back.

use proptest::prelude::*;

use super::{super::resume::GAP_EVENT, *};

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_once() {
    let (hub, space) = hub();
    let news = channel("news");
    let ids: Vec<_> = (0..10)
        .map(|number| space.publish(&news, &text(&number.to_string())).id)
        .collect();
    let (connection, mut body) = open(&hub, Some(&ids[3]));
    space.register(&connection, &news).unwrap();
    space.publish(&news, &text("10"));
    assert_eq!(heard(&connection, &mut body).await, numbers(4..11));

    let (connection, mut body) = open(&hub, Some(&ids[9]));
    space.register(&connection, &news).unwrap();
    assert_eq!(heard(&connection, &mut body).await, ["10"]);
}

#[tokio::test]
async fn one_id_is_a_place_on_every_channel() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    space.publish(&a, &text("0"));
    space.publish(&b, &text("1"));
    let last = space.publish(&a, &text("2")).id;
    space.publish(&b, &text("3"));
    let (connection, mut body) = open(&hub, Some(&last));
    space.register(&connection, &b).unwrap();
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&connection, &mut body).await, ["3"]);
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
    let (connection, mut body) = open(&hub, Some("7"));
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&connection, &mut body).await, ["9"]);
    space.register(&connection, &b).unwrap();
    assert_eq!(heard(&connection, &mut body).await, ["8"]);
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
        let (connection, mut body) = open(&hub, Some(last));
        space.register(&connection, &news).unwrap();
        let mut expected = numbers(first..150);
        if gap {
            expected.insert(0, GAP_EVENT.into());
        }
        assert_eq!(heard(&connection, &mut body).await, expected);
    }
    // Unknown ids: of another epoch, of nobody, and one that looks like the next.
    let epoch = ids[0].split('-').next().unwrap();
    for last in [
        "0123456789-7".to_owned(),
        "nonsense\u{0}".into(),
        format!("{epoch}-151"),
        format!("{epoch}-+1"),
    ] {
        let (connection, mut body) = open(&hub, Some(&last));
        space.register(&connection, &news).unwrap();
        let (wire, _) = ready(&connection, &mut body).await;
        let data = serde_json::json!({ "channel": "news", "last-event-id": last });
        assert_eq!(wire, format!("event: fanfare-gap\ndata: {data}\n\n"));
    }
}

#[tokio::test]
async fn without_a_history_a_gap_is_told_and_nothing_is_kept() {
    let (hub, _) = Hub::new(
        Settings {
            history_events: 0,
            ..settings()
        },
        engine(),
    );
    let space = hub.space();
    let news = channel("news");
    let first = space.publish(&news, &text("0")).id;
    space.publish(&news, &text("1"));
    assert!(hub.shared.state.lock().channels.len() == 0);
    let (connection, mut body) = open(&hub, Some(&first));
    space.register(&connection, &news).unwrap();
    assert_eq!(heard(&connection, &mut body).await, [GAP_EVENT]);
}

#[tokio::test]
async fn what_was_missed_on_several_channels_is_merged() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    let first = space.publish(&a, &text("0")).id;
    space.publish(&a, &text("1"));
    space.publish(&b, &text("2"));
    space.publish(&a, &text("3"));
    let (connection, mut body) = open(&hub, Some(&first));
    space.register(&connection, &a).unwrap();
    space.publish(&a, &text("4"));
    space.register(&connection, &b).unwrap();
    space.publish(&b, &text("5"));
    assert_eq!(heard(&connection, &mut body).await, numbers(1..6));
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
    let (connection, mut body) = open(&hub, Some(&first));
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&connection, &mut body).await, ["2"]);
    space.register(&connection, &b).unwrap();
    let (wire, _) = ready(&connection, &mut body).await;
    assert!(wire.contains("data: 1\n"), "{wire}");
    assert_eq!(last_event_id(&wire), Some(newest.as_str()), "{wire}");
}

#[tokio::test]
async fn who_leaves_and_joins_again_does_not_hear_it_all_again() {
    let (hub, space) = hub();
    let (a, b) = (channel("a"), channel("b"));
    let first = space.publish(&a, &text("0")).id;
    space.publish(&a, &text("1"));
    let (connection, mut body) = open(&hub, Some(&first));
    space.register(&connection, &a).unwrap();
    space.register(&connection, &b).unwrap();
    assert_eq!(heard(&connection, &mut body).await, ["1"]);
    space.remove(&connection.id().to_string(), &a).unwrap();
    space.register(&connection, &a).unwrap();
    assert_eq!(heard(&connection, &mut body).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_id_that_was_on_two_channels_is_no_place_on_a_third() {
    let (hub, space) = hub();
    let own = |id: &str| text(id).with_id(id.into(), IdForm::Plain).unwrap();
    space.publish(&channel("a"), &own("7"));
    space.publish(&channel("b"), &own("7"));
    space.publish(&channel("c"), &own("8"));
    let (connection, mut body) = open(&hub, Some("7"));
    space.register(&connection, &channel("c")).unwrap();
    assert_eq!(heard(&connection, &mut body).await, [GAP_EVENT]);
}

#[tokio::test]
async fn an_id_that_the_hub_gave_and_a_guest_used_again_is_no_place_on_a_third() {
    let (hub, space) = hub();
    let given = space.publish(&channel("a"), &text("0")).id;
    space.publish(&channel("c"), &text("1"));
    let again = text("2").with_id(given.clone(), IdForm::Plain).unwrap();
    assert!(!space.publish(&channel("b"), &again).duplicate);
    // Whoever heard it on the first channel has not heard the third.
    let (connection, mut body) = open(&hub, Some(&given));
    space.register(&connection, &channel("c")).unwrap();
    assert_eq!(heard(&connection, &mut body).await, [GAP_EVENT]);
}

#[tokio::test]
async fn what_a_handler_sends_first_comes_after_what_was_missed() {
    let (hub, space) = hub();
    let news = channel("news");
    let first = space.publish(&news, &text("0")).id;
    space.publish(&news, &text("1"));
    space.publish(&news, &text("2"));
    let (connection, mut body) = open(&hub, Some(&first));
    hub.send(&connection, &text("hello")).unwrap();
    space.register(&connection, &news).unwrap();
    space.publish(&news, &text("3"));
    assert_eq!(
        heard(&connection, &mut body).await,
        ["1", "2", "hello", "3"]
    );
}

proptest! {
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
            let (connection, mut body) = open(&hub, Some(&ids[left]));
            for channel in &channels {
                space.register(&connection, channel).unwrap();
            }
            let missed = numbers(left as u32 + 1..40);
            prop_assert_eq!(heard(&connection, &mut body).await, missed);
            Ok(())
        })?;
    }
}
