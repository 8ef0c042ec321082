//! Instances: what lasts in one from a call to the next, and what ends with it.

use std::{
    thread,
    time::{Duration, Instant},
};

use fanfare_tests::{
    client::{Request, Socket},
    node::Node,
    wait,
};

use crate::guests;

/// The hostile guest of the blocking world, with so many calls in an instance.
fn blocking(calls: usize) -> Node {
    Node::config(&format!(
        "[node]\ndevelopment = true\n[admin]\naddress = \"127.0.0.1:0\"\n[apps.hostile]\ncomponent = {:?}\n\
         [apps.hostile.limits]\ncpu-time = \"2s\"\n[apps.hostile.instances]\ncalls = {calls}\n",
        guests::HOSTILE
    ))
    .start()
}

/// The hostile guest of the asynchronous world, in one instance, with these limits and settings of the instance.
fn asynchronous(limits: &str, instances: &str) -> Node {
    Node::config(&format!(
        "[node]\ndevelopment = true\n[admin]\naddress = \"127.0.0.1:0\"\n[log]\nlevel = \"info,fanfare=debug\"\n\
         [apps.hostile]\ncomponent = {:?}\n[apps.hostile.limits]\n{limits}\n\
         [apps.hostile.instances]\ncount = 1\n{instances}\n",
        guests::HOSTILE_ASYNC
    ))
    .start()
}

/// Which call of its instance this one was.
#[track_caller]
fn calls(node: &Node) -> usize {
    let answer = node.get("/calls");
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text().parse().expect("a number")
}

/// As [`calls`], of a guest of the blocking world, whose instance is free for another call when this returns: an answer
/// comes before its handler returns.
#[track_caller]
fn calls_in_turn(node: &Node) -> usize {
    let calls = calls(node);
    wait_idle(node);
    calls
}

/// Waits until no call is in flight.
#[track_caller]
fn wait_idle(node: &Node) {
    wait_for_calls(node, "hostile", 0.0);
}

/// Waits until so many calls of an app are in flight. Those that wait for a place are none of them.
#[track_caller]
pub(crate) fn wait_for_calls(node: &Node, app: &str, calls: f64) {
    let series = format!("fanfare_calls{{app=\"{app}\"}}");
    wait::until_true("so many calls are in flight", || {
        node.metrics().value(&series) == calls
    });
}

/// A call that waits in the instance of the asynchronous guest until it is told to go.
fn parked(node: &Node, name: &str) -> Socket {
    let mut socket = node.connect();
    socket.send(&Request::get(&format!("/park?as={name}")));
    wait_for(node, name);
    socket
}

/// Waits until a call of the asynchronous guest has left a word in the registry.
#[track_caller]
fn wait_for(node: &Node, name: &str) {
    wait::until_true("the registry has the word", || {
        node.get(&format!("/has?as={name}")).text() == "true"
    });
}

// === the blocking world ===

#[test]
fn a_call_finds_nothing_of_the_one_before_it() {
    let node = blocking(0);
    assert_eq!([(); 3].map(|()| calls_in_turn(&node)), [1, 1, 1]);
}

#[test]
fn statics_last_for_as_many_calls_as_an_instance_serves() {
    let node = blocking(3);
    // `start` was the first.
    assert_eq!([(); 6].map(|()| calls_in_turn(&node)), [1, 2, 1, 2, 3, 1]);
}

#[test]
fn an_instance_that_has_failed_serves_no_other_call() {
    let node = blocking(100);
    calls_in_turn(&node);
    for path in ["/panic", "/recursion", "/memory", "/loop", "/handle-flood"] {
        // It is the instance that this call runs in: the last used is the first to be used again.
        assert_eq!(node.get(path).status(), 500);
        wait_idle(&node);
        assert_eq!(calls_in_turn(&node), 1, "{path}");
    }
    // An error of the guest's own is an answer like any other.
    assert_eq!(node.get("/error").status(), 500);
    wait_idle(&node);
    assert_eq!(calls_in_turn(&node), 3);
}

#[test]
fn an_instance_that_nobody_calls_gives_back_its_memory() {
    /// Less than the guest keeps, and more than the node takes otherwise meanwhile.
    const SOME: usize = 16 << 20;
    let node = blocking(100);
    calls_in_turn(&node);
    let before = node.memory();
    assert_eq!(node.get("/keep").text(), "kept");
    wait_idle(&node);
    assert!(node.memory() > before + SOME, "what is kept is in memory");
    wait::until_true("the instance is given up", || node.memory() < before + SOME);
    assert_eq!(calls_in_turn(&node), 1);
}

// === the asynchronous world ===

#[test]
fn statics_are_shared_by_the_calls_of_an_instance() {
    let node = asynchronous("", "");
    assert_eq!([(); 3].map(|()| calls(&node)), [1, 2, 3]);
}

#[test]
fn calls_share_the_fate_of_their_instance() {
    for (path, limits, why) in [
        ("/panic", "", "trapped"),
        ("/loop", "cpu-time = \"2s\"", "`cpu-time` of 2s"),
        ("/memory", "memory = \"8MiB\"", "`memory` of 8388608 bytes"),
        (
            "/handle-flood",
            "handles = 16\ncalls = 10",
            "`handles` of 16",
        ),
    ] {
        let node = asynchronous(limits, "");
        let mut sockets = vec![parked(&node, "first"), parked(&node, "second")];
        let mut culprit = node.connect();
        culprit.send(&Request::get(path));
        sockets.push(culprit);
        for socket in &mut sockets {
            let answer = socket.response("GET");
            assert_eq!(answer.status(), 500, "{path}");
            for part in ["instance 0", why] {
                assert!(answer.text().contains(part), "{path}: {}", answer.text());
            }
            // Each has its own line, which says where to look.
            let id = answer.header("x-request-id").expect("an id");
            wait::until_true("the log says so under its id", || {
                let log = node.log();
                let mut lines = log.iter().filter(|line| line.contains(id));
                lines.any(|line| line.contains("ended with instance 0"))
            });
        }
        // The reason itself stands there once, and is counted once.
        let line = node.wait_for_log("an instance ");
        for part in [why, "instance=0", "app=hostile"] {
            assert!(line.contains(part), "{path}: {line}");
        }
        if let Some(limit) = why.strip_prefix('`').and_then(|why| why.split('`').next()) {
            let series =
                format!("fanfare_limits_reached_total{{app=\"hostile\",limit=\"{limit}\"}}");
            assert_eq!(node.metrics().value(&series), 1.0, "{path}");
        }
        // What comes next has an instance of its own.
        assert_eq!(calls(&node), 1, "{path}");
    }
}

#[test]
fn an_overdue_call_retires_its_instance_and_the_others_in_it_finish() {
    let node = asynchronous("wall-time = \"10s\"", "");
    let mut overdue = node.connect();
    overdue.send(&Request::get("/sleep"));
    // One that comes later has time left when that one has none, and it comes early enough to be beside that one.
    thread::sleep(Duration::from_secs(5));
    let mut other = parked(&node, "other");
    let answer = overdue.response("GET");
    assert_eq!(answer.status(), 500);
    assert!(
        answer.text().contains("10s (limit `wall-time`)"),
        "{}",
        answer.text()
    );
    assert_eq!(calls(&node), 1, "the instance is to get no more calls");
    assert_eq!(node.get("/go").text(), "gone");
    let answer = other.response("GET");
    assert_eq!((answer.status(), answer.text()), (200, "parked"));
    let line = node.wait_for_log("the instance has served its calls");
    assert!(line.contains("instance=0"), "{line}");
    assert_eq!(calls(&node), 3);
}

#[test]
fn an_instance_that_its_guest_freezes_is_given_up_when_the_time_of_a_call_is_over() {
    // `start` and the next call have no more time.
    let node = asynchronous("wall-time = \"5s\"\ncpu-time = \"2s\"", "");
    let answer = node.get("/freeze");
    assert_eq!(answer.status(), 500);
    assert!(answer.text().contains("`wall-time`"), "{}", answer.text());
    assert_eq!(calls(&node), 1, "the next call has a new instance");
}

#[test]
fn a_trap_with_one_call_in_the_instance_is_shown_whole() {
    let node = asynchronous("", "");
    let text = node.get("/panic").text().to_owned();
    for part in ["the handler trapped", "one for all", "src/lib.rs:"] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
}

#[test]
fn work_goes_on_in_an_instance_that_gets_no_more_calls() {
    let node = asynchronous("", "calls = 20");
    assert_eq!(node.get("/beside?as=begun").text(), "begun");
    wait_for(&node, "begun");
    wait::until_true("it gets no more calls", || calls(&node) == 1);
    assert_eq!(node.get("/go").text(), "gone");
    wait_for(&node, "beside");
}

#[test]
fn a_call_that_waits_for_the_end_of_its_stream_hears_of_it_soon() {
    let node = asynchronous("", "");
    let mut stream = node.events("/closed?as=end");
    assert_eq!(stream.next_event().data, "hello");
    let closed = Instant::now();
    stream.close();
    wait_for(&node, "end");
    // There is no ping that could have found the socket closed.
    let elapsed = closed.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
}
