//! The limits of an app: a guest that runs into one is told which, and it is counted.

use fanfare::guest::limits::Limit;
use fanfare_tests::{client::Request, node::Node, wait};

use crate::{guests, instances::wait_for_calls};

/// A limit that is set low, and a guest that runs into it.
struct Case {
    /// The settings.
    limits: &'static str,
    /// How somebody is told who looks for the cause: the name of the setting with its value.
    told: &'static str,
    /// Runs into it, and returns what the client or the log was told.
    run_into: fn(&Node) -> String,
}

/// There is one for every limit that a host knows.
fn case(limit: Limit) -> Case {
    match limit {
        Limit::Memory => Case {
            limits: "memory = \"8MiB\"",
            told: "`memory` of 8388608 bytes",
            run_into: |node| failure(node, "/memory"),
        },
        Limit::TotalMemory => Case {
            limits: "memory = \"8MiB\"\ntotal-memory = \"8MiB\"",
            told: "`total-memory` of 8388608 bytes",
            run_into: |node| {
                // Each has a stack of a megabyte.
                let mut held: Vec<_> = (0..8).map(|_| node.connect()).collect();
                for socket in &mut held {
                    socket.send(&Request::get("/sleep"));
                }
                wait::until("a call finds no memory", || {
                    let answer = node.get("/well");
                    (answer.status() == 500).then(|| answer.text().to_owned())
                })
            },
        },
        Limit::CpuTime => Case {
            // `start` has no more.
            limits: "cpu-time = \"500ms\"",
            told: "`cpu-time` of 500ms",
            run_into: |node| failure(node, "/loop"),
        },
        Limit::WallTime => Case {
            limits: "wall-time = \"1s\"",
            told: "1s (limit `wall-time`)",
            run_into: |node| failure(node, "/sleep"),
        },
        Limit::Calls => Case {
            limits: "calls = 1\nwaiting-calls = 1\nqueue-time = \"100ms\"",
            told: "`calls` of 1",
            run_into: |node| {
                let mut held = node.connect();
                held.send(&Request::get("/sleep"));
                wait_for_calls(node, "hostile", 1.0);
                let answer = node.get("/well");
                assert_eq!(answer.status(), 503, "{}", answer.text());
                answer.text().to_owned()
            },
        },
        Limit::Connections => Case {
            limits: "connections = 2",
            told: "`connections` of 2",
            run_into: |node| {
                let _open = [node.events("/upgrade"), node.events("/upgrade")];
                let answer = node.get("/upgrade");
                assert_eq!(answer.status(), 503);
                answer.text().to_owned()
            },
        },
        Limit::ChannelsPerConnection => Case {
            limits: "channels-per-connection = 3",
            told: "`channels-per-connection` of 3",
            run_into: |node| node.events("/channels").next_event().data,
        },
        Limit::EventData => Case {
            limits: "memory = \"128MiB\"\nevent-data = \"64KiB\"",
            told: "`event-data` of 65536 bytes",
            run_into: |node| failure(node, "/huge-data"),
        },
        Limit::ResponseBody => Case {
            limits: "memory = \"128MiB\"\nresponse-body = \"64KiB\"",
            told: "`response-body` of 65536",
            run_into: |node| failure(node, "/huge-answer"),
        },
        Limit::RegistryEntries => Case {
            limits: "registry-entries = 100",
            told: "`registry-entries` of 100",
            run_into: |node| failure(node, "/registry-entries"),
        },
        Limit::RegistryBytes => Case {
            limits: "registry-bytes = \"1MiB\"",
            told: "`registry-bytes` of 1048576",
            run_into: |node| failure(node, "/registry-flood"),
        },
        Limit::Handles => Case {
            limits: "handles = 16",
            told: "`handles` of 16",
            run_into: |node| failure(node, "/handle-flood"),
        },
        Limit::HostCallBytes => Case {
            limits: "memory = \"128MiB\"\nhost-call-bytes = \"10MiB\"\nresponse-body = \"1MiB\"\n\
                     registry-bytes = \"1MiB\"",
            told: "`host-call-bytes` of 10485760",
            run_into: |node| failure(node, "/huge-name"),
        },
        Limit::LogLines => Case {
            limits: "log-lines = 10\ncpu-time = \"10s\"",
            told: "`log-lines` of 10 a second",
            run_into: |node| {
                assert_eq!(node.get("/log-flood").status(), 500);
                node.wait_for_log("log-lines")
            },
        },
    }
}

/// The guest `hostile` in development, with these limits, and a page of metrics.
fn hostile(limits: &str) -> Node {
    Node::config(&format!(
        "[node]\ndevelopment = true\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [apps.hostile]\ncomponent = {:?}\n[apps.hostile.limits]\n{limits}\n",
        guests::HOSTILE
    ))
    .start()
}

/// What the client of a call that fails is told.
#[track_caller]
fn failure(node: &Node, path: &str) -> String {
    let answer = node.get(path);
    assert_eq!(answer.status(), 500, "{path}: {}", answer.text());
    answer.text().to_owned()
}

/// How often a limit was reached.
fn reached(node: &Node, limit: Limit) -> f64 {
    node.metrics().value(&format!(
        "fanfare_limits_reached_total{{app=\"hostile\",limit=\"{}\"}}",
        limit.name()
    ))
}

#[test]
fn each_limit_is_told_by_its_name_and_counted() {
    for limit in Limit::ALL {
        let Case {
            limits,
            told,
            run_into,
        } = case(limit);
        let node = hostile(limits);
        let text = run_into(&node);
        assert!(text.contains(told), "{limit}: {told:?} is not in {text:?}");
        for other in Limit::ALL {
            assert_eq!(
                reached(&node, other) > 0.0,
                other == limit,
                "{other}, where {limit} was reached"
            );
        }
    }
}

#[test]
fn what_is_left_out_of_the_log_is_counted() {
    /// What the guest prints.
    const LINES: usize = 2000;
    let node = hostile("log-lines = 10\ncpu-time = \"10s\"");
    assert_eq!(node.get("/log-flood").status(), 500);
    let count = |part: &str| node.log().iter().filter(|line| line.contains(part)).count();
    // The failure of the handler, which answers nothing, is a line that may be left out as well.
    wait::until_true("every line is logged or counted", || {
        let left_out = reached(&node, Limit::LogLines) as usize;
        (LINES..=LINES + 1).contains(&(count("guest: flood ") + left_out))
    });
    // Ten in each second that it took, and one word of what is left out.
    let (printed, told) = (count("guest: flood "), count("log-lines"));
    assert!((10..LINES / 2).contains(&printed), "{printed}");
    assert!((1..=printed / 10 + 1).contains(&told), "{told}");
}

#[test]
fn the_log_says_once_in_a_while_that_clients_are_turned_away() {
    let node = hostile("connections = 1");
    let _open = node.events("/upgrade");
    for _ in 0..3 {
        assert_eq!(node.get("/upgrade").status(), 503);
    }
    let told = "clients are turned away: the app's limit `limits.connections` is reached";
    let line = node.wait_for_log(told);
    assert!(line.contains("app=\"hostile\""), "{line}");
    let ended = node.stop();
    assert_eq!(ended.stderr.matches(told).count(), 1, "{}", ended.stderr);
}

#[test]
fn a_call_within_its_limits_reaches_none() {
    let node = hostile("");
    assert_eq!(node.get("/well").text(), "well");
    let mut stream = node.events("/upgrade");
    assert_eq!(stream.next_event().data, "hello");
    for limit in Limit::ALL {
        assert_eq!(reached(&node, limit), 0.0, "{limit}");
    }
}
