//! Guests that misbehave harm their own calls alone.

use std::thread;

use fanfare_tests::{
    client::{Request, Response},
    node::Node,
    wait,
};
use serde_json::json;

use crate::{
    guests,
    instances::wait_for_calls,
    probe::{self, Probe},
};

/// The hostile guest at `/hostile` and the probe at `/`, in production or not, with these limits of the hostile one.
fn both(development: bool, limits: &str) -> Node {
    Node::config(&format!(
        "[node]\ndevelopment = {development}\n\
         [apps.hostile]\ncomponent = {:?}\nroute = \"/hostile\"\n[apps.hostile.limits]\n{limits}\n\
         [apps.probe]\ncomponent = {:?}\n",
        guests::HOSTILE,
        guests::PROBE
    ))
    .start()
}

/// Holds that both apps serve, and that a stream that was there before hears what is published.
fn assert_unharmed(node: &Node, kept: &mut fanfare_tests::stream::Stream) {
    assert_eq!(node.get("/hostile/well").text(), "well");
    node.publish("kept", "on");
    assert_eq!(kept.next_event().data, "on");
    assert_eq!(
        (node.get("/healthz").status(), node.get("/readyz").status()),
        (200, 200)
    );
}

/// The answer to a misdeed, which has to be a failure that in development has all these parts.
#[track_caller]
fn assert_fails(node: &Node, path: &str, parts: &[&str]) -> Response {
    let answer = node.get(path);
    assert_eq!(answer.status(), 500, "{path}");
    for part in parts {
        assert!(
            answer.text().contains(part),
            "{path}: {part:?} is not in {:?}",
            answer.text()
        );
    }
    answer
}

#[test]
fn every_misdeed_ends_its_own_call() {
    let node = both(true, "memory = \"128MiB\"\ncpu-time = \"10s\"");
    let mut kept = node.subscribe("kept");
    for (path, parts) in [
        (
            "/hostile/panic",
            &["trapped", "before the upgrade", "hostile"][..],
        ),
        ("/hostile/memory", &["trapped", "`memory`", "134217728"]),
        ("/hostile/recursion", &["trapped", "wasm trap", "deep"]),
        ("/hostile/handle-flood", &["trapped", "table"]),
        ("/hostile/registry-flood", &["limited", "`registry-bytes`"]),
        (
            "/hostile/huge-data",
            &["limited", "`event-data`", "52428800"],
        ),
        (
            "/hostile/huge-name",
            &["invalid", "channel name", "52428800"],
        ),
        (
            "/hostile/huge-answer",
            &["limited", "`response-body`", "52428800"],
        ),
        ("/hostile/silence", &["without answering"]),
        ("/hostile/error", &["other: an error of the handler"]),
    ] {
        let answer = assert_fails(&node, path, parts);
        assert!(answer.body.len() < 100_000, "{path}");
        assert_unharmed(&node, &mut kept);
    }
    // The full registry is its own: the probe's has room.
    node.run(json!([["set-text", "room", "x"]])).all_ok();
}

#[test]
fn a_guest_that_spins_is_stopped_while_others_are_served() {
    let node = both(true, "cpu-time = \"500ms\"");
    let mut kept = node.subscribe("kept");
    // More of them than a machine of tests has cores.
    let mut spinning: Vec<_> = (0..8)
        .map(|_| {
            let mut socket = node.connect();
            socket.send(&Request::get("/hostile/loop"));
            socket
        })
        .collect();
    for _ in 0..5 {
        assert_unharmed(&node, &mut kept);
    }
    for socket in &mut spinning {
        let answer = socket.response("GET");
        assert_eq!(answer.status(), 500);
        assert!(
            answer.text().contains("`cpu-time` of 500ms"),
            "{}",
            answer.text()
        );
    }
    assert_unharmed(&node, &mut kept);
}

#[test]
fn waiting_is_bounded_by_wall_time_alone() {
    let node = both(true, "cpu-time = \"2s\"\nwall-time = \"3s\"");
    assert_fails(&node, "/hostile/sleep", &["3s", "`wall-time`"]);
    assert_eq!(node.get("/hostile/well").status(), 200);
}

#[test]
fn in_development_a_person_sees_the_trap_with_the_lines_of_the_source() {
    let node = both(true, "");
    let asked = Request::get("/hostile/panic").header("accept", "text/html,*/*;q=0.8");
    let page = node.request(&asked);
    assert_eq!(page.status(), 500);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    for part in [
        "<p>the handler trapped</p>",
        // The name of the function, demangled, and where it stands.
        "handle&lt;hostile::Hostile&gt;",
        "tests/guests/hostile/src/lib.rs:",
        "before the upgrade",
    ] {
        assert!(page.text().contains(part), "{part:?}: {}", page.text());
    }
    // What Rust does once it has panicked is no help to anybody, and its hint cannot be followed.
    for part in ["panicking::", "abort", "RUST_BACKTRACE"] {
        assert!(!page.text().contains(part), "{part:?}: {}", page.text());
    }
    let line = node.wait_for_log("the handler trapped");
    assert!(
        line.contains("version=") && line.contains("app=hostile"),
        "{line}"
    );
}

#[test]
fn in_production_a_client_gets_an_id_and_the_log_has_the_reason_under_it() {
    let node = both(false, "");
    let answer = assert_fails(&node, "/hostile/panic", &["The app failed."]);
    let id = answer.header("x-request-id").expect("an id");
    assert!(
        answer.text().contains(id) && !answer.text().contains("before the upgrade"),
        "{}",
        answer.text()
    );
    let line = node.wait_for_log("trapped");
    assert!(line.contains(id) && line.contains("app=hostile"), "{line}");
    node.wait_for_log("before the upgrade");
}

#[test]
fn a_stream_goes_on_after_its_handler_has_trapped() {
    for development in [true, false] {
        let node = both(development, "cpu-time = \"1s\"");
        for (path, parts) in [
            (
                "/hostile/panic-after-upgrade",
                ["trapped", "after the upgrade"],
            ),
            ("/hostile/loop-after-upgrade", ["cpu-time", "1s"]),
        ] {
            let mut stream = node.events(path);
            assert_eq!(stream.next_event().data, "hello");
            if development {
                let told = stream.next_event();
                assert_eq!(told.event_type, "fanfare-error");
                for part in parts {
                    assert!(
                        told.data.contains(part),
                        "{part:?} is not in {:?}",
                        told.data
                    );
                }
            } else {
                node.wait_for_log(parts[0]);
            }
            // Other streams are opened on.
            assert_eq!(node.events(path).next_event().data, "hello");
        }
    }
}

#[test]
fn a_trap_after_the_upgrade_leaves_the_stream_to_be_published_to() {
    let node = probe::configured("");
    let mut stream = node.listen(
        "",
        json!([
            ["upgrade"],
            ["register", "news"],
            ["send", "hello"],
            ["panic", "now"]
        ]),
    );
    assert_eq!(stream.next_event().data, "hello");
    node.wait_for_log("trapped");
    node.publish("news", "after the trap");
    // In production nothing of the trap stands in between.
    assert_eq!(stream.next_event().data, "after the trap");
}

#[test]
fn a_trap_after_the_answer_changes_nothing_for_the_client() {
    let node = both(true, "");
    let answer = node.get("/hostile/panic-after-answer");
    assert_eq!((answer.status(), answer.text()), (200, "answered"));
    node.wait_for_log("after the answer");
}

#[test]
fn a_flood_of_output_is_logged_in_bounded_lines() {
    let node = both(true, "cpu-time = \"20s\"\nlog-lines = 1_000_000");
    let flood = thread::scope(|scope| {
        let flood = scope.spawn(|| node.get("/hostile/log-flood"));
        assert_eq!(node.get("/hostile/well").status(), 200);
        node.ask(json!(["keys"]));
        flood.join().expect("the flood ends")
    });
    // It ends without an answer, and no client is shown all of it.
    assert_eq!(flood.status(), 500);
    assert!(flood.body.len() < 100_000, "{}", flood.body.len());
    assert_eq!(node.get("/hostile/endless-line").status(), 500);
    wait::until_true("all of the endless line is logged", || {
        let pieces: usize = node
            .log()
            .iter()
            .map(|line| line.matches("yyyyyyyyyyyyyyyy").count())
            .sum();
        pieces >= (16 << 20) / 16 - 4096
    });
    let longest = node.log().iter().map(String::len).max().unwrap_or_default();
    assert!(longest < 10_000, "{longest}");
}

#[test]
fn calls_past_the_limit_wait_and_are_then_told_to_come_back() {
    let node = probe::configured("[apps.probe.limits]\ncalls = 2\nqueue-time = \"10s\"");
    let hold = |name: &str| {
        let mut socket = node.connect();
        let key = format!("begun-{name}");
        socket.send(&Request::post(
            "/run",
            json!([["set-text", key, ""], ["wait-for", name]]).to_string(),
        ));
        socket
    };
    let mut first = hold("go");
    node.run(json!([["wait-for", "begun-go"]])).all_ok();
    // One place is left, and requests take turns on it.
    for _ in 0..3 {
        assert_eq!(node.get("/page").status(), 200);
    }
    node.run(json!([["set-text", "go", ""]])).all_ok();
    assert_eq!(first.response("POST").status(), 200);
}

#[test]
fn a_full_app_sheds_load_so_that_browsers_come_back() {
    let node = probe::configured(
        "[node]\nreconnect-within = \"2s\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [apps.probe.limits]\ncalls = 1\nqueue-time = \"50ms\"\nwall-time = \"10s\"",
    );
    let mut held = node.connect();
    held.send(&Request::post(
        "/run",
        json!([["sleep", 3_600_000]]).to_string(),
    ));
    // Once the place is taken, everybody else is turned away.
    wait_for_calls(&node, "probe", 1.0);
    let plain = node.get("/page");
    assert_eq!(plain.status(), 503);
    assert!(plain.text().contains("`calls` of 1"), "{}", plain.text());
    let seconds: u32 = plain
        .header("retry-after")
        .and_then(|seconds| seconds.parse().ok())
        .expect("a number");
    assert!((1..=2).contains(&seconds), "{seconds}");

    let mut stream = node.events("/page");
    stream.wait_end();
    let retry = stream
        .text()
        .strip_prefix("retry: ")
        .and_then(|text| text.strip_suffix("\n\n"));
    let retry: u32 = retry
        .and_then(|retry| retry.parse().ok())
        .expect("a reconnection time");
    assert!(retry < 2000, "{retry}");
    // The node itself answers all the while.
    assert_eq!(node.get("/healthz").status(), 200);
    assert_eq!(held.response("POST").status(), 500);
    // The handler may still be about to leave.
    wait::until_true("the place is free", || node.get("/page").status() == 200);
}
