//! Requests and their answers.

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

    let left = testing::Request::get("/").hang_up_after(Duration::from_secs(1));
    let left = handle(&host, left, |request| {
        let stream = request.upgrade()?;
        publisher()?.register(&stream, "a")?;
        sleep(Duration::from_secs(1));
        publisher()?.remove(&stream.id(), "a")
    });
    assert_error!(left.result(), NotFound);
    assert_eq!(left.problem(), None);

    // Of another one, while its own client is there.
    let mistaken = get(&host, |request| {
        let stream = request.upgrade()?;
        publisher()?.register(&stream, "a")?;
        publisher()?.remove("nobody", "a")
    });
    assert_error!(mistaken.result(), NotFound);
    assert!(mistaken.problem().is_some());
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
