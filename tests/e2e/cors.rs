//! Which pages may read a stream (Fetch standard, "CORS protocol").

use fanfare_tests::{
    client::{Head, Request},
    node::Node,
};
use serde_json::{Value, json};

use crate::probe::{self, Probe};

const PAGE: &str = "https://page.example";

/// The script of a stream for these origins; none for those that the app is configured with.
fn script(origins: Option<&[&str]>) -> Value {
    let options = origins.map(|origins| json!({ "origins": origins }));
    json!([
        ["upgrade", options],
        ["register", "news"],
        ["send", "hello"]
    ])
}

/// The head of the answer to a request of a page of this origin.
fn head(node: &Node, origins: Option<&[&str]>, origin: &str) -> Head {
    let mut socket = node.connect();
    socket.send(&probe::request(origin, &script(origins)).header("origin", origin));
    socket.head()
}

/// `access-control-allow-origin`, `access-control-allow-credentials` and `vary`.
fn cors(head: &Head) -> [Option<&str>; 3] {
    [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "vary",
    ]
    .map(|name| head.header(name))
}

#[test]
fn a_named_origin_may_read_with_credentials() {
    let node = probe::start();
    for origins in [&[PAGE][..], &["https://other.example", PAGE], &["*", PAGE]] {
        let head = head(&node, Some(origins), PAGE);
        assert_eq!(head.status, 200);
        assert_eq!(
            cors(&head),
            [Some(PAGE), Some("true"), Some("origin")],
            "{origins:?}"
        );
    }
}

#[test]
fn any_origin_may_read_without_credentials() {
    let node = probe::start();
    for origin in [PAGE, "null"] {
        let head = head(&node, Some(&["*"]), origin);
        assert_eq!(head.status, 200);
        assert_eq!(cors(&head), [Some("*"), None, None]);
    }
}

#[test]
fn other_origins_are_refused_and_the_guest_hears_it() {
    let node = probe::start();
    for origin in [
        "https://evil.example",
        "http://page.example",
        "https://page.example:8443",
        "https://page.example.evil",
        "null",
        "",
        "x",
    ] {
        let refused = head(&node, Some(&[PAGE]), origin);
        assert_eq!(refused.status, 403, "{origin}");
        assert_eq!(cors(&refused)[..2], [None, None]);
        let results = node.results(origin);
        let (case, text) = results.error(0);
        assert_eq!(case, "denied");
        assert!(text.contains(origin), "{text}");
    }
    // Nobody was registered by any of them.
    assert_eq!(node.ask(json!(["subscribers", "news"])), 0);
}

#[test]
fn pages_of_the_node_and_clients_that_are_no_browser_are_always_allowed() {
    let node = probe::start();
    for origins in [None, Some(&[][..]), Some(&[PAGE][..])] {
        let own = head(&node, origins, &node.url(""));
        assert_eq!((own.status, cors(&own)[0]), (200, None));
        let mut socket = node.connect();
        socket.send(&probe::request("", &script(origins)));
        let none = socket.head();
        assert_eq!(none.status, 200);
        // A cache must not give this answer to a page of another origin.
        assert_eq!(cors(&none), [None, None, Some("origin")]);
    }
}

#[test]
fn a_page_of_the_node_is_known_by_the_host_that_it_asks() {
    let node = probe::start();
    let from = |host: &str, origin: &str| {
        let mut socket = node.connect();
        socket.send(
            &probe::request("", &script(None))
                .header("host", host)
                .header("origin", origin),
        );
        socket.head().status
    };
    assert_eq!(
        from("sse.example", "https://sse.example"),
        200,
        "a proxy that ends TLS"
    );
    assert_eq!(from("sse.example:8080", "http://sse.example:8080"), 200);
    assert_eq!(from("sse.example:8080", "http://sse.example"), 403);
    assert_eq!(from("sse.example", "http://sse.example.evil"), 403);
}

#[test]
fn the_configured_origins_count_where_the_guest_names_none() {
    let node = probe::configured(&format!(
        "[apps.probe.streams]\nallowed-origins = [{PAGE:?}]"
    ));
    assert_eq!(cors(&head(&node, None, PAGE))[0], Some(PAGE));
    assert_eq!(head(&node, None, "https://evil.example").status, 403);
    // The guest's own list stands in their place.
    assert_eq!(head(&node, Some(&[]), PAGE).status, 403);
    assert_eq!(cors(&head(&node, Some(&["*"]), PAGE))[0], Some("*"));
}

#[test]
fn a_preflight_is_answered_and_no_stream_is_opened() {
    let node = probe::start();
    let preflight = |origins: &[&str], origin: &str| {
        let request = Request::new(
            "OPTIONS",
            &probe::target("preflight", &script(Some(origins))),
        )
        .header("origin", origin)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "last-event-id");
        node.request(&request)
    };
    let answer = preflight(&[PAGE], PAGE);
    assert_eq!((answer.status(), answer.body.len()), (204, 0));
    assert_eq!(
        cors(&answer.head),
        [Some(PAGE), Some("true"), Some("origin")]
    );
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(
        allowed.split(", ").any(|name| name == "last-event-id"),
        "{allowed}"
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .unwrap()
            .contains("GET")
    );
    assert!(answer.header("access-control-max-age").is_some());

    let results = node.results("preflight");
    let (case, text) = results.error(0);
    assert_eq!(case, "closed");
    assert!(text.contains("preflight"), "{text}");
    assert_eq!(node.ask(json!(["subscribers", "news"])), 0);

    assert_eq!(preflight(&[PAGE], "https://evil.example").status(), 403);
    assert_eq!(cors(&preflight(&["*"], PAGE).head)[0], Some("*"));
}

#[test]
fn an_error_of_the_handler_after_a_preflight_is_no_failure() {
    let node = probe::start();
    let script =
        json!([["upgrade", { "origins": [PAGE] }], ["fail", "closed", "as the host said"]]);
    let request = Request::new("OPTIONS", &probe::target("preflight", &script))
        .header("origin", PAGE)
        .header("access-control-request-method", "GET");
    assert_eq!(node.request(&request).status(), 204);
    node.assert_unlogged("as the host said");
}

#[test]
fn who_is_told_to_come_back_may_read_that_from_any_page() {
    let node = probe::configured("[apps.probe.limits]\nconnections = 1");
    let _only = node.subscribe("news");
    let request = Request::events(&probe::target(
        "",
        &json!([["upgrade", { "origins": [PAGE] }]]),
    ))
    .header("origin", PAGE);
    let mut stream = node.open(&request);
    assert_eq!(
        cors(stream.head()),
        [Some(PAGE), Some("true"), Some("origin")]
    );
    stream.wait_end();
    assert!(stream.text().starts_with("retry: "));
}
