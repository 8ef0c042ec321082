//! The admin listener: its metrics say what has happened, and nobody is answered who should not be.

use std::net::TcpStream;

use fanfare_tests::{
    client::{Request, Response, Socket},
    http2::Http2,
    metrics::Metrics,
    node::Node,
    stream::End,
    wait,
};
use serde_json::json;

use crate::{
    deploy::deploy_request,
    guests,
    probe::{self, Probe},
    shutdown::working,
};

/// An admin listener on a free port.
const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\n";
/// By this header commands see that they have found it.
const MARK: &str = "fanfare-admin";

/// A request to the admin listener, all of whose answers have its mark.
#[track_caller]
fn ask(node: &Node, request: &Request) -> Response {
    let answer = Socket::connect(node.admin()).request(request);
    assert_eq!(answer.header(MARK), Some("1"), "{request:?}");
    answer
}

/// Waits until samples of the app `probe` have these values, all at a time.
#[track_caller]
fn wait_for(node: &Node, expected: &[(&str, u64)]) {
    wait::until_right(|| {
        let metrics = node.metrics();
        let wrong = expected.iter().filter_map(|(name, value)| {
            let series = match name.split_once(' ') {
                Some((name, label)) => format!("{name}{{app=\"probe\",{label}}}"),
                None => format!("{name}{{app=\"probe\"}}"),
            };
            let found = metrics.value(&series);
            (found != *value as f64).then(|| format!("{series} was to be {value} and is {found}\n"))
        });
        wrong.collect()
    });
}

#[test]
fn the_metrics_say_exactly_what_has_happened() {
    let node = probe::configured(&format!(
        "{ADMIN}[apps.probe.limits]\nqueue-bytes = \"64KiB\""
    ));
    let nothing = [
        ("fanfare_app_serving", 1),
        ("fanfare_connections", 0),
        ("fanfare_channels", 0),
        ("fanfare_queued_bytes", 0),
        ("fanfare_history_bytes", 0),
        ("fanfare_events_published_total", 0),
        ("fanfare_events_duplicate_total", 0),
        ("fanfare_events_delivered_total", 0),
        ("fanfare_channels_resumed_total", 0),
        ("fanfare_gaps_total", 0),
        ("fanfare_connections_closed_total reason=\"client-gone\"", 0),
        ("fanfare_connections_closed_total reason=\"closed\"", 0),
        ("fanfare_connections_closed_total reason=\"inactive\"", 0),
        ("fanfare_connections_closed_total reason=\"expired\"", 0),
        ("fanfare_connections_closed_total reason=\"slow\"", 0),
        ("fanfare_connections_closed_total reason=\"shutdown\"", 0),
        ("fanfare_requests_total answer=\"response\"", 0),
        ("fanfare_requests_total answer=\"stream\"", 0),
        ("fanfare_requests_total answer=\"busy\"", 0),
        ("fanfare_requests_total answer=\"failed\"", 0),
    ];
    wait_for(&node, &nothing);

    // Each of them is sent one event.
    let mut streams: Vec<_> = (0..3).map(|_| node.subscribe("news")).collect();
    wait_for(
        &node,
        &[
            ("fanfare_connections", 3),
            ("fanfare_channels", 1),
            ("fanfare_events_delivered_total", 3),
        ],
    );
    for id in ["e1", "e2", "e3", "e1", "e4"] {
        node.ask(json!(["publish", "news", { "id": id, "data": "x" }]));
    }
    for stream in &mut streams {
        assert_eq!(stream.next_data(4), ["x"; 4]);
    }
    wait_for(
        &node,
        &[
            ("fanfare_events_published_total", 4),
            ("fanfare_events_duplicate_total", 1),
            ("fanfare_events_delivered_total", 15),
        ],
    );
    let history = node.metrics().value("fanfare_history_bytes{app=\"probe\"}");
    assert!(history > 0.0, "four events are kept");

    streams.remove(0).close();
    wait_for(
        &node,
        &[
            ("fanfare_connections", 2),
            ("fanfare_connections_closed_total reason=\"client-gone\"", 1),
        ],
    );
    let listen = || probe::request("", &json!([["upgrade"], ["register", "news"]]));
    let mut back = node.open(&listen().last_event_id("e2"));
    assert_eq!(back.next_data(2), ["x"; 2]);
    let mut lost = node.open(&listen().last_event_id("never-given"));
    assert_eq!(lost.next_event().event_type, "fanfare-gap");
    let mut closed = node.listen("", json!([["upgrade"], ["register", "news"], ["close"]]));
    assert_eq!(closed.wait_end(), End::Complete);

    let mut slow = node.connect();
    slow.send(&probe::request(
        "",
        &json!([["upgrade"], ["register", "flood"]]),
    ));
    node.run(json!([["wait-subscribers", "flood", 1]])).all_ok();
    let event = json!({ "data": { "repeat": ["x", 500_000] } });
    let slow_ends = "fanfare_connections_closed_total{app=\"probe\",reason=\"slow\"}";
    let mut floods = 0;
    while node.metrics().value(slow_ends) == 0.0 {
        floods += 1;
        assert!(floods < 200, "100 MB wait for a client that reads nothing");
        node.run(json!([["publish", "flood", &event]])).all_ok();
    }
    // What it was handed over is still in its socket.
    let (taken, end) = slow.stream("GET").rest();
    assert_eq!(end, End::Cut);

    wait_for(
        &node,
        &[
            ("fanfare_app_serving", 1),
            ("fanfare_connections", 4),
            // No event of the flood is kept, as each is larger than a history, and nobody hears that channel any more.
            ("fanfare_channels", 1),
            ("fanfare_queued_bytes", 0),
            ("fanfare_events_published_total", 4 + floods),
            ("fanfare_events_duplicate_total", 1),
            ("fanfare_events_delivered_total", 17 + taken.len() as u64),
            ("fanfare_channels_resumed_total", 1),
            ("fanfare_gaps_total", 1),
            ("fanfare_connections_closed_total reason=\"client-gone\"", 1),
            ("fanfare_connections_closed_total reason=\"closed\"", 1),
            ("fanfare_connections_closed_total reason=\"inactive\"", 0),
            ("fanfare_connections_closed_total reason=\"expired\"", 0),
            ("fanfare_connections_closed_total reason=\"slow\"", 1),
            ("fanfare_connections_closed_total reason=\"shutdown\"", 0),
            ("fanfare_requests_total answer=\"response\"", 6 + floods),
            ("fanfare_requests_total answer=\"stream\"", 7),
            ("fanfare_requests_total answer=\"busy\"", 0),
            ("fanfare_requests_total answer=\"failed\"", 0),
        ],
    );
    let metrics = node.metrics();
    assert_eq!(metrics.value("fanfare_node_streams"), 4.0);
    assert_eq!(metrics.value("fanfare_node_queued_bytes"), 0.0);
}

#[test]
fn what_waits_for_a_client_is_told() {
    let node = probe::configured(&format!(
        "{ADMIN}[apps.probe.limits]\nqueue-bytes = \"64MiB\""
    ));
    let mut deaf = node.connect();
    deaf.send(&probe::request(
        "",
        &json!([["upgrade"], ["register", "news"]]),
    ));
    node.run(json!([["wait-subscribers", "news", 1]])).all_ok();
    let event = json!({ "data": { "repeat": ["x", 500_000] } });
    wait::until_true("something waits", || {
        node.run(json!([["publish", "news", &event]])).all_ok();
        let metrics = node.metrics();
        let of_node = metrics.value("fanfare_node_queued_bytes");
        assert_eq!(
            metrics.value("fanfare_queued_bytes{app=\"probe\"}"),
            of_node,
            "there is one app"
        );
        of_node >= 500_000.0
    });
    deaf.reset();
    wait_for(
        &node,
        &[("fanfare_queued_bytes", 0), ("fanfare_connections", 0)],
    );
}

#[test]
fn the_page_does_not_grow_with_channels_and_connections() {
    let node = probe::configured(ADMIN);
    let before = node.metrics();
    for tens in 0..10 {
        let steps: Vec<_> = (0..100)
            .map(|n| json!(["publish", format!("channel {tens} {n}"), "x"]))
            .collect();
        node.run(steps.into()).all_ok();
    }
    let _streams: Vec<_> = (0..20)
        .map(|n| node.subscribe(&format!("heard {n}")))
        .collect();
    wait_for(
        &node,
        &[("fanfare_channels", 1020), ("fanfare_connections", 20)],
    );
    assert_eq!(node.metrics().series(), before.series());
}

#[test]
fn every_app_has_its_own_figures() {
    let node = Node::config(&format!(
        "{ADMIN}[apps.b]\ncomponent = {0:?}\nroute = \"/b\"\n[apps.a]\ncomponent = {0:?}\nroute = \"/a\"\n\
         [apps.a.variables]\nstart = '[[\"fail\", \"other\", \"not today\"]]'\n",
        guests::PROBE
    ))
    .start_waiting();
    wait::until_true("one app serves", || {
        node.metrics().value("fanfare_app_serving{app=\"b\"}") == 1.0
    });
    wait::until_true("the other's start has failed", || {
        ask(&node, &Request::get("/readyz")).text() == "not serving: 1 of 2\n"
    });
    assert_eq!(node.get("/a/page").status(), 503);
    assert_eq!(node.get("/b/page").status(), 200);
    let metrics = node.metrics();
    for (series, value) in [
        ("fanfare_app_serving{app=\"a\"}", 0.0),
        ("fanfare_requests_total{app=\"a\",answer=\"busy\"}", 1.0),
        ("fanfare_requests_total{app=\"a\",answer=\"response\"}", 0.0),
        ("fanfare_requests_total{app=\"b\",answer=\"busy\"}", 0.0),
        ("fanfare_requests_total{app=\"b\",answer=\"response\"}", 1.0),
        (
            concat!("fanfare_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
            1.0,
        ),
    ] {
        assert_eq!(metrics.value(series), value, "{series}");
    }
    assert!(metrics.value("process_start_time_seconds") > 1.7e9);
}

#[test]
fn there_are_metrics_and_health_and_nothing_else() {
    let node = Node::serve(guests::PROBE)
        .arg("--admin")
        .arg("127.0.0.1:0")
        .start();
    let page = ask(&node, &Request::get("/metrics"));
    assert_eq!(
        (page.status(), page.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    Metrics::parse(page.text());
    let head = ask(&node, &Request::new("HEAD", "/metrics"));
    assert_eq!((head.status(), head.text()), (200, ""));
    for path in ["/healthz", "/readyz"] {
        let health = ask(&node, &Request::get(path));
        assert_eq!((health.status(), health.text()), (200, "ok\n"), "{path}");
    }
    for path in ["/", "/page", "/metrics/", "/metricsx", "/events", "*"] {
        let answer = ask(&node, &Request::get(path));
        assert_eq!(answer.status(), 404, "{path}");
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = ask(&node, &Request::new(method, path));
            let allow = answer.header("allow");
            assert_eq!(
                (answer.status(), allow),
                (405, Some("GET, HEAD")),
                "{method} {path}"
            );
        }
    }
    let http2 = Http2::connect(node.admin());
    Metrics::parse(http2.request(&Request::get("/metrics?query")).text());
    // The public listener has no metrics of its own: this is the app's to answer.
    let public = node.post("/metrics", json!([["request.path"]]).to_string());
    assert_eq!(public.json(), json!([{ "ok": "/metrics" }]));
}

#[test]
fn every_answer_has_the_mark_and_none_of_the_public_listener() {
    let node = probe::configured(&format!("{ADMIN}token = \"0123456789abcdef\"\n"));
    let bearer = |request: Request| request.header("authorization", "Bearer 0123456789abcdef");
    let page = || deploy_request("no wasm").header("origin", "null");
    for (request, status) in [
        (Request::get("/healthz"), 200),
        (Request::new("HEAD", "/healthz"), 200),
        (bearer(Request::get("/apps")), 200),
        (Request::get("/apps"), 401),
        (deploy_request("no wasm"), 401),
        (bearer(page()), 403),
        (bearer(Request::get("/nothing")), 404),
        (bearer(Request::new("DELETE", "/apps")), 405),
        (bearer(Request::post("/apps/probe/rollback", "{}")), 415),
        (bearer(deploy_request("no wasm")), 422),
    ] {
        assert_eq!(ask(&node, &request).status(), status, "{request:?}");
    }
    let http2 = Http2::connect(node.admin()).request(&Request::get("/apps"));
    assert_eq!((http2.status(), http2.header(MARK)), (401, Some("1")));

    for path in ["/healthz", "/readyz", "/page"] {
        assert_eq!(node.get(path).header(MARK), None, "{path}");
    }
    let headers = json!([["Fanfare-Admin", "1"], ["fanfare-other", "1"]]);
    let forge = json!([["request.respond", { "headers": headers }]]);
    let forged = node.post("/run", forge.to_string());
    assert_eq!(forged.header("fanfare-other"), Some("1"));
    assert_eq!(forged.header(MARK), None);
}

#[test]
fn who_asks_by_a_name_that_others_can_choose_is_refused() {
    let node = probe::configured(ADMIN);
    let by = |host: &str| ask(&node, &Request::get("/metrics").header("host", host));
    for own in ["", "localhost", "localhost:9090", "127.0.0.1", "[::1]:80"] {
        assert_eq!(by(own).status(), 200, "{own}");
    }
    for foreign in ["example.org", "example.org:9090", "localhost.example.org"] {
        let refused = by(foreign);
        assert_eq!(refused.status(), 421, "{foreign}");
        assert!(refused.text().contains("localhost"), "{}", refused.text());
    }
    // The target may name a host as well.
    let absolute = Request::get("http://example.org/metrics").header("host", "localhost");
    assert_eq!(ask(&node, &absolute).status(), 421);
    let health = Request::get("/healthz").header("host", "example.org");
    assert_eq!(ask(&node, &health).status(), 421);
    let mut old = Socket::connect(node.admin());
    old.write("GET /metrics HTTP/1.0\r\n\r\n");
    assert_eq!(old.response("GET").status(), 200);
}

#[test]
fn an_address_that_others_reach_is_refused() {
    let toml = format!(
        "[admin]\naddress = \"0.0.0.0:0\"\n[apps.probe]\ncomponent = {:?}",
        guests::PROBE
    );
    let with = |address: &str| {
        Node::serve(guests::PROBE)
            .arg("--admin")
            .arg(address)
            .arg("--listen")
            .arg("127.0.0.1:0")
    };
    for (setup, place) in [
        (
            Node::config(&toml).arg("--listen").arg("127.0.0.1:0"),
            "fanfare.toml:2:11: admin.address",
        ),
        (with("0.0.0.0:0"), "--admin 0.0.0.0:0"),
        (with("[::]:9090"), "--admin [::]:9090"),
        (with("192.0.2.1:9090"), "--admin 192.0.2.1:9090"),
    ] {
        let ended = setup.run();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        for part in [place, "without a token", "loopback", "tunnel"] {
            assert!(ended.stderr.contains(part), "{part:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn an_address_that_is_taken_is_told_and_another_can_be_given() {
    let first = probe::configured(ADMIN);
    let taken = first.admin();
    let second = || probe::setup(&format!("[admin]\naddress = \"{taken}\""));
    let ended = second().arg("--listen").arg("127.0.0.1:0").run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for part in [&taken.to_string(), "--admin", "admin.address"] {
        assert!(ended.stderr.contains(part), "{part:?}: {}", ended.stderr);
    }
    let other = second().arg("--admin").arg("127.0.0.1:0").start();
    assert_ne!(other.admin(), taken);
    other.metrics();
}

#[test]
fn without_the_section_there_is_no_admin_listener() {
    let ended = probe::start().stop();
    assert!(
        !ended.stderr.contains("admin listening"),
        "{}",
        ended.stderr
    );
}

#[test]
fn metrics_are_answered_while_the_node_drains_and_until_its_end() {
    let (node, mut working, exchange) = working(ADMIN);
    let mut stream = node.subscribe("news");
    // A socket that says nothing more holds up nothing.
    let mut idle = Socket::connect(node.admin());
    assert_eq!(idle.request(&Request::get("/healthz")).status(), 200);

    node.terminate();
    assert_eq!(stream.wait_end(), End::Complete);
    wait_for(
        &node,
        &[
            ("fanfare_app_serving", 0),
            ("fanfare_connections", 0),
            ("fanfare_connections_closed_total reason=\"shutdown\"", 1),
        ],
    );
    assert_eq!(ask(&node, &Request::get("/readyz")).status(), 503);
    assert_eq!(ask(&node, &Request::get("/healthz")).status(), 200);
    // The handler was at work all the while.
    exchange.answer("200 OK", &[], "finished");
    assert_eq!(working.response("GET").json()["body"], "finished");
    let admin = node.admin();
    let ended = node.wait();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(idle.wait_closed(), b"");
    assert!(
        TcpStream::connect(admin).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn metrics_are_answered_while_guests_compute_for_ever() {
    let node = Node::config(&format!(
        "{ADMIN}[apps.hostile]\ncomponent = {:?}\n\
         [apps.hostile.limits]\ncpu-time = \"1h\"\ncalls = 4\nqueue-time = \"100ms\"",
        guests::HOSTILE
    ))
    .start();
    let mut stuck = Vec::new();
    wait::until_true("all calls are taken", || {
        // One more at a time: those past the limit are refused, and so may be one that waits behind `/well`.
        let mut socket = node.connect();
        socket.send(&Request::get("/loop"));
        stuck.push(socket);
        node.get("/well").status() == 503
    });
    let busy = "fanfare_requests_total{app=\"hostile\",answer=\"busy\"}";
    assert!(node.metrics().value(busy) >= 1.0);
}
