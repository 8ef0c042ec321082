//! Who may deploy, how much, how fast and how often; and what becomes of uploads that break off.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
};

use fanfare_tests::{
    cli::Cli,
    client::{Request, Socket},
    metrics::Metrics,
    node::{Node, Setup},
    upstream::Upstream,
    wait,
};
use serde_json::json;

use crate::{
    deploy::{ADMIN, answers, deploy, deploy_request, deployed, wait_for_upload},
    guests,
    probe::{self, version},
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const BEARER: &str = "Bearer 0123456789abcdef0123456789abcdef";

/// A node in production with an admin listener, and this in the table of it.
fn production(admin: &str) -> Setup {
    probe::setup(&format!("[admin]\naddress = \"127.0.0.1:0\"\n{admin}\n"))
}

#[track_caller]
fn status(node: &Node, request: &Request) -> u16 {
    let answer = Socket::connect(node.admin()).request(request);
    answer.status()
}

#[test]
fn with_a_token_nobody_is_answered_without_it_but_for_health() {
    let token = format!("token = \"{TOKEN}\"");
    let from_environment = production("").env("FANFARE_ADMIN_TOKEN", TOKEN);
    let from_file = production("token = \"${SOME_TOKEN}\"").env("SOME_TOKEN", TOKEN);
    for setup in [production(&token), from_environment, from_file] {
        let node = setup.start();
        let back =
            || Request::post("/apps/probe/rollback", "").header("content-type", "application/json");
        for request in [
            Request::get("/metrics"),
            Request::get("/apps"),
            Request::get("/apps/probe/versions"),
            Request::get("/nothing"),
            deploy_request(version('b', "good")),
            back(),
        ] {
            for wrong in [
                request.clone(),
                request
                    .clone()
                    .header("authorization", "Bearer 0123456789abcdef"),
                request
                    .clone()
                    .header("authorization", &BEARER.replace("Bearer", "Basic")),
                request
                    .clone()
                    .header("authorization", &BEARER.to_uppercase()),
            ] {
                let refused = Socket::connect(node.admin()).request(&wrong);
                assert_eq!(refused.status(), 401, "{wrong:?}");
                assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
            }
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(status(&node, &Request::get(path)), 200, "{path}");
        }
        let metrics = Request::get("/metrics").header("authorization", BEARER);
        assert_eq!(status(&node, &metrics), 200);
        assert_eq!(answers(&node), "a");
        let deploy = deploy_request(version('b', "good")).header("authorization", BEARER);
        assert_eq!(status(&node, &deploy), 200);
        assert_eq!(answers(&node), "b");
        assert_eq!(status(&node, &back().header("authorization", BEARER)), 200);
        assert!(!node.log().join("\n").contains(TOKEN));
    }
}

#[test]
fn without_a_token_a_node_in_production_takes_no_deploys() {
    let node = production("").start();
    let refused = deploy(node.admin(), version('b', "good"));
    assert_eq!(refused.status(), 403);
    for part in ["admin.token", "FANFARE_ADMIN_TOKEN"] {
        assert!(
            refused.text().contains(part),
            "{part:?}: {}",
            refused.text()
        );
    }
    assert_eq!(answers(&node), "a");
    assert_eq!(status(&node, &Request::get("/apps")), 200, "it may be read");
}

#[test]
fn no_page_can_deploy() {
    let node = probe::configured(ADMIN);
    let component = || version('b', "good");
    let rollback = |body: &str| Request::post("/apps/probe/rollback", body);
    for (request, expected) in [
        // What a browser sends of itself.
        (Request::new("OPTIONS", "/apps/probe/component"), 405),
        (
            deploy_request(component()).header("origin", "http://localhost:3000"),
            403,
        ),
        (deploy_request(component()).header("origin", "null"), 403),
        // What a page may send unasked has other types, or none.
        (
            Request::new("PUT", "/apps/probe/component").body(component()),
            415,
        ),
        (
            Request::new("PUT", "/apps/probe/component")
                .header("content-type", "text/plain")
                .body(component()),
            415,
        ),
        (rollback(""), 415),
        (rollback("{}").header("content-type", "text/plain"), 415),
        (
            rollback("{}")
                .header("content-type", "application/json")
                .header("origin", "http://127.0.0.1"),
            403,
        ),
        // Under a name of its own.
        (
            deploy_request(component()).header("host", "example.org"),
            421,
        ),
    ] {
        let refused = Socket::connect(node.admin()).request(&request);
        assert_eq!(
            refused.status(),
            expected,
            "{:?} {}",
            request.headers,
            refused.text()
        );
        let allows = refused
            .head
            .headers
            .iter()
            .find(|(name, _)| name.starts_with("access-control"));
        assert_eq!(allows, None);
    }
    assert_eq!(answers(&node), "a");
}

#[test]
fn what_is_asked_of_no_app_or_in_the_wrong_way_is_told() {
    let node = probe::configured(ADMIN);
    let ask = |request: Request| Socket::connect(node.admin()).request(&request);
    let other = Request::new("PUT", "/apps/other/component")
        .header("content-type", "application/wasm")
        .body(version('b', "good"));
    let back =
        Request::post("/apps/other/rollback", "{}").header("content-type", "application/json");
    for request in [other, back, Request::get("/apps/other/versions")] {
        let refused = ask(request);
        assert_eq!(refused.status(), 404);
        assert!(
            refused.text().contains("no app \"other\""),
            "{}",
            refused.text()
        );
        assert!(
            refused.text().contains("there is probe"),
            "{}",
            refused.text()
        );
    }
    for (method, path, allow) in [
        ("POST", "/apps", "GET, HEAD"),
        ("DELETE", "/apps/probe/versions", "GET, HEAD"),
        ("GET", "/apps/probe/component", "PUT"),
        ("PUT", "/apps/probe/rollback", "POST"),
    ] {
        let refused = ask(Request::new(method, path));
        assert_eq!(
            (refused.status(), refused.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
    }
    for path in [
        "/apps/",
        "/apps/probe",
        "/apps//component",
        "/apps/probe/component/",
        "/apps/a/b/versions",
    ] {
        assert_eq!(ask(Request::get(path)).status(), 404, "{path}");
    }
    for body in ["[]", "{\"to\": 1}", "{\"version\": \"ab\"}", "\u{0}"] {
        let request =
            Request::post("/apps/probe/rollback", body).header("content-type", "application/json");
        assert_eq!(ask(request).status(), 400, "{body}");
    }
    let large = json!({ "to": "a".repeat(2000) }).to_string();
    let request =
        Request::post("/apps/probe/rollback", large).header("content-type", "application/json");
    assert_eq!(ask(request).status(), 413);
}

#[test]
fn an_upload_is_bounded_in_size_and_in_time() {
    let node = probe::configured(&format!("{ADMIN}upload-bytes = \"64KiB\"\n"));
    let large = deploy(node.admin(), vec![0; 65 << 10]);
    assert_eq!(large.status(), 413);
    assert!(
        large.text().contains("admin.upload-bytes"),
        "{}",
        large.text()
    );
    // One that does not say how long it is.
    let mut chunked = Socket::connect(node.admin());
    chunked.write(
        "PUT /apps/probe/component HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/wasm\r\n\
         transfer-encoding: chunked\r\n\r\n",
    );
    for _ in 0..4 {
        chunked.write(format!("4000\r\n{}\r\n", "x".repeat(0x4000)));
    }
    chunked.write("1\r\nx\r\n");
    assert_eq!(chunked.response("PUT").status(), 413);
    // Far more than the buffers of a socket hold: whoever writes all of it first hears the reason all the same.
    let much = vec![b'x'; 32 << 20];
    let mut announced = Socket::connect(node.admin());
    announced.write(deploy_request(much.clone()).encode("localhost"));
    assert_eq!(announced.response("PUT").status(), 413);
    let mut chunked = Socket::connect(node.admin());
    chunked.write(format!(
        "PUT /apps/probe/component HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/wasm\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n",
        much.len()
    ));
    chunked.write(&much);
    chunked.write("\r\n0\r\n\r\n");
    assert_eq!(chunked.response("PUT").status(), 413);
    assert_eq!(answers(&node), "a");

    // On a node of its own: those others are to be told of their size, however long they take.
    let hasty = probe::configured(&format!("{ADMIN}upload-timeout = \"400ms\"\n"));
    let mut slow = Socket::connect(hasty.admin());
    let request = deploy_request(vec![0; 1000]).encode("localhost");
    slow.write(&request[..request.len() - 1]);
    assert_eq!(slow.response("PUT").status(), 408);
    assert_eq!(answers(&hasty), "a");
}

#[test]
fn an_upload_that_breaks_off_changes_nothing_and_gives_up_its_turn() {
    let node = probe::configured(ADMIN);
    let component = version('b', "good");
    let request = deploy_request(component.clone()).encode("localhost");
    for part in [request.len() / 2, request.len() - 1] {
        let mut socket = Socket::connect(node.admin());
        socket.write(&request[..part]);
        wait_for_upload(&node, "probe");
        socket.reset();
        wait::until_true("the turn is free", || {
            deploy(node.admin(), b"no wasm".to_vec()).status() == 422
        });
        assert_eq!(answers(&node), "a");
    }
    deployed(&node, component);
}

#[test]
fn a_deploy_goes_on_when_whoever_asked_for_it_has_left() {
    let node = probe::setup(ADMIN).arg("--data").arg("data").start();
    let components = || {
        std::fs::read_dir(node.folder().join("data/components"))
            .expect("a folder")
            .count()
    };
    assert_eq!(components(), 1);
    let mut socket = Socket::connect(node.admin());
    socket.send(&deploy_request(version('b', "good")));
    wait::until_true("all of it has come", || components() == 2);
    socket.reset();
    wait::until_true("the new code serves", || answers(&node) == "b");
}

#[test]
fn deploys_of_one_app_take_turns_and_a_node_does_two_at_a_time() {
    let app = |name: &str| {
        format!(
            "[apps.{name}]\ncomponent = {:?}\nroute = \"/{name}\"\n",
            guests::PROBE
        )
    };
    let toml = [app("one"), app("three"), app("two")].concat();
    let node = Node::config(&format!("{toml}{ADMIN}")).start();
    let admin = node.admin();
    let to = |app: &str, component: Vec<u8>| {
        let request = deploy_request(component);
        let target = request.target.replace("probe", app);
        Request { target, ..request }
    };
    // Halfway through an upload, each of them.
    let half = |app: &str| {
        let request = to(app, version('b', "good")).encode("localhost");
        let mut socket = Socket::connect(admin);
        socket.write(&request[..request.len() - 10]);
        wait_for_upload(&node, app);
        (socket, request[request.len() - 10..].to_vec())
    };
    let (mut first, first_rest) = half("one");
    let (mut second, second_rest) = half("two");
    let third = Socket::connect(admin).request(&to("three", version('b', "good")));
    assert_eq!(third.status(), 409);
    assert!(
        third.text().contains("2 deploys are under way"),
        "{}",
        third.text()
    );
    first.write(first_rest);
    second.write(second_rest);
    for socket in [&mut first, &mut second] {
        let answer = socket.response("PUT");
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    let third = Socket::connect(admin).request(&to("three", version('b', "good")));
    assert_eq!(third.status(), 200, "{}", third.text());
}

#[test]
fn the_commands_bring_the_token_from_the_environment_or_a_file() {
    let node = production(&format!("token = \"{TOKEN}\"")).start();
    let admin = node.admin();
    let refused = Cli::new(&["apps"]).at(admin).refused();
    for part in [
        "needs the node's token",
        "FANFARE_ADMIN_TOKEN",
        "--token-file",
    ] {
        assert!(refused.contains(part), "{part:?}: {refused}");
    }
    let apps = Cli::new(&["apps"])
        .at(admin)
        .env("FANFARE_ADMIN_TOKEN", TOKEN)
        .good();
    assert!(apps.contains("probe"), "{apps}");
    let file = node.folder().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("a file can be written");
    let with_file = |command: Cli| command.arg("--token-file").arg(&file);
    with_file(Cli::new(&["apps"]).at(admin)).good();
    let new = node.folder().join("new.wasm");
    std::fs::write(&new, version('b', "good")).expect("a file can be written");
    let deploy = Cli::new(&["deploy", "--app", "probe"]).arg(&new);
    with_file(deploy.env("FANFARE_NODE", &format!("http://{admin}"))).good();
    assert_eq!(answers(&node), "b");
    let odd = Cli::new(&["apps"])
        .at(admin)
        .env("FANFARE_ADMIN_TOKEN", "hunter2");
    std::fs::write(&file, "hunter2").expect("a file can be written");
    let odd_file = with_file(Cli::new(&["apps"]).at(admin));
    for (odd, place) in [
        (odd, "the variable FANFARE_ADMIN_TOKEN"),
        (odd_file, "(`--token-file`)"),
    ] {
        let refused = odd.refused();
        for part in [place, "16 to 1024 characters"] {
            assert!(refused.contains(part), "{part:?}: {refused}");
        }
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

/// A command that has a token and asks what is at this address.
fn with_token(address: SocketAddr) -> Cli {
    Cli::new(&["apps"])
        .at(address)
        .env("FANFARE_ADMIN_TOKEN", TOKEN)
}

#[test]
fn a_token_of_another_node_is_said_to_be_that() {
    let other = TOKEN.replace('0', "1");
    let node = production(&format!("token = \"{other}\"")).start();
    let refused = with_token(node.admin()).refused();
    for part in [
        "The token that was given is not this node's.",
        "given in the variable FANFARE_ADMIN_TOKEN;",
    ] {
        assert!(refused.contains(part), "{part:?}: {refused}");
    }
    assert!(!refused.contains("Give it"), "{refused}");
    assert!(!refused.contains(TOKEN), "{refused}");
}

/// Holds that a command says where an admin listener is, and not that it could not wait.
#[track_caller]
fn says_where_it_is(refused: &str) {
    for part in ["is no admin listener of a node", "admin.address", "--admin"] {
        assert!(refused.contains(part), "{part:?}: {refused}");
    }
}

#[test]
fn commands_that_find_the_public_listener_say_so_and_ask_no_guest_anything() {
    let node = production(&format!("token = \"{TOKEN}\"")).start();
    for command in [
        Cli::new(&["apps"]),
        Cli::new(&["deploy", guests::PROBE, "--app", "probe"]),
        Cli::new(&["rollback", "--app", "probe"]),
    ] {
        let command = command.at(node.address).env("FANFARE_ADMIN_TOKEN", TOKEN);
        says_where_it_is(&command.refused());
    }
    let request = Request::get("/metrics").header("authorization", BEARER);
    let page = Socket::connect(node.admin()).request(&request);
    let metrics = Metrics::parse(page.text());
    for answer in ["response", "stream", "busy", "failed"] {
        let asked = format!("fanfare_requests_total{{app=\"probe\",answer=\"{answer}\"}}");
        assert_eq!(metrics.value(&asked), 0.0, "{answer}");
    }
}

#[test]
fn only_an_admin_listener_is_sent_the_token() {
    let node = production(&format!("token = \"{TOKEN}\"")).start();
    let stranger = Upstream::start();
    let address = stranger.address();
    let elsewhere = format!("location: http://{}/healthz", node.admin());
    for (status, header) in [
        // It never ends, and nobody waits for that.
        ("200 OK", "content-type: text/event-stream"),
        ("307 Temporary Redirect", elsewhere.as_str()),
    ] {
        thread::scope(|scope| {
            let command = scope.spawn(|| with_token(address).refused());
            let mut asked = stranger.accept();
            assert_eq!(asked.header("authorization"), None);
            asked.head(status, &[header]);
            says_where_it_is(&command.join().expect("it is refused"));
            // Nothing more was sent, here or on another connection.
            asked.wait_closed();
            stranger.assert_untouched();
        });
    }
    // One behind a proxy that closes every connection after an answer.
    thread::scope(|scope| {
        let command = scope.spawn(|| with_token(address).good());
        let mut asked = stranger.accept();
        assert_eq!(asked.header("authorization"), None);
        asked.write("HTTP/1.1 200 OK\r\nfanfare-admin: 1\r\nconnection: close\r\n\r\n");
        asked.wait_closed();
        let asked = stranger.accept();
        assert_eq!(asked.line, "GET /apps HTTP/1.1");
        assert_eq!(asked.header("authorization"), Some(BEARER));
        asked.answer("200 OK", &["fanfare-admin: 1"], "{\"apps\":[]}");
        command.join().expect("it is answered");
    });
}

#[test]
fn a_node_that_others_reach_needs_a_token() {
    let everywhere = |setup: Setup| setup.arg("--admin").arg("0.0.0.0:0");
    let node = everywhere(Node::serve(guests::PROBE))
        .env("FANFARE_ADMIN_TOKEN", TOKEN)
        .start();
    let port = node.admin().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    for (setup, part) in [
        (everywhere(Node::serve(guests::PROBE)), "without a token"),
        (
            everywhere(Node::serve(guests::PROBE)).env("FANFARE_ADMIN_TOKEN", ""),
            "without a token",
        ),
        (
            everywhere(Node::serve(guests::PROBE)).env("FANFARE_ADMIN_TOKEN", "short"),
            "16 to 1024",
        ),
    ] {
        let ended = setup.arg("--listen").arg("127.0.0.1:0").run();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{part:?}: {}", ended.stderr);
    }
    assert_eq!(answers(&node), "a");
}
