//! New code for an app that serves: what its streams, calls and hooks see of that, and code that cannot serve.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use fanfare_tests::{
    cli::Cli,
    client::{Request, Response, Socket},
    node::Node,
    wait,
};
use serde_json::{Value, json};

use crate::{
    guests,
    probe::{self, Probe, version},
};

/// A node in development with an admin listener: deploys need no token.
pub(crate) const ADMIN: &str = "[node]\ndevelopment = true\n[admin]\naddress = \"127.0.0.1:0\"\n";

/// A request that deploys a component.
pub(crate) fn deploy_request(component: impl Into<Vec<u8>>) -> Request {
    Request::new("PUT", "/apps/probe/component")
        .header("content-type", "application/wasm")
        .body(component)
}

/// Deploys a component to the app `probe`.
#[track_caller]
pub(crate) fn deploy(admin: SocketAddr, component: impl Into<Vec<u8>>) -> Response {
    Socket::connect(admin).request(&deploy_request(component))
}

/// Deploys a component, which has to succeed, and returns the answer.
#[track_caller]
pub(crate) fn deployed(node: &Node, component: impl Into<Vec<u8>>) -> Value {
    let answer = deploy(node.admin(), component);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

/// What the admin listener says of the app `probe`.
#[track_caller]
pub(crate) fn state(node: &Node) -> Value {
    let apps = Socket::connect(node.admin()).request(&Request::get("/apps"));
    let app = apps.json()["apps"][0].clone();
    assert_eq!(app["name"], "probe", "{}", apps.text());
    app
}

/// Waits until an upload to this app has its turn.
#[track_caller]
pub(crate) fn wait_for_upload(node: &Node, name: &str) {
    wait::until_true("the upload has its turn", || {
        let apps = Socket::connect(node.admin()).request(&Request::get("/apps"));
        let apps = apps.json()["apps"].take();
        let mut apps = apps.as_array().expect("a list of apps").iter();
        apps.any(|app| app["name"] == name && app["deploying"] == true)
    });
}

/// The letter of the version that answers.
#[track_caller]
pub(crate) fn answers(node: &Node) -> String {
    let letter = node.ask(json!(["version"]));
    letter.as_str().expect("a version is a text").to_owned()
}

#[test]
fn streams_stay_open_and_hear_every_event_once_while_code_is_swapped() {
    const STREAMS: usize = 20;
    const AFTER: u64 = 20;
    let node = probe::configured(ADMIN);
    let mut streams: Vec<_> = (0..STREAMS).map(|_| node.subscribe("news")).collect();
    let over = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let (mut number, mut last) = (0_u64, None);
            // Some more after the last swap.
            while last.is_none_or(|last| number < last) {
                node.publish("news", &number.to_string());
                number += 1;
                if over.load(Ordering::Relaxed) && last.is_none() {
                    last = Some(number + AFTER);
                }
                thread::sleep(Duration::from_millis(10));
            }
            number
        });
        for letter in ['b', 'c', 'a', 'd'] {
            let component = version(letter, "good");
            let answer = deployed(&node, component);
            assert_eq!(answer["app"], "probe");
            assert_eq!(answers(&node), letter.to_string());
        }
        over.store(true, Ordering::Relaxed);
        publisher.join().expect("every event is taken")
    });
    assert!(published > AFTER);
    let expected: Vec<_> = (0..published).map(|number| number.to_string()).collect();
    for stream in &mut streams {
        assert_eq!(stream.next_data(expected.len()), expected);
    }
    let state = state(&node);
    assert_eq!(state["connections"], STREAMS);
    assert_eq!(state["phase"], "serving");
    let metrics = node.metrics();
    for reason in [
        "client-gone",
        "closed",
        "inactive",
        "expired",
        "slow",
        "shutdown",
    ] {
        let series =
            format!("fanfare_connections_closed_total{{app=\"probe\",reason=\"{reason}\"}}");
        assert_eq!(metrics.value(&series), 0.0, "{reason}");
    }
    // What went before is there for whoever comes back.
    let listen = json!([["upgrade"], ["register", "news"]]);
    let mut back =
        node.open(&probe::request("", &listen).last_event_id(streams[0].last_event_id()));
    let next = node.publish("news", "next");
    assert_eq!(back.next_event().last_event_id, next);
}

#[test]
fn a_call_in_flight_finishes_on_the_code_that_it_began_with() {
    let node = probe::configured(ADMIN);
    let mut working = node.connect();
    let steps = json!([["set-text", "begun", ""], ["wait-for", "go"], ["version"]]);
    working.send(&Request::post("/run", steps.to_string()));
    node.run(json!([["wait-for", "begun"]])).all_ok();
    // Twice: neither the first nor the second that takes its place ends it.
    for letter in ['b', 'c'] {
        deployed(&node, version(letter, "good"));
        assert_eq!(answers(&node), letter.to_string());
    }
    wait::until_true("only the one that waits is in flight", || {
        state(&node)["calls"] == 1
    });
    // The registry is the app's, whichever code asks for it.
    node.run(json!([["set-text", "go", ""]])).all_ok();
    assert_eq!(working.response("POST").json()[2]["ok"], "a");
}

#[test]
fn a_call_that_goes_on_in_old_code_is_stopped_in_the_end_and_its_stream_stays() {
    let node = probe::configured(&format!(
        "{ADMIN}[apps.probe.instances]\nretire-time = \"300ms\"\n"
    ));
    let steps = json!([
        ["upgrade"],
        ["register", "news"],
        ["send", "here"],
        ["wait-for", "never"]
    ]);
    let mut stream = node.listen("stuck", steps);
    assert_eq!(stream.next_event().data, "here");
    deployed(&node, version('b', "good"));
    node.wait_for_log("have not finished within 300ms");
    node.publish("news", "after it was stopped");
    assert_eq!(stream.next_event().data, "after it was stopped");
}

#[test]
fn code_of_one_world_takes_the_place_of_code_of_the_other() {
    let node = probe::configured(ADMIN);
    let mut stream = node.subscribe("news");
    for guest in [guests::PROBE_ASYNC, guests::PROBE] {
        deployed(&node, std::fs::read(guest).expect("the guest was built"));
        node.publish("news", guest);
        assert_eq!(stream.next_event().data, guest);
    }
}

#[test]
fn hooks_for_old_streams_reach_the_new_code() {
    let node = probe::configured(ADMIN);
    let open = |name: &str| {
        let steps = json!([["upgrade"], ["register", "news"], ["send", "here"]]);
        let mut stream = node.listen(name, steps);
        assert_eq!(stream.next_event().data, "here");
        (stream, node.connection(name))
    };
    let (one, one_id) = open("one");
    one.close();
    node.wait_for_log(&format!("version a heard of the end of {one_id}"));
    let (other, other_id) = open("other");
    deployed(&node, version('b', "good"));
    other.close();
    node.wait_for_log(&format!("version b heard of the end of {other_id}"));
    assert_eq!(node.disconnection(&other_id)["times"], 1);
}

#[test]
fn code_that_cannot_serve_leaves_the_old_serving_and_says_why() {
    let node = probe::configured(&format!("{ADMIN}[apps.probe.limits]\ncpu-time = \"2s\"\n"));
    let mut stream = node.subscribe("news");
    let before = state(&node);
    let wat = |text: &str| wat::parse_str(text).expect("the text is WebAssembly");
    let half = std::fs::read(guests::PROBE).expect("the guest was built");
    let import = "(component (import \"acme:billing/invoices@1.0.0\" (instance)))";
    for (component, status, parts) in [
        (b"#!/bin/sh\n".to_vec(), 422, &["not WebAssembly"][..]),
        (Vec::new(), 422, &["not WebAssembly"]),
        (
            wat("(module)"),
            422,
            &["core WebAssembly module", "component new"],
        ),
        (half[..half.len() / 2].to_vec(), 422, &["does not compile"]),
        (wat("(component)"), 422, &["exports no `handler.handle`"]),
        (
            wat(import),
            422,
            &["does not offer", "acme:billing/invoices", "wac plug"],
        ),
        (
            version('b', "fail"),
            422,
            &["`start` answered unavailable: the moon is not full"],
        ),
        (version('b', "trap"), 422, &["`start` trapped", "no start"]),
        (version('b', "spin"), 422, &["`start`", "cpu-time", "2s"]),
    ] {
        let refused = deploy(node.admin(), component);
        assert_eq!(refused.status(), status, "{parts:?}: {}", refused.text());
        for part in parts {
            assert!(
                refused.text().contains(part),
                "{part:?}: {}",
                refused.text()
            );
        }
        assert_eq!(answers(&node), "a", "{parts:?}");
    }
    let after = state(&node);
    for same in ["version", "since", "phase", "connections"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    node.publish("news", "all is as it was");
    assert_eq!(stream.next_event().data, "all is as it was");
    let versions = Socket::connect(node.admin()).request(&Request::get("/apps/probe/versions"));
    let versions = versions.json();
    let kept = versions["versions"].as_array().map(Vec::len);
    assert_eq!(kept, Some(1), "what was refused is not kept: {versions}");
}

#[test]
fn new_code_serves_where_the_old_has_not_started() {
    let failing = version('a', "fail");
    let node = Node::config(&format!(
        "[apps.probe]\ncomponent = \"guest.wasm\"\n{ADMIN}"
    ))
    .file("guest.wasm", failing)
    .start_waiting();
    let first = state(&node);
    assert_eq!(first["phase"], "failed");
    assert!(
        first["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("the moon"))
    );
    deployed(&node, version('b', "good"));
    assert_eq!(answers(&node), "b");
    assert_eq!(state(&node)["phase"], "serving");
}

#[test]
fn delivery_goes_on_while_a_component_is_compiled() {
    let node = probe::configured(ADMIN);
    let mut stream = node.subscribe("news");
    let admin = node.admin();
    // Not in the cache of anybody who ran this before.
    let fresh = {
        let mut component = version('b', "good");
        // A section that nobody reads (id 0): its size, a name of one byte, and its content.
        let noise: [u8; 16] = std::array::from_fn(|_| rand_byte());
        component.extend([0, 18, 1, b'n']);
        component.extend(noise);
        component
    };
    let (compiled, slowest) = thread::scope(|scope| {
        let deploying = scope.spawn(move || deploy(admin, fresh));
        let (mut slowest, mut number) = (Duration::ZERO, 0);
        while !deploying.is_finished() {
            let begun = Instant::now();
            node.publish("news", &number.to_string());
            assert_eq!(stream.next_event().data, number.to_string());
            slowest = slowest.max(begun.elapsed());
            number += 1;
        }
        (deploying.join().expect("it is answered"), slowest)
    });
    assert_eq!(compiled.status(), 200, "{}", compiled.text());
    assert!(
        slowest < Duration::from_secs(3),
        "an event took {slowest:?}"
    );
}

fn rand_byte() -> u8 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(()) as u8
}

#[test]
fn the_commands_deploy_list_and_go_back() {
    let node = probe::configured(ADMIN);
    let admin = node.admin();
    let new = node.folder().join("new.wasm");
    std::fs::write(&new, version('b', "good")).expect("a file can be written");
    let deploy = |file: &std::path::Path| Cli::new(&["deploy"]).arg(file).at(admin);
    let said = deploy(&new).arg("--app").arg("probe").run();
    assert!(said.status.success(), "{}", said.stderr);
    assert!(
        said.stdout.starts_with("probe serves version "),
        "{}",
        said.stdout
    );
    assert!(
        said.stderr.contains("--data"),
        "it does not last: {}",
        said.stderr
    );
    assert_eq!(answers(&node), "b");

    let apps = Cli::new(&["apps"]).at(admin).good();
    let serves = state(&node)["version"].as_str().expect("a text")[..12].to_owned();
    let lines: Vec<_> = apps.lines().collect();
    assert!(lines[0].starts_with("app ") && lines.len() == 2, "{apps}");
    for part in ["probe", "/", "serving", &serves] {
        assert!(lines[1].contains(part), "{part:?}: {apps}");
    }
    let versions = Cli::new(&["apps", "--app", "probe"]).at(admin).good();
    let serving: Vec<_> = versions
        .lines()
        .filter(|line| line.contains("serves "))
        .collect();
    assert!(
        serving.len() == 1 && serving[0].contains(&serves),
        "{versions}"
    );
    for part in ["configured", "deployed", "until the node ends"] {
        assert!(versions.contains(part), "{part:?}: {versions}");
    }

    let back = |more: &[&str]| {
        let command = more.iter().fold(
            Cli::new(&["rollback", "--app", "probe"]),
            |command, argument| command.arg(argument),
        );
        command.at(admin)
    };
    let said = back(&[]).good();
    assert!(said.contains(&format!("before it, {serves}")), "{said}");
    assert_eq!(answers(&node), "a");
    assert!(
        back(&[])
            .refused()
            .contains("no version that served before")
    );
    back(&["--to", &serves]).good();
    assert_eq!(answers(&node), "b");
    let refused = back(&["--to", "ffffffffffff"]).refused();
    assert!(
        refused.contains("no version that begins with ffffffffffff"),
        "{refused}"
    );

    // The reason is on the screen of whoever deploys, all of it.
    std::fs::write(&new, version('c', "trap")).expect("a file can be written");
    let refused = deploy(&new).arg("--app").arg("probe").refused();
    for part in [
        "probe goes on serving version",
        &serves,
        "`start` trapped",
        "no start",
    ] {
        assert!(refused.contains(part), "{part:?}: {refused}");
    }
    let refused = deploy(&new).arg("--app").arg("other").refused();
    assert!(
        refused.contains("no app \"other\"") && refused.contains("probe"),
        "{refused}"
    );
    let refused = deploy(&node.folder().join("nowhere.wasm"))
        .arg("--app")
        .arg("probe")
        .refused();
    assert!(refused.contains("nowhere.wasm cannot be read"), "{refused}");
    assert_eq!(answers(&node), "b");

    drop(node);
    let refused = Cli::new(&["apps"]).at(admin).refused();
    assert!(
        refused.contains("cannot connect") && refused.contains("--admin"),
        "{refused}"
    );
}
