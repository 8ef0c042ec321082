//! The host of `testing` answers as the contract says, through the same functions that guests call.

use std::{cell::RefCell, rc::Rc, time::Duration};

use fanfare_guest::{
    App, CloseReason, Connection, Disconnected, Disconnection, Error, Event, EventId, Message,
    Payload, Publisher, Redis, Request, Response, Result, Upgrade, config,
    redis::Value,
    registry, sleep,
    testing::{self, Host, Outcome},
};

/// What a test wants to do with a request; an app is a type, and tests differ in code.
type Handler = Box<dyn Fn(&Request) -> Result<()>>;

thread_local! {
    static HANDLER: RefCell<Option<Rc<Handler>>> = const { RefCell::new(None) };
    static GONE: RefCell<Vec<Disconnection>> = const { RefCell::new(Vec::new()) };
}

struct Test;

impl App for Test {
    fn handle(request: Request) -> Result<()> {
        let handler = HANDLER
            .with_borrow(Clone::clone)
            .expect("a test should set its handler");
        handler(&request)
    }
}

impl Disconnected for Test {
    fn disconnected(gone: Disconnection) {
        GONE.with_borrow_mut(|all| all.push(gone));
    }
}

fn handle(
    host: &Host,
    request: testing::Request,
    handler: impl Fn(&Request) -> Result<()> + 'static,
) -> Outcome {
    HANDLER.set(Some(Rc::new(Box::new(handler))));
    host.handle::<Test>(request)
}

fn get(host: &Host, handler: impl Fn(&Request) -> Result<()> + 'static) -> Outcome {
    handle(host, testing::Request::get("/"), handler)
}

fn publisher() -> Result<Publisher> {
    let publisher = Publisher::in_memory();
    publisher.start()?;
    Ok(publisher)
}

/// A stream that hears the channels.
fn join(host: &Host, request: testing::Request, channels: &[&'static str]) -> testing::Stream {
    let channels = channels.to_vec();
    let outcome = handle(host, request, move |request| {
        let stream = request.upgrade()?;
        channels
            .iter()
            .try_for_each(|channel| publisher()?.register(&stream, channel))
    });
    assert_eq!(outcome.result(), &Ok(()));
    outcome.into_stream()
}

macro_rules! assert_error {
    ($result:expr, $case:ident $(, $word:expr)*) => {{
        let result = $result;
        match &result {
            Err(Error::$case(message)) => {
                $(assert!(message.contains($word), "{message:?} lacks {:?}", $word);)*
                let _ = message;
            }
            _ => panic!("should be {}: {result:?}", stringify!($case)),
        }
    }};
}

mod requests {
    use super::*;

    #[test]
    fn parts_arrive_as_they_were_sent() {
        let request = testing::Request::new("put", "/a%2Fb/caf%C3%A9/?x=1+1&y=%26&x=2")
            .route("/app/")
            .header("X-Thing", "first")
            .header("x-thing", "second")
            .header("x-bytes", [0xff])
            .client_address("192.0.2.7")
            .json(&["a"]);
        let outcome = handle(&Host::new(), request, |request| {
            assert_eq!(request.method(), "PUT");
            assert_eq!(request.path(), "/a%2Fb/caf%C3%A9/");
            assert_eq!(request.path_segments(), ["a/b", "café", ""]);
            assert_eq!(request.route(), "/app");
            assert_eq!(request.raw_query().as_deref(), Some("x=1+1&y=%26&x=2"));
            assert_eq!(request.query_value("x").as_deref(), Some("1 1"));
            assert_eq!(request.query_value("y").as_deref(), Some("&"));
            assert_eq!(request.query_value("z"), None);
            assert_eq!(request.query().all("x").count(), 2);
            assert_eq!(request.header("X-THING").as_deref(), Some("first"));
            assert_eq!(request.header("x-bytes"), None);
            assert_eq!(
                request
                    .headers()
                    .iter()
                    .filter(|(name, _)| name == "x-thing")
                    .count(),
                2
            );
            assert_eq!(request.client_address(), "192.0.2.7");
            assert_eq!(request.json::<Vec<String>>()?, ["a"]);
            assert_error!(request.json::<u32>(), Invalid, "body");
            assert_error!(request.form(), Invalid, "application/json");
            assert!(!request.id().is_empty());
            request.respond(Response::new(204))
        });
        assert_eq!(outcome.result(), &Ok(()));
    }

    #[test]
    fn forms() {
        let request = testing::Request::post("/").form(&[("a b", "1 + 1 & %"), ("ü", "")]);
        let outcome = handle(&Host::new(), request, |request| {
            let form = request.form()?;
            assert_eq!(
                form.iter().collect::<Vec<_>>(),
                [("a b", "1 + 1 & %"), ("ü", "")]
            );
            assert_error!(request.json::<u32>(), Invalid);
            request.respond(Response::redirect("/done"))
        });
        assert_eq!(outcome.response().status, 303);
        assert_eq!(outcome.response().header_value("Location"), Some("/done"));
    }

    #[test]
    fn cookies_and_texts() {
        let request = testing::Request::post("/")
            .header("cookie", "a=1; session=x=y ;b=")
            .header("cookie", "late=2; a=3")
            .body("grüße");
        let outcome = handle(&Host::new(), request, |request| {
            let cookie = |name| request.cookie(name);
            assert_eq!(cookie("a").as_deref(), Some("1"));
            assert_eq!(cookie("session").as_deref(), Some("x=y"));
            assert_eq!(cookie("b").as_deref(), Some(""));
            assert_eq!(cookie("late").as_deref(), Some("2"));
            assert_eq!((cookie("A"), cookie("")), (None, None));
            request.respond(Response::text(request.text()?))
        });
        assert_eq!(outcome.response().body_text(), "grüße");

        let bytes = testing::Request::post("/").body([0xff]);
        let outcome = handle(&Host::new(), bytes, |request| request.text().map(drop));
        assert_error!(outcome.result(), Invalid, "UTF-8");
    }

    #[test]
    fn content_types_are_compared_without_parameters() {
        for (content_type, is_json) in [
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/plain", false),
            ("application/jsonp", false),
        ] {
            let request = testing::Request::post("/")
                .header("content-type", content_type)
                .body("1");
            handle(&Host::new(), request, move |request| {
                assert_eq!(request.json::<u32>().is_ok(), is_json, "{content_type}");
                request.respond(Response::new(204))
            });
        }
    }

    #[test]
    fn a_request_is_answered_once() {
        let host = Host::new();
        let answered = get(&host, |request| {
            request.respond(Response::text("first"))?;
            assert_error!(request.upgrade(), Invalid, "answered");
            request.respond(Response::text("second"))
        });
        assert_error!(answered.result(), Invalid, "answered");
        assert_eq!(answered.response().body_text(), "first");

        let upgraded = get(&host, |request| {
            request.upgrade()?;
            assert_error!(
                request.respond(Response::text("second")),
                Invalid,
                "upgraded"
            );
            request.upgrade().map(drop)
        });
        assert_error!(upgraded.result(), Invalid, "upgraded");
        assert!(upgraded.problem().is_some());
    }

    #[test]
    fn without_an_answer_it_is_a_500() {
        let host = Host::new();
        let forgotten = get(&host, |_| Ok(()));
        assert_eq!(
            (forgotten.result(), forgotten.response().status),
            (&Ok(()), 500)
        );
        let failed = get(&host, |_| Err("no tea left".into()));
        assert_eq!(failed.response().status, 500);
        assert!(failed.response().body_text().contains("no tea left"));
        assert!(failed.problem().unwrap().contains("no tea left"));
    }

    #[test]
    fn an_error_after_the_answer_is_logged_unless_the_client_left() {
        let host = Host::new();
        let outcome = get(&host, |request| {
            let stream = request.upgrade()?;
            publisher()?.register(&stream, "a")?;
            Err("no tea left".into())
        });
        assert!(outcome.problem().unwrap().contains("no tea left"));
        let heard = outcome.stream().heard();
        assert_eq!(heard[0].event_type, "fanfare-error");
        assert!(heard[0].data.contains("no tea left"));
        assert!(outcome.stream().is_open());

        let left = testing::Request::get("/").hang_up_after(Duration::from_secs(1));
        let left = handle(&host, left, |request| {
            let stream = request.upgrade()?;
            sleep(Duration::from_secs(1));
            stream.send("late")
        });
        assert_error!(left.result(), Closed);
        assert_eq!(left.problem(), None);
        assert!(left.stream().heard().is_empty());
    }

    #[test]
    fn a_wrong_response_may_be_followed_by_a_right_one() {
        let outcome = get(&Host::new(), |request| {
            let wrong = [
                Response::new(199),
                Response::new(600),
                Response::new(200).header("", "x"),
                Response::new(200).header("a b", "x"),
                Response::new(200).header("x", "a\r\nb: c"),
                Response::new(200).header("Content-Length", "7"),
            ];
            for response in wrong {
                assert_error!(request.respond(response), Invalid);
            }
            let large = Response::new(200).body(vec![0; 8 * 1024 * 1024 + 1]);
            assert_error!(request.respond(large), Limited, "response-body");
            request.respond(Response::new(599))
        });
        assert_eq!(outcome.response().status, 599);
    }
}

mod connections {
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
}

mod publishers {
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

        let since =
            |id: &str| join(&host, testing::Request::get("/").last_event_id(id), &["a"]).data();
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
}

mod values {
    use super::*;

    #[test]
    fn the_registry_outlives_a_call_and_keeps_kinds_apart() {
        let host = Host::new();
        host.grant_redis("r:6379");
        host.run(|| {
            registry::set("publisher", &Publisher::in_memory())?;
            registry::set("redis", &Redis::connect("redis://r/3")?)?;
            registry::set("text", "t")?;
            registry::set("bytes", &[1u8, 2][..])
        })
        .unwrap();
        host.run(|| {
            assert_eq!(registry::keys(), ["bytes", "publisher", "redis", "text"]);
            registry::get::<Publisher>("publisher")?.start()?;
            Publisher::in_memory().publish("a", "x")?;
            assert_eq!(registry::get::<Redis>("redis")?.address(), "r:6379");
            assert_eq!(registry::get::<String>("text")?, "t");
            assert_eq!(registry::get::<Vec<u8>>("bytes")?, [1, 2]);
            assert_eq!(registry::kind("redis"), Some(registry::Kind::Redis));
            assert_eq!(registry::kind("none"), None);

            assert_error!(
                registry::get::<Publisher>("redis"),
                WrongType,
                "publisher",
                "Redis client"
            );
            assert_error!(
                registry::get::<Redis>("text"),
                WrongType,
                "Redis client",
                "text"
            );
            assert_error!(registry::get::<String>("bytes"), WrongType, "text", "bytes");
            assert_error!(registry::get::<Vec<u8>>("none"), NotFound, "none");
            for bad in ["", "a\nb", &"x".repeat(256)] {
                assert_error!(registry::set(bad, "x"), Invalid);
            }

            registry::set("publisher", &"now a text".to_owned())?;
            assert_eq!(registry::kind("publisher"), Some(registry::Kind::Text));
            assert!(registry::remove("publisher") && !registry::remove("publisher"));
            assert!(!registry::has("publisher"));
            Ok::<(), Error>(())
        })
        .unwrap();
        assert!(
            Host::new().run(registry::keys).is_empty(),
            "each host is a node of its own"
        );
    }

    #[test]
    fn variables() {
        let host = Host::new();
        host.set_config("b", " 7 ").set_config("a", "x, ,y");
        host.run(|| {
            assert_error!(config::require("c"), NotFound, "`c`");
            assert_eq!(config::parse("b")?, Some(7u8));
            assert_error!(config::parse::<u8>("a"), Invalid, "`a`");
            assert_eq!(config::list("a")?, ["x", "y"]);
            assert_eq!(config::all()?[0].0, "a");
            Ok::<(), Error>(())
        })
        .unwrap();
    }

    #[test]
    fn redis_in_memory() {
        let host = Host::new();
        host.grant_redis("r:6379");
        host.run(|| {
            assert_error!(Redis::connect("redis://other"), Denied, "other:6379");
            assert_error!(Redis::connect("http://r"), Invalid);
            let redis = Redis::connect("redis://user:secret@r")?;
            assert!(!format!("{redis:?}").contains("secret"));

            assert_eq!(redis.get("k")?, None);
            redis.set("k", [0xff])?;
            assert_eq!(redis.get("k")?, Some(vec![0xff]));
            assert_error!(redis.get_text("k"), WrongType, "UTF-8");
            assert_error!(redis.incr("k", 1), Other, "not an integer");
            assert_eq!((redis.incr("n", 5)?, redis.incr("n", -7)?), (5, -2));
            redis.set("n", i64::MAX.to_string())?;
            assert_error!(redis.incr("n", 1), Other, "overflow");

            assert_eq!(redis.sadd("s", &["a", "b", "a"])?, 2);
            assert_eq!(redis.smembers("s")?, [b"a", b"b"]);
            assert_error!(redis.get("s"), Other, "WRONGTYPE");
            assert_error!(redis.sadd("k", &["a"]), Other, "WRONGTYPE");
            assert_eq!(redis.srem("s", &["a", "b", "c"])?, 2);
            assert!(!redis.exists("s")?);
            assert_eq!(redis.sadd("s", &[""; 0])?, 0);
            assert!(!redis.exists("s")?);
            assert_eq!(redis.del(&["k", "none"])?, 1);

            redis.set_for("brief", "x", Duration::from_millis(1))?;
            redis.set("longer", "x")?;
            assert!(redis.expire("longer", Duration::from_secs(2))?);
            assert!(!redis.expire("none", Duration::from_secs(2))?);
            assert_error!(redis.set_for("zero", "x", Duration::ZERO), Invalid);
            sleep(Duration::from_secs(1));
            assert!(!redis.exists("brief")? && redis.exists("longer")?);
            sleep(Duration::from_secs(1));
            assert!(!redis.exists("longer")?);

            assert!(
                !Redis::connect("redis://r/1")?.exists("n")?,
                "databases are apart"
            );
            assert_eq!(redis.publish("c", "hello")?, 0);
            Ok::<(), Error>(())
        })
        .unwrap();
        assert_eq!(
            host.published_on_redis(),
            [("c".to_owned(), b"hello".to_vec())]
        );
    }

    #[test]
    fn redis_commands() {
        let host = Host::new();
        host.grant_redis("r:6379");
        let map = Value::Array(vec![
            Value::Bytes(b"k".to_vec()),
            Value::Array(vec![Value::Nil]),
        ]);
        host.answer_redis("hgetall", map.clone());
        host.run(|| {
            let redis = Redis::connect("redis://r")?;
            assert_eq!(redis.execute("ping", &[""; 0])?.as_str(), Some("PONG"));
            assert_eq!(
                redis.execute("SET", &["k", "v"])?,
                Value::Status("OK".to_owned())
            );
            assert_eq!(redis.execute("GET", &["k"])?.as_bytes(), Some(&b"v"[..]));
            assert!(redis.execute("GET", &["none"])?.is_nil());
            assert_eq!(redis.execute("INCRBY", &["n", "3"])?.as_integer(), Some(3));
            assert_eq!(redis.execute("SADD", &["s", "a"])?.as_integer(), Some(1));
            assert_eq!(
                redis
                    .execute("SMEMBERS", &["s"])?
                    .as_array()
                    .map(<[_]>::len),
                Some(1)
            );
            assert_eq!(redis.execute("HGETALL", &["h"])?, map);
            assert_eq!(redis.execute("SCARD", &["s"])?.as_integer(), Some(1));
            assert_error!(redis.execute("subscribe", &["c"]), Denied, "SUBSCRIBE");
            let xread = |words: &[&str]| redis.execute("XREAD", words);
            assert_error!(xread(&["block", "0", "STREAMS", "s", "$"]), Denied, "XREAD");
            assert_error!(xread(&["STREAMS", "BLOCK", "0"]), Other);
            assert_error!(redis.execute("GET k", &[""; 0]), Invalid, "one word");
            assert_error!(redis.execute("FLY", &["away"]), Other, "FLY");
            Ok::<(), Error>(())
        })
        .unwrap();
    }
}

mod time {
    use super::*;

    #[test]
    fn what_falls_due_happens_in_its_order() {
        let host = Host::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        for seconds in [3, 1, 2, 1, 9] {
            let seen = seen.clone();
            host.after(Duration::from_secs(seconds), move |host| {
                seen.borrow_mut().push((seconds, host.elapsed().as_secs()));
                host.run(|| sleep(Duration::from_millis(1500)));
            });
        }
        host.advance(Duration::from_secs(4));
        // Code that sleeps lets the rest fall due inside its own sleep.
        assert_eq!(*seen.borrow(), [(1, 1), (1, 1), (2, 2), (3, 3)]);
        host.advance(Duration::from_secs(10));
        assert_eq!(seen.borrow().len(), 5);
    }

    #[test]
    #[should_panic(expected = "no host runs it")]
    fn outside_of_a_host_there_is_none() {
        sleep(Duration::ZERO);
    }
}

/// Handles have nothing in them that must not be printed.
#[test]
fn handles_are_debug() {
    fn is_debug<T: std::fmt::Debug>() {}
    is_debug::<Connection>();
    is_debug::<Publisher>();
    is_debug::<Redis>();
    is_debug::<Request>();
    is_debug::<Host>();
    is_debug::<Outcome>();
}
