//! Streams behind nginx, configured as `docs/deploying.md` says.

use std::net::SocketAddr;

use fanfare_tests::{
    client::{Request, Socket},
    http2::Http2,
    nginx::Nginx,
    node::Node,
    stream::{End, Stream},
    tls::Certificates,
};
use serde_json::{Value, json};

use crate::probe::{self, Probe, event};

/// How nginx speaks to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upstream {
    /// As the document says: HTTP/1.1, over connections that are used again.
    Http11,
    /// As nginx does where it is told nothing: HTTP/1.0.
    Http10,
}

const BOTH: [Upstream; 2] = [Upstream::Http11, Upstream::Http10];

/// A node, and nginx in front of it.
struct Site {
    // Goes first, so that it does not complain of the other's end.
    nginx: Nginx,
    node: Node,
}

/// The document's configuration, for this node and this address of nginx.
#[track_caller]
fn documented(upstream: Upstream, node: SocketAddr, listen: &str) -> String {
    let document = include_str!("../../docs/deploying.md");
    let (_, rest) = document
        .split_once("\n```nginx\n")
        .expect("the document has a configuration");
    let (config, _) = rest.split_once("\n```\n").expect("it has an end");
    let mut config = config.to_owned();
    let mut replace = |from: &str, to: &str| {
        assert_eq!(config.matches(from).count(), 1, "{from:?} in {config}");
        config = config.replace(from, to);
    };
    replace("server 127.0.0.1:8080;", &format!("server {node};"));
    replace("listen 80;", &format!("listen {listen};"));
    if upstream == Upstream::Http10 {
        replace("proxy_http_version 1.1;", "");
        replace("proxy_set_header Connection \"\";", "");
    }
    config
}

impl Site {
    #[track_caller]
    fn start(upstream: Upstream, tables: &str) -> Self {
        let node = probe::configured(tables);
        let nginx = Nginx::start(|listen| documented(upstream, node.address, &listen.to_string()));
        Self { nginx, node }
    }

    /// A socket to nginx.
    #[track_caller]
    fn connect(&self) -> Socket {
        Socket::connect(self.nginx.address)
    }

    #[track_caller]
    fn open(&self, request: &Request) -> Stream {
        self.connect().open(request)
    }

    #[track_caller]
    fn listen(&self, name: &str, steps: Value) -> Stream {
        self.open(&Request::events(&probe::target(name, &steps)))
    }
}

/// A script for a stream that hears `news`.
fn listening() -> Value {
    json!([["upgrade"], ["register", "news"], ["send", "hello"]])
}

#[test]
fn every_event_passes_at_once() {
    for upstream in BOTH {
        let site = Site::start(upstream, "");
        let mut streams: Vec<_> = (0..5)
            .map(|n| site.listen(&n.to_string(), listening()))
            .collect();
        for stream in &mut streams {
            assert_eq!(stream.next_event().data, "hello");
        }
        // Each of them is heard by all before the next is published.
        for n in 0..30 {
            let id = site.node.publish("news", &n.to_string());
            for stream in &mut streams {
                assert_eq!(stream.next_event(), event("message", &n.to_string(), &id));
            }
        }
        let large = json!({ "id": "large", "data": { "repeat": ["x", 1 << 20] } });
        site.node.run(json!([["publish", "news", large]])).all_ok();
        for stream in &mut streams {
            assert_eq!(stream.next_event().data.len(), 1 << 20);
        }
    }
}

#[test]
fn pings_pass() {
    for upstream in BOTH {
        let site = Site::start(upstream, "");
        let mut stream = site.listen(
            "",
            json!([["upgrade", { "ping": 100 }], ["register", "news"]]),
        );
        for _ in 0..3 {
            assert_eq!(stream.next_comment(), " ping");
        }
    }
}

#[test]
fn the_end_of_a_stream_passes() {
    for upstream in BOTH {
        let site = Site::start(upstream, "");
        let mut stream = site.listen("ends", listening());
        let id = site.node.connection("ends");
        site.node
            .run(json!([
                ["wait-subscribers", "news", 1],
                ["publish", "news", "last"],
                ["remove", "news", id]
            ]))
            .all_ok();
        assert_eq!(stream.next_data(2), ["hello", "last"]);
        assert_eq!(stream.wait_end(), End::Complete);
        assert_eq!(site.node.disconnection(&id)["reason"], "Closed");
    }
}

#[test]
fn a_node_that_stops_tells_clients_to_come_back() {
    for upstream in BOTH {
        let Site { nginx, node } = Site::start(upstream, "");
        let mut stream = Socket::connect(nginx.address).open(&probe::request("", &listening()));
        assert_eq!(stream.next_event().data, "hello");
        node.stop();
        assert_eq!(stream.wait_end(), End::Complete);
        let told = stream.text().rsplit("\n\n").nth(1);
        assert!(
            told.is_some_and(|told| told.starts_with("retry: ")),
            "{told:?}"
        );
    }
}

#[test]
fn a_client_that_leaves_is_noticed() {
    for upstream in BOTH {
        let site = Site::start(upstream, "");
        let [closes, resets] = ["closes", "resets"].map(|name| {
            let mut stream = site.listen(name, listening());
            assert_eq!(stream.next_event().data, "hello");
            stream
        });
        closes.close();
        resets.reset();
        for name in ["closes", "resets"] {
            assert_eq!(
                site.node.disconnection(&site.node.connection(name)),
                json!({ "channels": ["news"], "reason": "ClientGone", "times": 1 })
            );
        }
    }
}

#[test]
fn what_was_missed_comes_through_after_the_last_event_id() {
    for upstream in BOTH {
        let site = Site::start(upstream, "");
        let mut stream = site.listen("", listening());
        assert_eq!(stream.next_event().data, "hello");
        let first = site.node.publish("news", "first");
        assert_eq!(stream.next_event(), event("message", "first", &first));
        stream.close();
        for data in ["second", "third"] {
            site.node.publish("news", data);
        }
        let steps = json!([["upgrade"], ["register", "news"]]);
        let mut by_header = site.open(&probe::request("header", &steps).last_event_id(&first));
        let target = format!("{}&last-event-id={first}", probe::target("query", &steps));
        let mut by_query = site.open(&Request::events(&target));
        for (name, back) in [("header", &mut by_header), ("query", &mut by_query)] {
            assert_eq!(site.node.results(name).ok(0)["last-event-id"], first);
            assert_eq!(back.next_data(2), ["second", "third"]);
        }
        site.node.publish("news", "live");
        assert_eq!(by_header.next_event().data, "live");
        assert_eq!(by_query.next_event().data, "live");
    }
}

#[test]
fn a_reader_that_stops_is_closed_as_slow_and_comes_back_while_the_others_go_on() {
    for upstream in BOTH {
        let site = Site::start(
            upstream,
            "[listen]\nwrite-timeout = \"1h\"\n[apps.probe.limits]\nqueue-bytes = \"1MiB\"\n\
             [apps.probe.history]\nevents = 100_000\nbytes = \"256MiB\"\n",
        );
        let node = &site.node;
        let mut good: Vec<_> = (0..2).map(|_| site.listen("", listening())).collect();
        for stream in &mut good {
            assert_eq!(stream.next_event().data, "hello");
        }
        let mut slow =
            Socket::connect_narrow(site.nginx.address).open(&probe::request("slow", &listening()));
        assert_eq!(slow.next_event().data, "hello");
        let id = node.connection("slow");
        let data = |n: usize| format!("{n:04} ").repeat(10_000);
        let publish = |n: usize| json!(["publish", "news", { "data": { "repeat": [format!("{n:04} "), 10_000] } }]);
        let mut published = 0;
        while node.get("/disconnected").json().get(&id).is_none() {
            assert!(
                published < 2000,
                "100 MB wait for a client that reads nothing"
            );
            let next = published..published + 5;
            node.run(next.clone().map(publish).collect()).all_ok();
            for stream in &mut good {
                for n in next.clone() {
                    assert!(stream.next_event().data == data(n), "{n}");
                }
            }
            published = next.end;
        }
        assert_eq!(
            node.disconnection(&id),
            json!({ "channels": ["news"], "reason": "Slow", "times": 1 })
        );

        // What nginx had for it is a part of the stream. Over HTTP/1.0 nginx cannot tell a cut from an end.
        let (found, end) = slow.rest();
        for (n, event) in found.iter().enumerate() {
            assert!(event.data == data(n), "{n}");
        }
        if upstream == Upstream::Http11 {
            assert_eq!(end, End::Cut);
        }
        let last = found.last().expect("something had left before");
        let back = probe::request("back", &listening()).last_event_id(&last.last_event_id);
        let mut back = site.open(&back);
        for n in found.len()..published {
            assert!(back.next_event().data == data(n), "{n}");
        }
        assert_eq!(back.next_event().data, "hello");
    }
}

#[test]
fn requests_are_answered_whenever_streams_have_ended() {
    // nginx uses a connection again that a stream has come over, unless the node tells it not to, or closes it in time.
    for upstream in BOTH {
        let site = Site::start(upstream, "");
        for n in 0..50 {
            let mut stream = site.listen("", json!([["upgrade"], ["send", "bye"]]));
            assert_eq!(stream.next_event().data, "bye");
            assert_eq!(stream.wait_end(), End::Complete);
            let steps = json!([["request.respond", { "body": n.to_string() }]]);
            let answer = site
                .connect()
                .request(&Request::post("/run", steps.to_string()));
            assert_eq!(
                (answer.status(), answer.text()),
                (200, n.to_string().as_str())
            );
        }
    }
}

#[test]
fn the_node_knows_its_own_pages_and_the_clients_address() {
    for upstream in BOTH {
        let site = Site::start(upstream, "");
        let from = |origin: &str| {
            let mut socket = site.connect();
            socket.send(&probe::request("", &listening()).header("origin", origin));
            socket.stream("GET").head().status
        };
        assert_eq!(from(&format!("http://{}", site.nginx.address)), 200);
        assert_eq!(from("http://elsewhere.example"), 403);
        let steps = json!([["request.header", "x-forwarded-for"]]).to_string();
        let forwarded = site.connect().request(&Request::post("/run", steps));
        assert_eq!(forwarded.json(), json!([{ "ok": "127.0.0.1" }]));
    }
}

#[test]
fn http_2_to_nginx_carries_streams_of_http_1_to_the_node() {
    let node = probe::start();
    let certificates = Certificates::new();
    let nginx = Nginx::start(|listen| {
        let listen = format!(
            "{listen} ssl http2;\nssl_certificate {};\nssl_certificate_key {}",
            certificates.certificate().display(),
            certificates.key().display()
        );
        documented(Upstream::Http11, node.address, &listen)
    });
    let http2 = Http2::connect_tls(nginx.address, certificates.client(&["h2"]));
    // More than a browser would get over HTTP/1.1.
    let mut streams: Vec<_> = (0..10)
        .map(|n| http2.stream(&probe::request(&n.to_string(), &listening())))
        .collect();
    for stream in &mut streams {
        assert_eq!(stream.next_event().data, "hello");
    }
    let ids: Vec<_> = (0..10)
        .map(|n| {
            let id = node.publish("news", &n.to_string());
            for stream in &mut streams {
                assert_eq!(stream.next_event(), event("message", &n.to_string(), &id));
            }
            id
        })
        .collect();
    streams.remove(0).reset();
    assert_eq!(
        node.disconnection(&node.connection("0"))["reason"],
        "ClientGone"
    );
    let mut back = http2.stream(&probe::request("", &listening()).last_event_id(&ids[7]));
    assert_eq!(back.next_data(3), ["8", "9", "hello"]);
    node.run(json!([["remove", "news", node.connection("1")]]))
        .all_ok();
    assert_eq!(streams[0].wait_end(), End::Complete);
}
