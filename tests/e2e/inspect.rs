//! `fanfare inspect`: what a component says of itself.

use fanfare_tests::{cli::Cli, node::Node};

use crate::guests;

#[test]
fn a_guest_is_described() {
    let said = Cli::new(&["inspect", guests::PROBE]).good();
    let digest = fanfare::guest::version::VersionId::of(
        &std::fs::read(guests::PROBE).expect("the guest was built"),
    );
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
    let raw = Cli::new(&["inspect", guests::RAW]).good();
    assert!(!raw.contains("hooks:"), "{raw}");
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
fn what_this_host_does_not_offer_is_told_with_what_could_provide_it() {
    let folder = tempfile::TempDir::with_prefix("fanfare-inspect-").expect("a temporary folder");
    let file = folder.path().join("guest.wasm");
    let text = "(component (import \"acme:billing/invoices@1.0.0\" (instance)))";
    let component = wat::parse_str(text).expect("the text is WebAssembly");
    std::fs::write(&file, component).expect("a file can be written");
    let said = Cli::new(&["inspect"]).arg(&file).good();
    for part in [
        "exports no handler",
        "imports that this host does not offer\n  acme:billing/invoices@1.0.0:",
        "wac plug",
    ] {
        assert!(said.contains(part), "{part:?}: {said}");
    }
}
