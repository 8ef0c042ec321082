//! Channels in the order of a broker.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Wake, Waker},
    thread::{self, ThreadId},
};

use super::{
    super::{carried::Placed, older::Older},
    *,
};
use crate::hub::resume::GAP_EVENT;

/// The event of this position, whose data and id are its position, too.
fn placed(position: u64) -> Placed {
    let event = text(&position.to_string());
    Placed {
        position,
        event: event
            .with_id(format!("e-{position}"), IdForm::Plain)
            .unwrap(),
        own_id: false,
        age: Duration::ZERO,
    }
}

#[tokio::test]
async fn what_is_carried_is_heard_from_where_it_begins() {
    let (hub, space) = hub();
    let news = channel("news");
    assert_eq!(space.deliver(&news, &placed(1)), 0);
    space.begin(&news, 10);
    let (connection, mut body) = open(&hub, None);
    space.register_at(&connection, &news, None).unwrap();
    assert_eq!(space.deliver(&news, &placed(11)), 1);
    assert_eq!(heard(&connection, &mut body).await, ["11"]);
    let (back, mut again) = open(&hub, Some("e-10"));
    space.register_at(&back, &news, Some(10)).unwrap();
    assert_eq!(heard(&back, &mut again).await, ["11"]);
    // What is before is not here, and so is what nobody knows the place of.
    for place in [Some(9), None] {
        let (back, mut again) = open(&hub, Some("e-9"));
        space.register_at(&back, &news, place).unwrap();
        assert_eq!(heard(&back, &mut again).await[0], GAP_EVENT);
    }
    space.gap(&news, 12);
    assert_eq!(heard(&connection, &mut body).await, [GAP_EVENT]);
}

#[tokio::test]
async fn older_events_are_put_in_front_where_they_belong() {
    let (hub, space) = hub();
    let news = channel("news");
    space.begin(&news, 10);
    space.deliver(&news, &placed(12));
    // They would leave a hole.
    assert!(!space.prepend(&news, &[placed(3)], 2, 9));
    assert!(space.prepend(&news, &[placed(3), placed(10)], 2, 10));
    assert_eq!(space.reaches_back_to(&news), Some(2));
    for (place, expected) in [
        (2, vec!["3", "10", "12"]),
        (3, vec!["10", "12"]),
        (12, vec![]),
    ] {
        let (connection, mut body) = open(&hub, Some("e-0"));
        space.register_at(&connection, &news, Some(place)).unwrap();
        assert_eq!(heard(&connection, &mut body).await, expected);
    }
    // No more is kept than is allowed.
    let many: Vec<_> = (100..300).map(placed).collect();
    space.begin(&news, 400);
    space.deliver(&news, &placed(401));
    assert!(space.prepend(&news, &many, 99, 400));
    assert_eq!(space.reaches_back_to(&news), Some(200));
}

#[tokio::test]
async fn what_is_not_kept_any_more_goes_before_what_is() {
    let (hub, space) = hub();
    let news = channel("news");
    let events = |positions: RangeInclusive<u64>| positions.map(placed).collect::<Vec<_>>();
    let data = |positions: RangeInclusive<u64>| positions.map(|position| position.to_string());
    space.begin(&news, 0);
    for event in events(1..=150) {
        space.deliver(&news, &event);
    }
    assert_eq!(space.reaches_back_to(&news), Some(50));
    let (connection, mut body) = open(&hub, Some("e-10"));
    let mut older = Older::after(10);
    let register = |connection: &Connection, place, older: &Older| {
        space.register_after(connection, &news, place, older)
    };
    // There would be a hole.
    assert_eq!(register(&connection, 10, &older), Ok(false));
    older.extend(&space, &events(11..=40), 0, 40);
    assert_eq!(register(&connection, 10, &older), Ok(false));
    older.extend(&space, &events(41..=60), 0, 60);
    assert_eq!(register(&connection, 10, &older), Ok(true));
    assert!(
        heard(&connection, &mut body)
            .await
            .into_iter()
            .eq(data(11..=150))
    );
    // They serve others, too.
    assert!(older.covers(20, 60) && !older.covers(9, 60) && !older.covers(20, 61));
    let (connection, mut body) = open(&hub, Some("e-20"));
    assert_eq!(register(&connection, 20, &older), Ok(true));
    assert!(
        heard(&connection, &mut body)
            .await
            .into_iter()
            .eq(data(21..=150))
    );
    // What nobody has any more is a gap.
    let mut older = Older::after(10);
    older.extend(&space, &events(31..=60), 30, 60);
    for (place, told) in [(10, GAP_EVENT), (30, "31")] {
        let (connection, mut body) = open(&hub, Some("e-0"));
        assert_eq!(register(&connection, place, &older), Ok(true));
        assert_eq!(heard(&connection, &mut body).await[0], told);
    }
    // There are no more of them than a channel keeps.
    let mut older = Older::after(0);
    older.extend(&space, &events(1..=130), 0, 130);
    assert!(older.covers(30, 130) && older.covers(29, 130));
    // One that is still to be delivered is heard then.
    space.gap(&news, 300);
    let mut older = Older::after(149);
    older.extend(&space, &events(150..=151), 0, 300);
    let (connection, mut body) = open(&hub, Some("e-149"));
    assert_eq!(register(&connection, 149, &older), Ok(true));
    space.deliver(&news, &placed(151));
    assert_eq!(heard(&connection, &mut body).await, ["150", "151"]);
}

#[tokio::test]
async fn an_id_that_is_known_is_not_delivered_again() {
    let (hub, space) = hub();
    let news = channel("news");
    space.begin(&news, 10);
    let (connection, mut body) = open(&hub, None);
    space.register_at(&connection, &news, None).unwrap();
    let own = |position| Placed {
        position,
        own_id: true,
        ..placed(7)
    };
    assert_eq!(space.deliver(&news, &own(11)), 1);
    assert_eq!(space.deliver(&news, &own(12)), 0);
    assert_eq!(heard(&connection, &mut body).await, ["7"]);
    assert_eq!(space.place(&channel("news"), "e-7"), Some(11));
    assert_eq!(hub.figures().duplicates, 1);
}

#[tokio::test]
async fn what_is_not_listened_to_any_more_leaves_nothing_and_disturbs_no_other_space() {
    let (hub, carried) = hub();
    let own = hub.space();
    let news = channel("news");
    let last = own.publish(&news, &text("0")).id;
    carried.begin(&news, 1 << 60);
    carried.deliver(&news, &placed((1 << 60) + 1));
    own.publish(&news, &text("1"));
    carried.stop(&news);
    hub.expire(Instant::now() + settings().history_age * 2);
    assert_eq!(hub.figures().channels, 0);
    assert_eq!(carried.deliver(&news, &placed((1 << 60) + 2)), 0);
    // Channels of the hub's own order know what they have missed as before.
    own.publish(&channel("other"), &text("2"));
    let (connection, mut body) = open(&hub, Some(&last));
    own.register(&connection, &channel("new")).unwrap();
    let told = heard(&connection, &mut body).await;
    // Its own channel was forgotten with an event after that.
    assert_eq!(told, [GAP_EVENT]);
    let newest = own.publish(&channel("other"), &text("3")).id;
    let (connection, mut body) = open(&hub, Some(&newest));
    own.register(&connection, &channel("newer")).unwrap();
    assert_eq!(heard(&connection, &mut body).await, [""; 0]);
}

#[tokio::test]
async fn members_are_told_of_with_their_channels() {
    let (hub, space) = hub();
    let other = hub.space();
    let membership = space.membership();
    let (a, b) = (channel("a"), channel("b"));
    let (connection, _body) = open(&hub, None);
    other.register(&connection, &a).unwrap();
    space.begin(&a, 1);
    space.register_at(&connection, &a, None).unwrap();
    space.register_at(&connection, &b, None).unwrap();
    let mut changes = membership.changes().await;
    changes.sort_by_key(|change| change.channel.clone());
    assert_eq!(changes, space.members());
    assert_eq!(changes.len(), 2);
    hub.close(&connection, CloseReason::Closed);
    assert_eq!(membership.changes().await.len(), 2);
    assert_eq!(space.members(), []);
}

/// Notes whether it was woken by this thread.
struct WokenBy {
    thread: ThreadId,
    woken: AtomicBool,
}

impl Wake for WokenBy {
    fn wake(self: Arc<Self>) {
        if thread::current().id() == self.thread {
            self.woken.store(true, Ordering::Relaxed);
        }
    }
}

/// Waking another thread takes longer than all the rest.
#[tokio::test]
async fn an_event_for_one_is_delivered_by_the_thread_that_has_it() {
    let (hub, space) = hub();
    let news = channel("news");
    space.begin(&news, 10);
    let (connection, mut body) = open(&hub, None);
    space.register_at(&connection, &news, None).unwrap();
    connection.release();
    let here = Arc::new(WokenBy {
        thread: thread::current().id(),
        woken: AtomicBool::default(),
    });
    let waker = Waker::from(here.clone());
    // The shard may be awake the first times, or was so just now.
    for position in 11.. {
        settle(&hub).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        while Pin::new(&mut body)
            .poll_next(&mut Context::from_waker(&waker))
            .is_ready()
        {}
        space.deliver(&news, &placed(position));
        if here.woken.load(Ordering::Relaxed) {
            break;
        }
    }
}
