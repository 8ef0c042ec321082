//! `fanfare inspect`: what a component says of itself.

use std::process::{Command, Stdio};

use fanfare_tests::{cli::Cli, node::Node};

use crate::guests;

#[test]
fn a_guest_is_described() {
    let said = Cli::new(&["inspect", guests::PROBE]).good();
    let digest = fanfare::guest::version::VersionId::of(
        &std::fs::read(guests::PROBE).expect("the guest was built"),
    );
    let verdict = format!("{} can be served", guests::PROBE);
    assert!(said.starts_with(&verdict), "{said}");
    for part in [
        format!("version  {digest}"),
        "world    app: blocking".to_owned(),
        "hooks: disconnect-hook, occupancy-hook".to_owned(),
        "language Rust".to_owned(),
        "made by  rustc ".to_owned(),
        "\nexports\n".to_owned(),
        "  fanfare:sse/handler@0.1.0\n".to_owned(),
        "\nimports\n".to_owned(),
        "  fanfare:sse/publishing@0.1.0\n".to_owned(),
        "\nhas to be granted\n".to_owned(),
        "  redis: the servers".to_owned(),
        "  brokers: those".to_owned(),
    ] {
        assert!(said.contains(&part), "{part:?}: {said}");
    }
    assert!(!said.contains("does not offer"), "{said}");
    // Last, because that is asked least.
    let (described, made) = said.split_once("\nhow it was made\n").expect("it says who");
    assert!(!described.contains("made by"), "{said}");
    assert!(made.lines().all(|line| line.starts_with("  ")), "{said}");
    let raw = Cli::new(&["inspect", guests::RAW]).good();
    assert!(!raw.contains("hooks:"), "{raw}");
    let asynchronous = Cli::new(&["inspect", guests::PROBE_ASYNC]).good();
    assert!(
        asynchronous.contains("can be served") && asynchronous.contains("world    app-async:"),
        "{asynchronous}"
    );
}

#[test]
fn what_cannot_be_served_is_told_as_serving_tells_it() {
    let folder = tempfile::TempDir::with_prefix("fanfare-inspect-").expect("a temporary folder");
    let file = folder.path().join("guest.wasm");
    let component = std::fs::read(guests::PROBE).expect("the guest was built");
    let module = wat::parse_str("(module)").expect("the text is WebAssembly");
    for content in [
        &b"#!/bin/sh\n"[..],
        b"",
        &module,
        &component[..component.len() / 2],
    ] {
        std::fs::write(&file, content).expect("a file can be written");
        let refused = Cli::new(&["inspect"]).arg(&file).refused();
        let served = Node::serve(&file).arg("--listen").arg("127.0.0.1:0").run();
        assert_eq!(served.status.code(), Some(1), "{}", served.stderr);
        assert!(
            served.stderr.ends_with(&refused),
            "{refused}\n{}",
            served.stderr
        );
    }
    let refused = Cli::new(&["inspect", "/nowhere/guest.wasm"]).refused();
    assert!(
        refused.contains("/nowhere/guest.wasm: cannot be read"),
        "{refused}"
    );
}

#[test]
fn a_guest_may_come_through_a_pipe() {
    let mut cat = Command::new("cat")
        .arg(guests::RAW)
        .stdout(Stdio::piped())
        .spawn()
        .expect("cat can be started");
    let piped = cat.stdout.take().expect("it is piped");
    let said = Cli::new(&["inspect", "/dev/stdin"]).stdin(piped).good();
    assert!(said.starts_with("/dev/stdin can be served"), "{said}");
    assert!(cat.wait().is_ok_and(|status| status.success()));
}

#[test]
fn a_guest_that_serving_refuses_cannot_be_served() {
    let folder = tempfile::TempDir::with_prefix("fanfare-inspect-").expect("a temporary folder");
    let file = folder.path().join("guest.wasm");
    let name = file.display();
    // They have the names that they must have, and nothing or something else behind them.
    let hollow = |more: &str, suffix: &str| {
        format!(
            "(component {more} (instance $i)\
             (export \"fanfare:sse/handler{suffix}@0.1.0\" (instance $i))\
             (export \"fanfare:sse/lifecycle{suffix}@0.1.0\" (instance $i)))"
        )
    };
    let import = "(import \"fanfare:sse/registry@0.1.0\" (instance (export \"shout\" (func))))";
    for (text, why) in [
        ("(component)".to_owned(), "exports no `handler.handle`"),
        (
            "(component (instance $i) (export \"wasi:cli/run@0.2.0\" (instance $i)))".to_owned(),
            "`crate-type = [\"cdylib\"]`",
        ),
        (
            "(component (import \"fanfare:sse/errors@0.2.0\" (instance)))".to_owned(),
            "the host offers version 0.1 of it",
        ),
        (hollow("", ""), "does not fit fanfare:sse@0.1.0"),
        (hollow("", "-async"), "does not fit fanfare:sse@0.1.0"),
        (hollow(import, ""), "`shout`"),
        (hollow(import, "-async"), "`shout`"),
    ] {
        let component = wat::parse_str(&text).expect("the text is WebAssembly");
        std::fs::write(&file, component).expect("a file can be written");
        let inspected = Cli::new(&["inspect"]).arg(&file).run();
        assert_eq!(inspected.status.code(), Some(1), "{text}");
        let served = Node::serve(&file).arg("--listen").arg("127.0.0.1:0").run();
        let (_, refusal) = served
            .stderr
            .split_once(&format!("fanfare: {name}: "))
            .unwrap_or_else(|| panic!("{text}: {}", served.stderr));
        assert!(refusal.contains(why), "{why:?}: {refusal}");
        // The same words, before all else.
        let verdict = format!("{name} cannot be served, because it {refusal}size ");
        assert!(
            inspected.stdout.starts_with(&verdict),
            "{verdict}\n{}",
            inspected.stdout
        );
        assert_eq!(
            inspected.stderr,
            format!("fanfare: {name} cannot be served; what was printed first says why\n")
        );
    }
}

#[test]
fn what_this_host_does_not_offer_is_told_with_what_could_provide_it() {
    let folder = tempfile::TempDir::with_prefix("fanfare-inspect-").expect("a temporary folder");
    let file = folder.path().join("guest.wasm");
    let text = "(component (import \"acme:billing/invoices@1.0.0\" (instance)))";
    let component = wat::parse_str(text).expect("the text is WebAssembly");
    std::fs::write(&file, component).expect("a file can be written");
    let said = Cli::new(&["inspect"]).arg(&file).run().stdout;
    for part in [
        "imports what this host does not offer:\n  acme:billing/invoices@1.0.0:",
        "wac plug",
        "exports no handler",
        "\nimports\n  acme:billing/invoices@1.0.0, which this host does not offer\n",
    ] {
        assert!(said.contains(part), "{part:?}: {said}");
    }
}
