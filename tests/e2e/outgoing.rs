//! Requests that guests send to others.

use std::time::Duration;

use fanfare_tests::{
    node::Node,
    servers::ports,
    stream::{End, Stream},
    tls::Certificates,
    upstream::{Exchange, Upstream},
    wait,
};
use serde_json::Value;

use crate::guests;

/// A node whose guest `caller` may send to these origins, with this `[apps.caller.http]`.
fn node(granted: &[&str], http: &str) -> Node {
    Node::config(&format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n\
         [apps.caller]\ncomponent = {:?}\n[apps.caller.capabilities]\nhttp = {granted:?}\n\
         [apps.caller.http]\n{http}\n",
        guests::CALLER
    ))
    .start()
}

/// A target of the caller: what it does, where it sends, and further pairs of its query.
fn target(path: &str, url: &str, pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!("&{name}={value}"));
    format!("{path}?url={url}{}", pairs.collect::<String>())
}

/// Lets the caller send while the upstream does something, and returns what came of it.
#[track_caller]
fn send(node: &Node, target: &str, upstream: impl FnOnce() + Send) -> Value {
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| node.get(target));
        upstream();
        sent.join().expect("the node answers").json()
    })
}

#[track_caller]
fn assert_error(answer: &Value, case: &str, part: &str) {
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        answer["error"] == case && message.contains(part),
        "{case}, {part:?}: {answer}"
    );
}

/// The event `error` that a stream ends with, after these data.
#[track_caller]
fn stream_error(stream: &mut Stream, before: &[&str]) -> Value {
    let (mut events, end) = stream.rest();
    assert_eq!(end, End::Complete);
    let error = events.pop().expect("the stream ends with an event");
    assert_eq!(error.event_type, "error", "{error:?}");
    let data: Vec<_> = events.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(data, before);
    serde_json::from_str(&error.data).expect("the error is JSON")
}

#[track_caller]
fn ended(node: &Node, ending: &str) -> f64 {
    let series = format!("fanfare_outgoing_requests_total{{app=\"caller\",ending=\"{ending}\"}}");
    node.metrics().value(&series)
}

#[track_caller]
fn wait_for_none_in_flight(node: &Node) {
    wait::until_true("no request is in flight", || {
        let series = "fanfare_outgoing_requests_in_flight{app=\"caller\"}";
        node.metrics().value(series) == 0.0
    });
}

#[test]
fn what_was_not_granted_is_denied_and_not_reached() {
    let (granted, other) = (Upstream::start(), Upstream::start());
    let node = node(&[&granted.origin()], "");
    let port = other.address().port();
    for origin in [
        other.origin(),
        format!("http://localhost:{port}"),
        format!("https://{}", granted.address()),
        "http://nowhere.example.invalid".to_owned(),
    ] {
        let answer = node.get(&target("/send", &origin, &[])).json();
        assert_error(
            &answer,
            "denied",
            &format!("`capabilities.http = [\"{origin}\"]`"),
        );
        node.wait_for_log(&format!("was not granted {origin}"));
    }
    for odd in ["http://127.1/", "http://0x7f000001/", "http://a..b/"] {
        let answer = node.get(&target("/send", odd, &[])).json();
        assert_error(&answer, "invalid", "no host and port");
    }
    // A user in the URL makes no other host of it.
    let confusing = format!("http://{}@{}/", granted.address(), other.address());
    let answer = node.get(&target("/send", &confusing, &[])).json();
    assert_error(&answer, "invalid", "user");
    other.assert_untouched();
    granted.assert_untouched();
    assert_eq!(ended(&node, "denied"), 4.0);
}

#[test]
fn responses_are_passed_on_as_they_are() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "");
    let url = format!("{}/a/b%20c?d=e", upstream.origin());
    let encoded = url
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('=', "%3D");
    let answer = send(
        &node,
        &target("/send", &encoded, &[("header", "x-own:1")]),
        || {
            let exchange = upstream.accept();
            assert_eq!(exchange.line, "GET /a/b%20c?d=e HTTP/1.1");
            assert_eq!(exchange.header("x-own"), Some("1"));
            exchange.answer(
                "503 Service Unavailable",
                &["retry-after: 7", "x-a: b"],
                "sorry",
            );
        },
    );
    assert_eq!(
        (&answer["status"], &answer["body"]),
        (&503.into(), &"sorry".into())
    );
    let headers = answer["headers"].to_string();
    assert!(headers.contains("[\"retry-after\",\"7\"]"), "{headers}");
    // What belongs to one connection is not the guest's.
    assert!(!headers.contains("transfer-encoding"), "{headers}");
    // When none is in flight it is counted.
    wait_for_none_in_flight(&node);
    assert_eq!(ended(&node, "complete"), 1.0);
}

#[test]
fn bodies_of_requests_arrive() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "");
    let body = vec![b'x'; 300_000];
    let target = target("/send", &upstream.origin(), &[("method", "PUT")]);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| node.post(&target, body.clone()));
        let exchange = upstream.accept();
        assert_eq!(exchange.line, "PUT / HTTP/1.1");
        assert!(exchange.body == body, "{} bytes", exchange.body.len());
        exchange.answer("201 Created", &[], "");
        let answer = sent.join().expect("the node answers").json();
        assert_eq!(answer["status"], 201);
    });
}

#[test]
fn redirects_are_not_followed() {
    let (upstream, elsewhere) = (Upstream::start(), Upstream::start());
    let node = node(&[&upstream.origin()], "");
    let answer = send(&node, &target("/send", &upstream.origin(), &[]), || {
        let location = format!("location: {}/secret", elsewhere.origin());
        upstream.accept().answer("302 Found", &[&location], "");
    });
    assert_eq!(answer["status"], 302);
    assert!(answer["headers"].to_string().contains("/secret"));
    elsewhere.assert_untouched();
    upstream.assert_untouched();
}

#[test]
fn headers_and_methods_that_are_the_hosts_are_refused() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "");
    for header in [
        "host:elsewhere",
        "Connection:keep-alive",
        "transfer-encoding:chunked",
        "upgrade:websocket",
        "te:trailers",
        "proxy-authorization:x",
        "keep-alive:1",
    ] {
        let target = target("/send", &upstream.origin(), &[("header", header)]);
        assert_error(&node.get(&target).json(), "invalid", "the host's to set");
    }
    for header in ["x%0D%0Ay:1", "x:1%0D%0Ahost:y", "content-length:%2B1"] {
        let target = target("/send", &upstream.origin(), &[("header", header)]);
        assert_eq!(node.get(&target).json()["error"], "invalid", "{header}");
    }
    let connect = target("/send", &upstream.origin(), &[("method", "CONNECT")]);
    assert_error(&node.get(&connect).json(), "invalid", "method");
    upstream.assert_untouched();
}

#[test]
fn each_time_has_a_limit_that_the_log_names() {
    let upstream = Upstream::start();
    let silent = format!("https://{}", upstream.address());
    // On a node of its own each, where nothing else has to be quick.
    let hasty = |limit: &str| {
        let http = format!("{limit} = \"300ms\"");
        node(&[&upstream.origin(), &silent], &http)
    };
    // The handshake is a part of the connection.
    let connecting = hasty("connect-timeout");
    let mut kept = None;
    let answer = send(&connecting, &target("/send", &silent, &[]), || {
        kept = Some(upstream.accept_raw());
    });
    assert_error(&answer, "unavailable", "took no connection in time");
    connecting.wait_for_log("`http.connect-timeout`");
    wait_for_none_in_flight(&connecting);
    assert_eq!(ended(&connecting, "failed"), 1.0);

    let asking = hasty("first-byte-timeout");
    let mut asked = None;
    let answer = send(&asking, &target("/send", &upstream.origin(), &[]), || {
        asked = Some(upstream.accept());
    });
    assert_error(&answer, "unavailable", "did not answer in time");
    asking.wait_for_log("`http.first-byte-timeout`");
    asked.expect("it was asked").wait_closed();
    wait_for_none_in_flight(&asking);
    assert_eq!(ended(&asking, "failed"), 1.0);

    let reading = hasty("between-bytes-timeout");
    let mut stream = reading.events(&target("/stream", &upstream.origin(), &[]));
    let mut pausing = upstream.accept();
    // At once: a pause in between would count.
    pausing.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let error = stream_error(&mut stream, &["first"]);
    assert_error(&error, "unavailable", "paused for too long");
    reading.wait_for_log("`http.between-bytes-timeout`");
    pausing.wait_closed();
    wait_for_none_in_flight(&reading);
    assert_eq!(ended(&reading, "failed"), 1.0);
}

#[test]
fn guests_shorten_times() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "");
    let mut kept = None;
    let short = target("/send", &upstream.origin(), &[("first", "200")]);
    let answer = send(&node, &short, || kept = Some(upstream.accept()));
    assert_error(&answer, "unavailable", "did not answer in time");
}

#[test]
fn servers_that_cannot_be_reached_are_told_of() {
    let gone = format!("http://127.0.0.1:{}", ports::free());
    let nowhere = "http://nowhere.example.invalid";
    let node = node(&[&gone, nowhere], "");
    let answer = node.get(&target("/send", &gone, &[])).json();
    assert_error(&answer, "unavailable", "refuses connections");
    node.wait_for_log("the server cannot be reached");
    let answer = node.get(&target("/send", nowhere, &[])).json();
    // A resolver that is slow takes more time than connecting may.
    let part = match answer["message"].as_str() {
        Some(message) if message.contains("in time") => "took no connection in time",
        _ => "has no address",
    };
    assert_error(&answer, "unavailable", part);
}

#[test]
fn a_body_that_is_cut_is_an_error_and_no_end() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "");
    type Begin = fn(&mut Exchange);
    let begins: [Begin; 2] = [
        |exchange| {
            exchange.head("200 OK", &[]);
            exchange.chunk("first");
        },
        |exchange| exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst"),
    ];
    for begin in begins {
        let mut stream = node.events(&target("/stream", &upstream.origin(), &[]));
        let mut exchange = upstream.accept();
        begin(&mut exchange);
        assert_eq!(stream.next_event().data, "first");
        exchange.cut();
        let error = stream_error(&mut stream, &[]);
        assert_error(&error, "unavailable", "before its response was complete");
    }
    // So is one that has not even begun, and what is no HTTP.
    let answer = send(&node, &target("/send", &upstream.origin(), &[]), || {
        upstream.accept().cut();
    });
    assert_error(&answer, "unavailable", "before its response was complete");
    let answer = send(&node, &target("/send", &upstream.origin(), &[]), || {
        upstream.accept().write("this is no HTTP\r\n\r\n");
    });
    assert_eq!(answer["error"], "unavailable");
    // A body that nothing frames ends with the connection.
    let answer = send(&node, &target("/send", &upstream.origin(), &[]), || {
        upstream.accept().write("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    assert_eq!(answer["body"], "all of it");
}

#[test]
fn a_body_over_the_limit_is_an_error() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "response-bytes = 10");
    let ten = send(&node, &target("/send", &upstream.origin(), &[]), || {
        upstream.accept().answer("200 OK", &[], "0123456789");
    });
    assert_eq!(ten["body"], "0123456789");
    let limit = "`http.response-bytes` of 10 bytes";
    let told = send(&node, &target("/send", &upstream.origin(), &[]), || {
        upstream
            .accept()
            .write("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n");
    });
    assert_error(&told, "limited", limit);
    let mut stream = node.events(&target("/stream", &upstream.origin(), &[]));
    let mut exchange = upstream.accept();
    exchange.head("200 OK", &[]);
    exchange.chunk("01234");
    assert_eq!(stream.next_event().data, "01234");
    exchange.chunk("567890");
    assert_error(&stream_error(&mut stream, &[]), "limited", limit);
    node.wait_for_log("the limit `http.response-bytes`");
}

#[test]
fn requests_in_flight_are_bounded() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "requests = 1");
    let mut stream = node.events(&target("/stream", &upstream.origin(), &[]));
    let mut exchange = upstream.accept();
    exchange.head("200 OK", &[]);
    exchange.chunk("first");
    assert_eq!(stream.next_event().data, "first");

    let answer = node.get(&target("/send", &upstream.origin(), &[])).json();
    assert_error(&answer, "limited", "`http.requests`");
    node.wait_for_log("1 requests in flight, which is its limit `http.requests`");
    upstream.assert_untouched();
    assert_eq!(ended(&node, "limited"), 1.0);

    exchange.end();
    assert_eq!(stream.next_event().event_type, "end");
    wait_for_none_in_flight(&node);
    let answer = send(&node, &target("/send", &upstream.origin(), &[]), || {
        upstream.accept().answer("200 OK", &[], "again");
    });
    assert_eq!(answer["body"], "again");
}

#[test]
fn the_end_of_a_call_ends_its_requests() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "");
    let mut stream = node.events(&target("/panic", &upstream.origin(), &[]));
    let mut exchange = upstream.accept();
    exchange.head("200 OK", &[]);
    assert_eq!(stream.next_event().event_type, "head");
    exchange.wait_closed();
    wait_for_none_in_flight(&node);
    assert_eq!(ended(&node, "cancelled"), 1.0);
}

#[test]
fn a_guest_that_does_not_read_holds_the_server_back() {
    let upstream = Upstream::start();
    let node = node(&[&upstream.origin()], "between-bytes-timeout = \"100ms\"");
    let mut stream = node.events(&target("/hold", &upstream.origin(), &[]));
    let mut exchange = upstream.accept();
    // With the first piece of the body: until there is one that the guest does not read, the time runs.
    exchange.write("HTTP/1.1 200 OK\r\n\r\nx");
    assert_eq!(stream.next_event().event_type, "head");
    // What the kernel keeps for sockets, and little more.
    let most = 256 << 20;
    let taken = exchange.flood(Duration::from_secs(1), most);
    assert!(taken < most / 4, "{taken} bytes were taken");
    assert!(node.memory() < 512 << 20);
    stream.close();
    wait_for_none_in_flight(&node);
    assert_eq!(ended(&node, "cancelled"), 1.0, "the pause was the guest's");
}

#[test]
fn tls_needs_an_authority_that_is_trusted() {
    let certificates = Certificates::new();
    let upstream = Upstream::start_tls(&certificates);
    let origin = format!("https://localhost:{}", upstream.address().port());
    let authority = format!("ca-file = {:?}", certificates.authority());
    let trusting = node(&[&origin], &authority);
    let answer = send(&trusting, &target("/send", &origin, &[]), || {
        let exchange = upstream.accept();
        let host = origin.trim_start_matches("https://");
        assert_eq!(exchange.header("host"), Some(host));
        exchange.answer("200 OK", &[], "secret");
    });
    assert_eq!(answer["body"], "secret");

    let wary = node(&[&origin], "");
    let answer = send(&wary, &target("/send", &origin, &[]), || {
        // It says what is wrong with the certificate, and leaves.
        upstream.accept_tls_failure();
    });
    assert_error(&answer, "unavailable", "certificate that is not trusted");
    wary.wait_for_log("`http.ca-file`");
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused() {
    let setup = Node::config(&format!(
        "[apps.caller]\ncomponent = {0:?}\n[apps.caller.http]\nca-file = {0:?}\n",
        guests::CALLER
    ));
    let ended = setup.arg("--listen").arg("127.0.0.1:0").run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for part in ["`apps.caller.http.ca-file`", guests::CALLER] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

/// A node whose guest is of the asynchronous world and may send to this origin.
fn async_node(granted: &str, http: &str) -> Node {
    Node::config(&format!(
        "[apps.caller]\ncomponent = {:?}\n[apps.caller.capabilities]\nhttp = [{granted:?}]\n\
         [apps.caller.http]\n{http}\n",
        guests::ASYNC_CALLER
    ))
    .start()
}

#[test]
fn guests_of_the_asynchronous_world_send_side_by_side() {
    let upstream = Upstream::start();
    let node = async_node(&upstream.origin(), "");
    let target = format!("/?{}", upstream.address());
    let mut begun: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = node.events(&target);
            let mut exchange = upstream.accept();
            exchange.head("200 OK", &[]);
            assert_eq!(stream.next_event().data, "200");
            (stream, exchange)
        })
        .collect();
    for word in ["one", "two"] {
        for (stream, exchange) in begun.iter_mut().rev() {
            exchange.chunk(word);
            assert_eq!(stream.next_event().data, word);
        }
    }
    let (mut cut, exchange) = begun.remove(1);
    exchange.cut();
    let event = cut.next_event();
    assert_eq!(event.event_type, "error");
    assert!(
        event.data.contains("HttpResponseIncomplete"),
        "{}",
        event.data
    );
    for (mut stream, mut exchange) in begun {
        exchange.end();
        assert_eq!(stream.next_event().event_type, "end");
        exchange.wait_closed();
    }
}

#[test]
fn guests_of_the_asynchronous_world_are_bound_by_grants_and_limits() {
    let (upstream, other) = (Upstream::start(), Upstream::start());
    let node = async_node(&upstream.origin(), "response-bytes = 10");
    let mut stream = node.events(&format!("/?{}", other.address()));
    assert!(stream.next_event().data.contains("HttpRequestDenied"));
    other.assert_untouched();
    node.wait_for_log(&format!("was not granted {}", other.origin()));

    let mut stream = node.events(&format!("/?{}", upstream.address()));
    let mut exchange = upstream.accept();
    exchange.head("200 OK", &[]);
    assert_eq!(stream.next_event().data, "200");
    exchange.chunk("more than ten");
    let event = stream.next_event();
    assert_eq!(event.data, "ErrorCode::HttpResponseBodySize(Some(10))");
    exchange.wait_closed();

    // On a node of its own, since answers have to be quick there.
    let hasty = async_node(&upstream.origin(), "first-byte-timeout = \"300ms\"");
    let mut stream = hasty.events(&format!("/?{}", upstream.address()));
    let silent = upstream.accept();
    assert!(stream.next_event().data.contains("HttpResponseTimeout"));
    silent.wait_closed();
}
