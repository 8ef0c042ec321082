//! Files that are no guests: the node says what was found and what to do, and does not serve.

use std::net::TcpListener;

use fanfare_tests::node::{Ended, Node};

use crate::guests;

/// Starts a node with a file of this content as its guest, which has to fail.
fn refusal(content: &[u8]) -> String {
    let setup = Node::serve("guest.wasm")
        .arg("--listen")
        .arg("127.0.0.1:0")
        .file("guest.wasm", content);
    failed(setup.run())
}

fn failed(ended: Ended) -> String {
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "nothing is served");
    let last = ended
        .stderr
        .lines()
        .find(|line| line.starts_with("fanfare: "))
        .unwrap_or_else(|| panic!("{}", ended.stderr));
    let place = ended.stderr.find(last).expect("it is a part");
    ended.stderr[place..].to_owned()
}

#[track_caller]
fn assert_names(refusal: &str, parts: &[&str]) {
    for part in parts {
        assert!(refusal.contains(part), "{part:?} is not in {refusal:?}");
    }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is WebAssembly")
}

#[test]
fn a_file_that_is_not_there() {
    let refusal = failed(
        Node::serve("nowhere.wasm")
            .arg("--listen")
            .arg("127.0.0.1:0")
            .run(),
    );
    assert_names(
        &refusal,
        &["nowhere.wasm", "cannot be read", "No such file"],
    );
}

#[test]
fn a_file_that_is_not_wasm() {
    for content in [&b"#!/bin/sh\n"[..], b"", b"\0as"] {
        assert_names(
            &refusal(content),
            &["guest.wasm", "not WebAssembly", "wasm32-wasip2"],
        );
    }
}

#[test]
fn a_core_module() {
    assert_names(
        &refusal(&wat("(module)")),
        &[
            "guest.wasm",
            "core WebAssembly module",
            "wasm32-wasip2",
            "wasm-tools component new",
        ],
    );
}

#[test]
fn a_component_that_is_broken() {
    let mut broken = wat("(component (core module))");
    broken.extend([0xff; 20]);
    for broken in [&broken[..], b"\0asm"] {
        assert_names(&refusal(broken), &["guest.wasm", "does not compile"]);
    }
    let guest = std::fs::read(guests::PROBE).expect("the guest was built");
    assert_names(
        &refusal(&guest[..guest.len() / 2]),
        &["guest.wasm", "does not compile"],
    );
}

#[test]
fn a_component_that_imports_what_nobody_offers() {
    let imports = |name: &str| {
        wat(&format!(
            "(component (import {name:?} (instance (export \"f\" (func)))))"
        ))
    };
    for (import, hint) in [
        ("wasi:http/incoming-handler@0.2.3", "fanfare:sse/handler"),
        ("wasi:keyvalue/store@0.2.0", "fanfare:sse/registry"),
        ("wasi:io/poll@0.3.0", "version 0.2 of it"),
        ("fanfare:sse/publishing@0.2.0", "version 0.1 of it"),
        ("fanfare:sse/publishing-async@0.1.0", "world `app-async`"),
        ("fanfare:sse/teleport@0.1.0", "no such interface"),
        ("acme:billing/invoices@1.0.0", "wac plug"),
    ] {
        assert_names(
            &refusal(&imports(import)),
            &["guest.wasm", "does not offer", import, hint],
        );
    }
    let two = "(component (import \"acme:a/b\" (instance)) (import \"acme:c/d\" (instance)))";
    assert_names(&refusal(&wat(two)), &["acme:a/b", "acme:c/d"]);
}

#[test]
fn a_component_that_imports_a_function_of_another_shape() {
    let odd = "(component (import \"fanfare:sse/registry@0.1.0\" (instance (export \"has\" (func (param \"x\" u8))))))";
    let refused = refusal(&wat(odd));
    // It has no exports either; whichever is told first, it is no guest.
    assert_names(&refused, &["guest.wasm"]);
}

#[test]
fn a_component_without_a_handler() {
    assert_names(
        &refusal(&wat("(component)")),
        &[
            "guest.wasm",
            "exports no `handler.handle`",
            "world `app`",
            "export!",
        ],
    );
    let only_start = "(component
        (core module $m (func (export \"f\")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i \"f\")))
        (instance $handler (export \"handle\" (func $f)))
        (export \"fanfare:sse/handler@0.1.0\" (instance $handler)))";
    assert_names(
        &refusal(&wat(only_start)),
        &["exports no `lifecycle.start`"],
    );
}

#[test]
fn one_bad_guest_among_good_ones_stops_the_start() {
    let toml = format!(
        "[apps.good]\ncomponent = {:?}\nroute = \"/good\"\n[apps.bad]\ncomponent = \"bad.wasm\"",
        guests::PROBE
    );
    let ended = Node::config(&toml)
        .arg("--listen")
        .arg("127.0.0.1:0")
        .file("bad.wasm", "bad")
        .run();
    assert_names(&failed(ended), &["bad.wasm", "not WebAssembly"]);
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let refusal = failed(
        Node::serve(guests::PROBE)
            .arg("--listen")
            .arg(&address)
            .run(),
    );
    assert_names(
        &refusal,
        &[&address, "--listen", "listen.address", "in use"],
    );
}

#[test]
fn arguments_that_do_not_fit_are_told() {
    for (arguments, parts) in [
        (
            &["--config", "x.toml"][..],
            &["--config", "cannot be used with"][..],
        ),
        (&["--var", "novalue"], &["NAME=VALUE"]),
        (&["--var", "=x"], &["NAME=VALUE"]),
        (&["--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["--listen", "8083"], &["--listen", "\"127.0.0.1:8080\""]),
        (&["--listen", ":8083"], &["--listen", "\"127.0.0.1:8080\""]),
        (
            &["--admin", "localhost:8083"],
            &["--admin", "\"127.0.0.1:8080\"", "host names are not"],
        ),
        (&["--log", "xml"], &["--log", "text", "json"]),
        (&["--allow-redis", "a b"], &["--allow-redis"]),
        (
            &["--allow-http", "https://*.example.org"],
            &["--allow-http", "no patterns"],
        ),
        (&["--frobnicate"], &["--frobnicate"]),
    ] {
        let setup = arguments
            .iter()
            .fold(Node::serve(guests::PROBE), |setup, argument| {
                setup.arg(argument)
            });
        let ended = setup.run();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
        assert_names(&ended.stderr, parts);
    }
}
