//! Streams.

use super::*;

#[test]
fn origins() {
    let status = |request: testing::Request, options: Upgrade| {
        let outcome = handle(&Host::new(), request, move |request| {
            request.upgrade_with(options.clone()).map(drop)
        });
        match outcome.is_stream() {
            true => 200,
            false => {
                assert_error!(outcome.result(), Denied, "origin");
                outcome.response().status
            }
        }
    };
    let from = |origin: &str| testing::Request::get("/").header("origin", origin);
    let one = || Upgrade::new().allow_origin("https://a.example");

    assert_eq!(
        status(testing::Request::get("/"), Upgrade::new().own_origin_only()),
        200
    );
    assert_eq!(status(from("https://a.example"), Upgrade::new()), 403);
    assert_eq!(status(from("https://a.example"), one()), 200);
    assert_eq!(status(from("https://b.example"), one()), 403);
    assert_eq!(
        status(from("https://b.example"), one().allow_origin("*")),
        200
    );
    assert_eq!(status(from("http://localhost"), Upgrade::new()), 200);
    let other_form = Upgrade::new().allow_origin("HTTPS://A.example:443");
    assert_eq!(status(from("https://a.example"), other_form), 200);
    let own = from("https://own.example:8443").header("host", "own.example:8443");
    assert_eq!(status(own, one()), 200);
}

#[test]
fn malformed_options_leave_the_request_unanswered() {
    let outcome = get(&Host::new(), |request| {
        for origin in [
            "",
            "example.org",
            "https://",
            "https://a.example/",
            "https://*.example",
            "1https://a.example",
            "https://a.example:0",
            "https://a b",
            "null",
        ] {
            assert_error!(
                request.upgrade_with(Upgrade::new().allow_origin(origin)),
                Invalid
            );
        }
        let short = Duration::from_millis(99);
        assert_error!(
            request.upgrade_with(Upgrade::new().ping_every(short)),
            Invalid,
            "ping"
        );
        let inactive = Upgrade::new().close_after_inactivity(short);
        assert_error!(request.upgrade_with(inactive), Invalid, "inactivity");
        request
            .upgrade_with(Upgrade::new().ping_every(Duration::ZERO))
            .map(drop)
    });
    assert_eq!(outcome.result(), &Ok(()));
    assert_eq!(outcome.stream().ping_interval(), Some(Duration::ZERO));
}

#[test]
fn preflights_are_answered_by_the_host() {
    let preflight = testing::Request::new("OPTIONS", "/")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "GET");
    let outcome = handle(&Host::new(), preflight, |request| {
        request
            .upgrade_with(Upgrade::new().allow_origin("*"))
            .map(drop)
    });
    assert_error!(outcome.result(), Closed, "preflight");
    assert_eq!(outcome.response().status, 204);
    assert_eq!(outcome.problem(), None);

    let no_preflight =
        testing::Request::new("OPTIONS", "/").header("access-control-request-method", "GET");
    let outcome = handle(&Host::new(), no_preflight, |request| {
        request.upgrade().map(drop)
    });
    assert!(outcome.is_stream(), "it is of no page");
}

#[test]
fn sending_and_closing() {
    let outcome = get(&Host::new(), |request| {
        let stream = request.upgrade()?;
        assert!(stream.is_open());
        stream.send("one\r\ntwo\rthree")?;
        stream.send(
            Event::json(&1)?
                .event_type("")
                .retry(Duration::from_secs(3)),
        )?;
        assert_error!(
            stream.send(Event::new("x").id("not plain")),
            Invalid,
            "any_id"
        );
        stream.send(Event::new("x").any_id("not plain"))?;
        stream.close();
        stream.close();
        assert!(!stream.is_open());
        assert_error!(publisher()?.register(&stream, "news"), Closed);
        stream.send("late")
    });
    assert_error!(outcome.result(), Closed);
    let stream = outcome.stream();
    assert_eq!(stream.data(), ["one\ntwo\nthree", "1", "x"]);
    let heard = stream.heard();
    assert_eq!(heard[1].event_type, "message");
    assert_eq!(heard[1].retry, Some(Duration::from_secs(3)));
    assert_eq!(heard[1].json::<u32>(), Ok(1));
    assert_eq!(
        (&heard[1].id, heard[2].id.as_deref()),
        (&None, Some("not plain"))
    );
    assert_eq!(stream.end(), Some(CloseReason::Closed));
}

#[test]
fn last_event_ids() {
    let last = |request: testing::Request| {
        let seen = Rc::new(RefCell::new(None));
        let inside = seen.clone();
        handle(&Host::new(), request, move |request| {
            *inside.borrow_mut() = request.upgrade()?.last_event_id();
            Ok(())
        });
        seen.take()
    };
    let get = testing::Request::get;
    assert_eq!(last(get("/")), None);
    assert_eq!(last(get("/").last_event_id("7")).as_deref(), Some("7"));
    assert_eq!(last(get("/?last-event-id=a%20b")).as_deref(), Some("a b"));
    assert_eq!(
        last(get("/?last-event-id=8").last_event_id("7")).as_deref(),
        Some("7")
    );
    assert_eq!(last(get("/").last_event_id(&"x".repeat(1025))), None);
}

#[test]
fn inactivity_ends_a_stream_and_events_put_it_off() {
    let host = Host::new();
    let outcome = get(&host, |request| {
        let options = Upgrade::new().close_after_inactivity(Duration::from_secs(10));
        let stream = request.upgrade_with(options)?;
        publisher()?.register(&stream, "a")?;
        sleep(Duration::from_secs(9));
        stream.send("still here")
    });
    host.advance(Duration::from_secs(9));
    assert!(outcome.stream().is_open());
    host.advance(Duration::from_secs(1));
    assert_eq!(outcome.stream().end(), Some(CloseReason::Inactive));
}

#[test]
fn clients_hang_up() {
    let host = Host::new();
    let early = testing::Request::get("/").hang_up_after(Duration::from_secs(1));
    let outcome = handle(&host, early, |request| {
        sleep(Duration::from_secs(2));
        request.upgrade().map(drop)
    });
    assert_error!(outcome.result(), Closed, "gone");
    assert_eq!(outcome.stream().end(), Some(CloseReason::ClientGone));
    assert_eq!(host.disconnected::<Test>(), 1);
    GONE.take();

    let stream = join(
        &host,
        testing::Request::get("/").hang_up_after(Duration::from_secs(5)),
        &["b", "a"],
    );
    let other = join(&host, testing::Request::get("/"), &["a"]);
    host.advance(Duration::from_secs(4));
    assert!(stream.is_open());
    host.advance(Duration::from_secs(4));
    assert_eq!(stream.end(), Some(CloseReason::ClientGone));
    assert!(other.is_open());

    assert_eq!(host.disconnected::<Test>(), 1);
    let gone = Disconnection {
        connection_id: stream.id(),
        channels: vec!["a".to_owned(), "b".to_owned()],
        reason: CloseReason::ClientGone,
    };
    assert_eq!(GONE.take(), [gone]);
    assert_eq!(host.disconnected::<Test>(), 0);
    assert!(stream.channels().is_empty());

    other.end_with(CloseReason::Shutdown);
    host.disconnected::<Test>();
    assert_eq!(GONE.take()[0].reason, CloseReason::Shutdown);
}

#[test]
fn a_stream_that_hears_no_channel_ends_with_its_handler() {
    let host = Host::new();
    let outcome = get(&host, |request| {
        let stream = request.upgrade()?;
        sleep(Duration::from_secs(60));
        stream.send("now")
    });
    assert_eq!(outcome.problem(), None);
    assert_eq!(outcome.stream().data(), ["now"]);
    assert_eq!(outcome.stream().end(), Some(CloseReason::Closed));
    assert!(join(&host, testing::Request::get("/"), &["a"]).is_open());
}

#[test]
fn the_end_is_waited_for() {
    let host = Host::new();
    for (within, hang_up, expected, elapsed) in [
        (None, 3, Some(CloseReason::ClientGone), 3),
        (Some(5), 3, Some(CloseReason::ClientGone), 3),
        (Some(2), 3, None, 2),
        (Some(0), 3, None, 0),
    ] {
        let before = host.elapsed();
        let seconds = Duration::from_secs;
        let request = testing::Request::get("/").hang_up_after(seconds(hang_up));
        handle(&host, request, move |request| {
            let stream = request.upgrade()?;
            assert_eq!(stream.closed(within.map(seconds)), expected);
            // What has ended needs no waiting.
            assert_eq!(stream.closed(Some(Duration::ZERO)), expected);
            Ok(())
        });
        assert_eq!(host.elapsed(), before + seconds(elapsed), "{within:?}");
    }
}

#[test]
fn an_end_by_others_is_waited_for() {
    let host = Host::new();
    host.after(Duration::from_secs(1), |host| {
        host.streams()[0].end_with(CloseReason::Shutdown);
    });
    get(&host, |request| {
        let stream = request.upgrade()?;
        assert_eq!(stream.closed(None), Some(CloseReason::Shutdown));
        Ok(())
    });
    assert_eq!(host.elapsed(), Duration::from_secs(1));
}

#[test]
#[should_panic(expected = "waits for ever")]
fn an_end_that_never_comes_fails_the_test() {
    get(&Host::new(), |request| {
        request.upgrade()?.closed(None);
        Ok(())
    });
}

#[test]
fn channels_become_occupied_and_vacated() {
    struct Counts;

    impl fanfare_guest::Occupancy for Counts {
        fn channel_occupied(publisher: Publisher, channel: String) {
            let receipt = publisher.publish(&channel, "welcome").unwrap();
            assert_eq!(receipt.delivered, 1);
        }

        fn channel_vacated(publisher: Publisher, channel: String) {
            assert_eq!(publisher.subscribers(&channel).unwrap(), 0);
            registry::set("vacated", &channel).unwrap();
        }
    }

    let host = Host::new();
    let outcome = handle(&host, testing::Request::get("/"), |request| {
        let publisher = Publisher::in_memory();
        publisher.start()?;
        publisher.register(&request.upgrade()?, "news")
    });
    assert_eq!(host.occupancy::<Counts>(), 1);
    assert_eq!(host.occupancy::<Counts>(), 0);
    let stream = outcome.stream();
    assert_eq!(stream.data(), ["welcome"]);
    stream.hang_up();
    assert_eq!(host.occupancy::<Counts>(), 1);
    let vacated: String = host.run(|| registry::get("vacated").unwrap());
    assert_eq!(vacated, "news");
}
