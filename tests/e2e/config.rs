//! `fanfare.toml`: its mistakes, its routes, its variables; and the log.

use fanfare_tests::node::{Ended, Node, Setup};
use serde_json::{Value, json};

use crate::{
    guests,
    probe::{self, Probe},
};

/// Runs a node with this configuration, which has to be refused, and returns what it says.
fn refusal(toml: &str) -> String {
    failed(Node::config(toml).arg("--listen").arg("127.0.0.1:0").run())
}

fn failed(ended: Ended) -> String {
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "nothing is served");
    ended.stderr
}

/// A table for the probe under a name and a route.
fn app(name: &str, route: &str) -> String {
    format!(
        "[apps.{name}]\ncomponent = {:?}\nroute = {route:?}\n",
        guests::PROBE
    )
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    for (toml, parts) in [
        ("[apps.a\n", &["fanfare.toml:1:8"][..]),
        ("[apps.a]\ncomponent = a.wasm\n", &["fanfare.toml:2:13"]),
        (
            "[apps.a]\ncomponent = \"a.wasm\"\nruote = \"/a\"\n",
            &["fanfare.toml:3:1", "apps.a.ruote", "did you mean `route`"],
        ),
        (
            "[apps.a]\nroute = \"/a\"\n",
            &["fanfare.toml:1:", "apps.a", "component"],
        ),
        (
            "[apps.a]\ncomponent = 7\n",
            &["fanfare.toml:2:13", "apps.a.component"],
        ),
        (
            "[apps.a]\ncomponent = \"a\"\nroute = \"a\"\n",
            &["fanfare.toml:3:9", "apps.a.route", "/"],
        ),
        (
            "[apps.a]\ncomponent = \"a\"\nroute = \"/healthz\"\n",
            &["fanfare.toml:3:9", "/healthz"],
        ),
        ("[apps.A_]\ncomponent = \"a\"\n", &["fanfare.toml:1:", "A_"]),
        (
            "[apps.a]\ncomponent = \"a\"\n[apps.a.limits]\nmemory = \"1 stone\"\n",
            &["fanfare.toml:4:10", "apps.a.limits.memory"],
        ),
        (
            "[apps.a]\ncomponent = \"a\"\n[apps.a.streams]\nping-interval = \"5ms\"\n",
            &["fanfare.toml:4:17", "ping-interval", "100ms"],
        ),
        (
            "[apps.a]\ncomponent = \"a\"\n[apps.a.streams]\nallowed-origins = [\"*\", \"x\"]\n",
            &["fanfare.toml:4:25", "allowed-origins[1]"],
        ),
        (
            "[apps.a]\ncomponent = \"a\"\n[apps.a.capabilities]\nbrokers = [\"no\"]\n",
            &["fanfare.toml:4:12", "no"],
        ),
        (
            "[listen]\naddress = \"localhost\"\n",
            &["fanfare.toml:2:11", "listen.address"],
        ),
        (
            "[log]\nlevel = \"fanfare=loud\"\n[apps.a]\ncomponent = \"a\"\n",
            &["log.level", "loud"],
        ),
        (
            "[apps.a]\ncomponent = \"${FANFARE_NOWHERE}\"\n",
            &["fanfare.toml:2:13", "FANFARE_NOWHERE"],
        ),
    ] {
        let said = refusal(toml);
        for part in parts {
            assert!(said.contains(part), "{toml}: {part:?} is not in {said:?}");
        }
    }
}

#[test]
fn a_node_without_apps_says_so() {
    let node = Node::config("").arg("--listen").arg("127.0.0.1:0").spawn();
    node.wait_for_log("no app is configured");
    node.stop();
}

#[test]
fn all_mistakes_are_told_at_once() {
    let said = refusal(
        "[apps.a]\ncomponent = \"a\"\nroute = \"a\"\n[apps.b]\ncomponent = \"b\"\nroute = \"b\"\n",
    );
    assert!(
        said.contains("fanfare.toml:3:9") && said.contains("fanfare.toml:6:9"),
        "{said}"
    );
}

#[test]
fn all_mistakes_of_form_are_told_at_once() {
    let said =
        refusal("[apps.a]\ncomponent = 7\nruote = \"/\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n");
    for part in [
        "fanfare.toml:2:13: apps.a.component",
        "fanfare.toml:3:1: apps.a.ruote",
        "fanfare.toml:4:1: listen: ",
        "write `[listen]`",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn files_that_are_not_there_are_told_with_their_places_before_anything_listens() {
    let said = refusal(
        "[node]\ndata = \"fanfare.toml\"\n\
         [listen.tls]\ncertificate = \"c.pem\"\nkey = \".\"\n\
         [redis]\nca-file = \"r.pem\"\n[admin]\naddress = \"127.0.0.1:0\"\n[apps.a]\ncomponent = \"nowhere.wasm\"\n\
         [apps.a.http]\nca-file = \"h.pem\"\n",
    );
    for part in [
        "fanfare.toml:2:8: node.data: is no folder",
        "fanfare.toml:4:15: listen.tls.certificate: there is no such file",
        "fanfare.toml:5:7: listen.tls.key: is a folder",
        "fanfare.toml:7:11: redis.ca-file: there is no such file",
        "fanfare.toml:11:13: apps.a.component: there is no such file",
        "fanfare.toml:13:11: apps.a.http.ca-file: there is no such file",
        "(it is \"nowhere.wasm\")",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert!(!said.contains("listening"), "{said}");
}

#[test]
fn files_of_the_command_line_are_told_before_anything_listens() {
    let with_admin = |setup: Setup| failed(setup.arg("--admin").arg("127.0.0.1:0").run());
    for guest in ["nowhere.wasm", "."] {
        let said = with_admin(Node::serve(guest));
        let start = format!("fanfare: {guest}: cannot be read: ");
        assert!(said.starts_with(&start), "{said}");
    }
    let setup = Node::serve(guests::PROBE).file("taken", "");
    let said = with_admin(setup.arg("--data").arg("taken"));
    assert!(
        said.starts_with("fanfare: --data taken: is no folder"),
        "{said}"
    );
}

#[test]
fn a_route_that_is_taken_is_refused_and_both_apps_named() {
    let said = refusal(&format!("{}{}", app("one", "/a"), app("two", "/a")));
    for part in ["fanfare.toml:", "apps.two.route", "one"] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

#[test]
fn without_a_file_the_other_way_is_told() {
    let ended = Node::bare().arg("--listen").arg("127.0.0.1:0").run();
    let said = failed(ended);
    assert!(
        said.contains("there is no fanfare.toml") && said.contains("fanfare serve GUEST.wasm"),
        "{said}"
    );
}

#[test]
fn paths_start_at_the_folder_of_the_file() {
    let guest = std::fs::read(guests::PROBE).expect("the guest was built");
    let node = Node::config("[apps.a]\ncomponent = \"near.wasm\"")
        .file("near.wasm", guest)
        .start();
    assert_eq!(node.get("/page").status(), 200);
}

#[test]
fn values_come_from_the_environment() {
    let toml = "[apps.a.variables]\ngiven = \"<${GIVEN}>\"\ndefault = \"${NOT_GIVEN:-else}\"\nliteral = \"$${GIVEN}\"\n";
    let node = Node::config(&format!("{}{toml}", app("a", "/")))
        .env("GIVEN", "a \"b\" = ]")
        .start();
    let all = json!([
        ["default", "else"],
        ["given", "<a \"b\" = ]>"],
        ["literal", "${GIVEN}"]
    ]);
    assert_eq!(node.ask(json!(["config-all"])), all);
}

#[test]
fn the_longest_route_wins_and_the_guest_sees_what_is_below_it() {
    let toml = [
        app("root", "/"),
        app("chat", "/chat"),
        app("admin", "/chat/admin"),
    ]
    .concat();
    let node = Node::config(&toml).start();
    let printed = node.printed().join("\n");
    for (name, route) in [("root", "/"), ("chat", "/chat/"), ("admin", "/chat/admin/")] {
        assert!(
            printed.contains(&format!(
                "{name} is served at http://{}{route}",
                node.address
            )),
            "{printed}"
        );
    }
    for (path, route, below) in [
        ("/", "", "/"),
        ("/x/y", "", "/x/y"),
        ("/chats", "", "/chats"),
        ("/chat", "/chat", "/"),
        ("/chat/", "/chat", "/"),
        ("/chat/administrator", "/chat", "/administrator"),
        ("/chat/admin", "/chat/admin", "/"),
        ("/chat/admin/x//y/?q", "/chat/admin", "/x//y/"),
        ("/%63hat", "", "/%63hat"),
    ] {
        let seen = node
            .post(
                path,
                json!([["request.route"], ["request.path"]]).to_string(),
            )
            .json();
        assert_eq!(
            (&seen[0]["ok"], &seen[1]["ok"]),
            (&json!(route), &json!(below)),
            "{path}"
        );
    }
}

#[test]
fn health_is_the_nodes_own() {
    let node = probe::start();
    for path in ["/healthz", "/readyz"] {
        let health = node.get(path);
        assert_eq!((health.status(), health.text()), (200, "ok\n"));
    }
}

#[test]
fn what_guests_print_is_logged_with_app_request_and_stream() {
    let node = Node::serve(guests::PROBE).start();
    let answer = node.post(
        "/run",
        json!([
            ["print", "to stdout"],
            ["print-error", "to stderr\nin two lines"]
        ])
        .to_string(),
    );
    let id = answer.header("x-request-id").expect("an id");
    let app = "app=probe";
    for (text, level, stream) in [
        ("to stdout", "INFO", "stdout"),
        ("to stderr", "WARN", "stderr"),
        ("in two lines", "WARN", "stderr"),
    ] {
        let line = node.wait_for_log(text);
        for part in [level, app, id, stream] {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }
}

#[test]
fn a_log_in_json_is_one_document_a_line() {
    let node = Node::serve(guests::PROBE).arg("--log").arg("json").start();
    let steps = json!([
        ["print", "a \"quoted\" line \u{1b}[31m"],
        ["request.respond", {}],
        ["fail", "other", "as told"]
    ]);
    let answer = node.post("/run", steps.to_string());
    let id = answer.header("x-request-id").expect("an id").to_owned();
    node.wait_for_log("as told");
    node.wait_for_log("quoted");
    let ended = node.stop();
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of = |part: &str| {
        let line = lines.iter().find(|line| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.contains(part))
        });
        line.unwrap_or_else(|| panic!("{part:?} is not in {lines:?}"))
    };
    for (part, level) in [("quoted", "INFO"), ("as told", "ERROR")] {
        let line = of(part);
        assert_eq!(line["level"], level);
        assert!(line["timestamp"].is_string());
        assert_eq!(
            (&line["span"]["app"], &line["span"]["request"]),
            (&json!("probe"), &json!(id)),
            "{line}"
        );
    }
    assert_eq!(of("quoted")["message"], "a \"quoted\" line \u{1b}[31m");
}

#[test]
fn the_log_has_the_configured_level_and_form() {
    let node = probe::configured("[log]\nlevel = \"error\"\nformat = \"json\"");
    node.run(json!([["print", "hidden"], ["print-error", "hidden too"]]));
    node.post("/run", json!([["fail", "other", "shown"]]).to_string());
    let line = node.wait_for_log("shown");
    assert!(
        serde_json::from_str::<Value>(&line).is_ok_and(|line| line["span"]["app"] == "probe"),
        "{line}"
    );
    assert_eq!(node.log().len(), 1, "{:?}", node.log());
}

#[test]
fn secrets_stand_in_no_log_and_in_no_answer_of_the_host() {
    let secret = "hunter2-hunter2";
    let toml = format!(
        "[node]\ndevelopment = true\n{}[apps.a.variables]\ntoken = {{ value = \"${{TOKEN}}\", secret = true }}\nplain = \"shown\"\n[log]\nlevel = \"trace\"\n",
        app("a", "/")
    );
    let node = Node::config(&toml).env("TOKEN", secret).start();
    assert_eq!(
        node.ask(json!(["config", "token"])),
        secret,
        "the guest itself may read it"
    );
    node.run(json!([
        ["print", format!("out {secret} plain shown")],
        ["print-error", format!("err {secret}")]
    ]));
    let line = node.wait_for_log("plain shown");
    assert!(line.contains("out [secret] plain shown"), "{line}");
    let failed = node.post(
        "/run",
        json!([["fail", "other", format!("error {secret}")]]).to_string(),
    );
    assert!(
        failed.text().contains("error [secret]"),
        "{}",
        failed.text()
    );
    let trapped = node.post(
        "/run",
        json!([["panic", format!("trap {secret}")]]).to_string(),
    );
    assert!(
        trapped.text().contains("trap [secret]"),
        "{}",
        trapped.text()
    );
    let ended = node.stop();
    assert!(
        !ended.stderr.contains(secret) && !ended.stdout.contains(secret),
        "{}",
        ended.stderr
    );
}
