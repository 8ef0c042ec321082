//! Publishers, channels and histories.

use super::*;

#[test]
fn nothing_goes_before_start() {
    let outcome = get(&Host::new(), |request| {
        let stream = request.upgrade()?;
        let publisher = Publisher::in_memory();
        assert_error!(publisher.register(&stream, "a"), NotStarted);
        assert_error!(publisher.publish("a", "x"), NotStarted);
        assert_error!(publisher.remove(&stream.id(), "a"), NotStarted);
        assert_error!(publisher.subscribers("a"), NotStarted);
        assert_error!(publisher.presence("a"), NotStarted);
        assert_error!(publisher.history("a", 1), NotStarted);
        publisher.start()?;
        publisher.start()?;
        Publisher::in_memory().register(&stream, "a")
    });
    assert_eq!(outcome.result(), &Ok(()));
    assert_eq!(outcome.stream().channels(), ["a"]);
}

#[test]
fn each_publisher_has_channels_of_its_own() {
    let host = Host::new();
    host.grant_broker("fast").grant_redis("r:6379");
    let outcome = get(&host, |request| {
        let stream = request.upgrade()?;
        assert_error!(Publisher::open("slow"), Denied, "slow");
        let redis = Redis::connect("redis://r")?;
        assert_error!(Publisher::redis(&redis, ""), Invalid, "sync channel");
        let all = [
            publisher()?,
            Publisher::open("fast")?,
            Publisher::redis(&redis, "a")?,
            Publisher::redis(&redis, "b")?,
        ];
        for (index, publisher) in all.iter().enumerate() {
            publisher.start()?;
            publisher.register(&stream, "news")?;
            assert_eq!(publisher.publish("news", index.to_string())?.delivered, 1);
            assert_eq!(publisher.history("news", 9)?.len(), 1);
        }
        assert_eq!(stream.channels(), ["news"; 4]);
        for publisher in &all {
            assert!(stream.is_open());
            publisher.remove(&stream.id(), "news")?;
        }
        Ok(())
    });
    assert_eq!(outcome.result(), &Ok(()));
    assert_eq!(outcome.stream().data(), ["0", "1", "2", "3"]);
    assert_eq!(outcome.stream().end(), Some(CloseReason::Closed));
}

#[test]
fn events_go_to_who_hears_the_channel() {
    let host = Host::new();
    let a = join(&host, testing::Request::get("/"), &["a"]);
    let both = join(&host, testing::Request::get("/"), &["a", "b", "a"]);
    host.run(|| {
        let publisher = publisher()?;
        assert_eq!(publisher.publish("a", "1")?.delivered, 2);
        assert_eq!(publisher.publish("b", "2")?.delivered, 1);
        assert_eq!(publisher.publish("c", "3")?.delivered, 0);
        assert_eq!(publisher.subscribers("a")?, 2);
        assert_eq!(publisher.presence("a")?, [a.id(), both.id()]);
        assert!(publisher.presence("c")?.is_empty());

        publisher.remove(&both.id(), "a")?;
        assert_error!(publisher.remove(&both.id(), "a"), NotFound, "\"a\"");
        assert_eq!(both.channels(), ["b"]);
        publisher.remove(&a.id(), "a")?;
        assert_error!(publisher.remove(&a.id(), "a"), NotFound);
        assert_error!(publisher.remove("nobody", "a"), NotFound, "nobody");
        Ok::<(), Error>(())
    })
    .unwrap();
    assert_eq!(
        (a.data(), both.data()),
        (vec!["1".into()], vec!["1".into(), "2".into()])
    );
    assert!(both.is_open() && !a.is_open());
    let published: Vec<_> = host
        .published()
        .into_iter()
        .map(|one| one.channel)
        .collect();
    assert_eq!(published, ["a", "b", "c"]);
}

#[test]
fn messages_are_checked() {
    Host::new().run(|| {
        let publisher = publisher().unwrap();
        let publish = |message: Message| publisher.publish("a", message);
        assert_error!(publish(Message::default()), Invalid, "neither");
        let id = |id: &str| publish(Event::new("x").id(id).into());
        assert!(id("AZaz09._-").is_ok());
        for bad in ["", "a b", "ü", "a\n", &"x".repeat(129)] {
            assert_error!(id(bad), Invalid, "any_id");
        }
        let any_id = |id: &str| publish(Event::new("x").any_id(id).into());
        assert!(any_id("a b ü").is_ok());
        for bad in ["", "a\nb", "a\rb", "a\0b", &"x".repeat(1025)] {
            assert_error!(any_id(bad), Invalid);
        }
        for bad in ["a\nb", "a\rb", "a\0b", &"x".repeat(1025)] {
            assert_error!(
                publish(Event::new("x").event_type(bad).into()),
                Invalid,
                "event type"
            );
        }
        let json = |json: &str| publish(Payload::Json(json.to_owned()).into());
        assert!(json(" {\"a\": [1]} ").is_ok());
        assert_error!(json("{\"a\":\n oops}"), Invalid, "line 2", "column");
        let size = 1024 * 1024;
        assert!(publish("x".repeat(size).into()).is_ok());
        assert_error!(publish("x".repeat(size + 1).into()), Limited, "event-data");
        for bad in ["", "a\tb", &"x".repeat(256)] {
            assert_error!(publisher.publish(bad, "x"), Invalid, "channel");
        }
    });
}

#[test]
fn an_event_goes_before_fields() {
    Host::new().run(|| {
        let publisher = publisher().unwrap();
        let both = Message {
            event: Some(Event::new("event").id("e")),
            id: Some(EventId::Plain("f".to_owned())),
            data: Some("field".into()),
            ..Message::default()
        };
        assert_eq!(publisher.publish("a", both).unwrap().id, "e");
        let fields = Message {
            id: Some(EventId::Any("f g".to_owned())),
            event_type: Some("t".to_owned()),
            data: Some("field".into()),
            ..Message::default()
        };
        assert_eq!(publisher.publish("a", fields).unwrap().id, "f g");
        let history = publisher.history("a", 9).unwrap();
        assert_eq!(history[0], Event::new("event").id("e"));
        assert_eq!(
            history[1],
            Event::new("field").any_id("f g").event_type("t")
        );
    });
}

#[test]
fn what_was_missed_comes_once_and_first() {
    let host = Host::new();
    let publish = |data: &'static str| {
        host.run(|| {
            publisher()
                .unwrap()
                .publish("a", Event::new(data).id(data))
                .unwrap()
        })
    };
    for id in ["1", "2", "3"] {
        assert!(!publish(id).duplicate);
    }
    let again = publish("2");
    assert_eq!(
        (again.id.as_str(), again.delivered, again.duplicate),
        ("2", 0, true)
    );

    let since = |id: &str| join(&host, testing::Request::get("/").last_event_id(id), &["a"]).data();
    assert!(
        join(&host, testing::Request::get("/"), &["a"])
            .data()
            .is_empty()
    );
    assert_eq!(since("1"), ["2", "3"]);
    assert!(since("3").is_empty());

    host.limit_history(2);
    publish("4");
    assert_eq!(since("3"), ["4"]);
    let history = host.run(|| publisher().unwrap().history("a", 1).unwrap());
    assert_eq!(history, [Event::new("4").id("4")]);
}

/// What somebody hears of a channel who comes back with this id: data, or `gap`.
fn since(host: &Host, id: &str, channel: &'static str) -> Vec<String> {
    let stream = join(
        host,
        testing::Request::get("/").last_event_id(id),
        &[channel],
    );
    let heard = stream.heard().into_iter();
    heard
        .map(|event| match event.event_type.as_str() {
            "fanfare-gap" => {
                assert_eq!(event.id, None);
                assert_eq!(
                    event.data,
                    format!(r#"{{"channel":"{channel}","last-event-id":"{id}"}}"#)
                );
                "gap".to_owned()
            }
            _ => event.data,
        })
        .collect()
}

fn publish(host: &Host, channel: &str, event: impl Into<Message>) -> String {
    let publish = || publisher()?.publish(channel, event);
    host.run(publish).unwrap().id
}

#[test]
fn a_gap_is_told_and_an_unknown_id_brings_nothing() {
    let host = Host::new();
    host.limit_history(2);
    let given: Vec<_> = ["0", "1", "2", "3"]
        .iter()
        .map(|data| publish(&host, "a", *data))
        .collect();
    // An id that the host gave is known, however old its event is.
    assert_eq!(since(&host, &given[0], "a"), ["gap", "2", "3"]);
    assert_eq!(since(&host, &given[1], "a"), ["2", "3"]);
    assert!(since(&host, &given[3], "a").is_empty());
    assert_eq!(since(&host, "before-the-start", "a"), ["gap"]);
    assert_eq!(since(&host, "before-the-start", "quiet"), ["gap"]);

    // One of a guest is known as long as the event is.
    publish(&host, "b", Event::new("4").id("mine"));
    assert!(since(&host, "mine", "b").is_empty());
    publish(&host, "b", "5");
    publish(&host, "b", "6");
    assert_eq!(since(&host, "mine", "b"), ["gap"]);
}

#[test]
fn an_id_is_a_place_on_all_channels() {
    let host = Host::new();
    publish(&host, "a", "0");
    let given = publish(&host, "b", "1");
    publish(&host, "a", "2");
    publish(&host, "b", Event::new("3").id("mine"));
    publish(&host, "a", "4");
    assert_eq!(since(&host, &given, "a"), ["2", "4"]);
    assert_eq!(since(&host, "mine", "a"), ["4"]);
    assert!(since(&host, &given, "quiet").is_empty());

    let both = testing::Request::get("/").last_event_id(&given);
    assert_eq!(join(&host, both, &["b", "a"]).data(), ["2", "3", "4"]);

    // One id on two channels, and ids of the guest are places on their own channels only.
    publish(&host, "a", Event::new("5").id("mine"));
    publish(&host, "b", "6");
    publish(&host, "b", Event::new("7").id("other"));
    assert_eq!(since(&host, "mine", "b"), ["6", "7"]);
    assert_eq!(since(&host, "other", "a"), ["gap"]);
    assert_eq!(since(&host, &given, "a"), ["2", "4", "5"]);
}

#[test]
fn what_was_missed_is_not_told_again() {
    let host = Host::new();
    let given = publish(&host, "a", "0");
    publish(&host, "a", "1");
    let request = testing::Request::get("/").last_event_id(&given);
    let stream = join(&host, request, &["a", "b"]);
    host.run(|| publisher()?.remove(&stream.id(), "a")).unwrap();
    let again = || publisher()?.publish("a", "2");
    host.run(again).unwrap();
    assert_eq!(stream.data(), ["1"]);
}

#[test]
fn histories_are_bounded_in_number_bytes_and_age() {
    let host = Host::new();
    let history = |channel: &str| {
        let newest = || publisher()?.history(channel, u32::MAX);
        host.run(newest).unwrap().len()
    };
    for _ in 0..101 {
        publish(&host, "many", "x");
    }
    assert_eq!(history("many"), 100);
    for _ in 0..3 {
        publish(&host, "large", "x".repeat(100_000));
    }
    assert_eq!(history("large"), 2);
    publish(&host, "larger", "x".repeat(300_000));
    assert_eq!(history("larger"), 0);

    host.advance(Duration::from_secs(119));
    let same = Event::new("x").id("same");
    publish(&host, "many", &same);
    assert_eq!(history("many"), 100);
    host.advance(Duration::from_secs(1));
    assert_eq!((history("many"), history("large")), (1, 0));
    let again = || publisher()?.publish("many", &same);
    assert!(host.run(again).unwrap().duplicate);
    host.advance(Duration::from_secs(119));
    assert!(!host.run(again).unwrap().duplicate);
}

#[test]
fn a_history_tells_events_as_they_travelled() {
    let host = Host::new();
    let event = Event::new("a\r\nb\rc")
        .any_id("plain")
        .retry(Duration::from_micros(1500));
    publish(&host, "a", event);
    let history = host.run(|| publisher().unwrap().history("a", 9).unwrap());
    let travelled = Event::new("a\nb\nc")
        .id("plain")
        .retry(Duration::from_millis(2));
    assert_eq!(history, [travelled]);
}

#[test]
fn limits_name_themselves() {
    let outcome = get(&Host::new(), |request| {
        let stream = request.upgrade()?;
        let publisher = publisher()?;
        for index in 0..100 {
            publisher.register(&stream, &index.to_string())?;
        }
        publisher.register(&stream, "99")?;
        assert_error!(
            publisher.register(&stream, "100"),
            Limited,
            "`channels-per-connection` of 100"
        );
        let large = "x".repeat(16 * 1024 * 1024);
        assert_error!(registry::set("a", &large), Limited, "`registry-bytes`");
        registry::set("a", "small")
    });
    assert_eq!(outcome.result(), &Ok(()));
}

#[test]
fn whoever_is_removed_from_the_last_channel_is_told_of_with_it() {
    let host = Host::new();
    let stream = join(&host, testing::Request::get("/"), &["a", "b"]);
    for channel in ["a", "b"] {
        host.run(|| publisher()?.remove(&stream.id(), channel))
            .unwrap();
    }
    host.disconnected::<Test>();
    let gone = GONE.take();
    assert_eq!(gone[0].channels, ["b"]);
    assert_eq!(gone[0].reason, CloseReason::Closed);
}

#[test]
fn a_broker_that_is_away() {
    let host = Host::new();
    host.grant_redis("r:6379");
    host.run(|| {
        let redis = Redis::connect("redis://r").unwrap();
        let publisher = Publisher::redis(&redis, "sync").unwrap();
        host.set_redis_reachable("r:6379", false);
        assert_error!(publisher.start(), Unavailable, "r:6379");
        assert_error!(redis.get("k"), Unavailable);
        assert_error!(Redis::connect("redis://r"), Unavailable);
        host.set_redis_reachable("r:6379", true);
        publisher.start().unwrap();
        host.set_redis_reachable("r:6379", false);
        publisher.start().unwrap();
        assert_error!(publisher.publish("a", "x"), Unavailable);
    });
    assert!(host.published().is_empty());
}
