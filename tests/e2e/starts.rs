//! The server hook: apps serve once it has succeeded, and it is called until it does.

use fanfare_tests::{
    node::{Node, Setup},
    wait,
};
use serde_json::json;

use crate::{
    guests,
    probe::{self, Probe},
};

/// The hostile guest with this start, in development, and the probe beside it.
fn hostile(start: &str) -> Setup {
    Node::config(&format!(
        "[node]\ndevelopment = true\n\
         [apps.hostile]\ncomponent = {:?}\nroute = \"/hostile\"\nvariables = {{ start = {start:?} }}\n\
         [apps.hostile.limits]\ncpu-time = \"500ms\"\n\
         [apps.probe]\ncomponent = {:?}\n",
        guests::HOSTILE,
        guests::PROBE
    ))
}

#[test]
fn an_app_whose_start_fails_does_not_serve_and_others_do() {
    for (start, reason) in [
        ("trap", "no start"),
        ("error", "unavailable: the moon is not full"),
        ("loop", "`cpu-time` of 500ms"),
    ] {
        let node = hostile(start).start_waiting();
        node.wait_for_log(reason);
        assert!(
            node.printed()
                .iter()
                .any(|line| line.starts_with("hostile will be served at ")),
            "{:?}",
            node.printed()
        );

        let plain = node.get("/hostile/well");
        assert_eq!(plain.status(), 503);
        assert!(plain.header("retry-after").is_some());
        assert!(plain.text().contains(reason), "{start}: {}", plain.text());

        let mut stream = node.events("/hostile/well");
        stream.wait_end();
        assert!(stream.text().starts_with("retry: "), "{}", stream.text());

        assert_eq!(node.get("/page").status(), 200);
        assert_eq!(node.get("/healthz").status(), 200);
        // One app that cannot start does not take the others out of a load balancer.
        let ready = node.get("/readyz");
        assert_eq!(
            (ready.status(), ready.text()),
            (200, "not serving: hostile\n")
        );
        node.stop();
    }
}

#[test]
fn in_production_nobody_is_told_why_an_app_has_not_started() {
    let node = probe::setup(
        "[apps.probe.variables]\nstart = '[[\"fail\", \"other\", \"the inner reason\"]]'",
    )
    .start_waiting();
    let plain = node.get("/");
    assert_eq!(plain.status(), 503);
    assert!(!plain.text().contains("inner reason"), "{}", plain.text());
    let ready = node.get("/readyz");
    assert_eq!(
        (ready.status(), ready.text()),
        (503, "not serving: 1 of 1\n"),
        "it is the only one"
    );
    node.wait_for_log("the inner reason");
}

#[test]
fn a_start_that_fails_is_called_again_until_it_succeeds() {
    let script = json!([
        ["print", "begun"],
        ["nth-time", "starts", 3],
        ["in-memory"],
        ["start"],
        ["set-publisher", "publisher"]
    ]);
    let node = Node::serve(guests::PROBE)
        .var("start", &script.to_string())
        .start_waiting();
    assert_eq!(node.get("/readyz").status(), 503);
    wait::until_true("the third start succeeds", || {
        node.get("/readyz").status() == 200
    });
    let mut stream = node.subscribe("news");
    node.publish("news", "serving");
    assert_eq!(stream.next_event().data, "serving");
    assert_eq!(node.ask(json!(["get-text", "starts"])), "3");
    assert_eq!(
        node.log()
            .iter()
            .filter(|line| line.contains("begun"))
            .count(),
        3
    );
    // It is not called once more.
    node.run(json!([["print", "later"]]));
    node.wait_for_log("later");
    assert_eq!(node.ask(json!(["get-text", "starts"])), "3");
}

#[test]
fn the_start_is_called_once_before_the_first_request() {
    let script = json!([
        ["nth-time", "starts", 1],
        ["in-memory"],
        ["start"],
        ["set-publisher", "publisher"]
    ]);
    let node = Node::serve(guests::PROBE)
        .var("start", &script.to_string())
        .start();
    for _ in 0..3 {
        assert_eq!(node.ask(json!(["get-text", "starts"])), "1");
    }
}

#[test]
fn a_guest_of_other_types_never_serves_and_the_log_says_why() {
    let odd = wat::parse_str(
        "(component
            (core module $m (func (export \"f\")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i \"f\")))
            (instance $handler (export \"handle\" (func $f)))
            (instance $lifecycle (export \"start\" (func $f)))
            (export \"fanfare:sse/handler@0.1.0\" (instance $handler))
            (export \"fanfare:sse/lifecycle@0.1.0\" (instance $lifecycle)))",
    );
    let node = Node::serve("odd.wasm")
        .file("odd.wasm", odd.expect("the text is WebAssembly"))
        .start_waiting();
    node.wait_for_log("type mismatch");
    assert_eq!(node.get("/").status(), 503);
}
