//! `fanfare dev`: a guest is built and swapped whenever its source changes.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use fanfare_tests::{
    node::{Node, Setup},
    wait,
};
use serde_json::json;

use crate::{
    deploy::answers,
    guests,
    probe::{Probe, version},
};

/// Whether there is a process of this id that has not ended.
fn is_running(pid: &str) -> bool {
    let asked = Command::new("ps")
        .args(["-o", "stat=", "-p", pid.trim()])
        .output();
    let asked = asked.expect("`ps` is there");
    let state = String::from_utf8_lossy(&asked.stdout);
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

/// A folder with source, a letter, of which a command makes a version of the probe; `error` does not build.
fn project() -> Setup {
    let build = "#!/bin/sh\n\
                 letter=$(cat source/letter)\n\
                 echo \"building $letter\"\n\
                 [ \"$letter\" != error ] || { echo 'letter:1:1: this is no letter' >&2; exit 1; }\n\
                 cp \"$letter.wasm\" out.wasm\n";
    let setup = Node::dev("source")
        .arg("--build")
        .arg("cd .. && sh build.sh")
        .arg("--component")
        .arg("../out.wasm")
        .file("build.sh", build)
        .file(
            "a.wasm",
            fs::read(guests::PROBE).expect("the guest was built"),
        )
        .file("b.wasm", version('b', "good"))
        .file("c.wasm", version('c', "trap"));
    fs::create_dir(setup.folder().join("source")).expect("a folder can be made");
    setup.file("source/letter", "a")
}

fn write(node: &Node, letter: &str) {
    fs::write(node.folder().join("source/letter"), letter).expect("a file can be written");
}

#[test]
fn an_edit_is_built_and_swapped_and_streams_stay() {
    let node = project().start();
    assert_eq!(answers(&node), "a");
    let mut stream = node.subscribe("news");
    write(&node, "b");
    node.wait_for_print("serves version");
    assert_eq!(answers(&node), "b");
    node.publish("news", "still here");
    assert_eq!(stream.next_event().data, "still here");
    // What a guest prints is on the terminal.
    node.run(json!([["print", "the guest says hello"]]))
        .all_ok();
    node.wait_for_log("the guest says hello");
}

#[test]
fn what_does_not_build_or_start_is_told_and_the_old_code_serves() {
    let node = project().start();
    write(&node, "error");
    node.wait_for_log("letter:1:1: this is no letter");
    node.wait_for_log("goes on as it was");
    assert_eq!(answers(&node), "a");
    write(&node, "c");
    node.wait_for_log("`start` trapped");
    assert_eq!(answers(&node), "a");
    write(&node, "b");
    node.wait_for_print("serves version");
    assert_eq!(answers(&node), "b");
}

#[test]
fn a_first_build_that_fails_is_mended_by_an_edit() {
    let setup = project().file("source/letter", "error");
    let folder = setup.folder().to_owned();
    let mending = std::thread::spawn(move || {
        wait::until_true("the build has failed", || folder.join("failed").exists());
        fs::write(folder.join("source/letter"), "b").expect("a file can be written");
    });
    let build = "letter=$(cat source/letter)\n\
                 [ \"$letter\" != error ] || { touch failed; exit 1; }\n\
                 cp \"$letter.wasm\" out.wasm\n";
    let node = setup.file("build.sh", build).start();
    mending.join().expect("it is mended");
    assert_eq!(answers(&node), "b");
    node.wait_for_log("waiting for a change");
}

#[test]
fn a_component_that_something_else_builds_is_swapped_when_it_changes() {
    let guest = fs::read(guests::PROBE).expect("the guest was built");
    let node = Node::dev("guest.wasm").file("guest.wasm", guest).start();
    assert_eq!(answers(&node), "a");
    // As tools do: another file takes its place.
    let file = node.folder().join("guest.wasm");
    fs::write(node.folder().join("new"), version('b', "good")).expect("a file can be written");
    fs::rename(node.folder().join("new"), &file).expect("a file can be renamed");
    wait::until_true("the new version serves", || answers(&node) == "b");
    fs::write(&file, "no wasm").expect("a file can be written");
    node.wait_for_log("not WebAssembly");
    assert_eq!(answers(&node), "b");
}

#[test]
fn a_first_component_that_does_not_link_is_mended_by_an_edit() {
    // It has the names that it must have, and nothing behind them.
    let hollow = "(component (instance $i) (export \"fanfare:sse/handler@0.1.0\" (instance $i))\
                  (export \"fanfare:sse/lifecycle@0.1.0\" (instance $i)))";
    let hollow = wat::parse_str(hollow).expect("the text is WebAssembly");
    let node = Node::dev("guest.wasm")
        .arg("--listen")
        .arg("127.0.0.1:0")
        .file("guest.wasm", hollow)
        .spawn();
    node.wait_for_log("does not fit");
    node.wait_for_log("waiting for a change");
    let guest = fs::read(guests::PROBE).expect("the guest was built");
    fs::write(node.folder().join("new"), guest).expect("a file can be written");
    let file = node.folder().join("guest.wasm");
    fs::rename(node.folder().join("new"), file).expect("a file can be renamed");
    node.wait_for_print("is served at");
}

#[test]
fn a_build_that_writes_into_its_folder_comes_to_an_end() {
    let build = "letter=$(cat letter)\n\
                 date >> log.txt\n\
                 echo \"$letter\" >> ../builds\n\
                 cp \"../$letter.wasm\" guest.wasm\n";
    let node = Node::dev("source")
        .arg("--build")
        .arg("sh ../build.sh")
        .arg("--component")
        .arg("./x/../guest.wasm")
        .file("build.sh", build)
        .file(
            "a.wasm",
            fs::read(guests::PROBE).expect("the guest was built"),
        )
        .file("b.wasm", version('b', "good"));
    fs::create_dir(node.folder().join("source")).expect("a folder can be made");
    let node = node.file("source/letter", "a").start();
    let builds = || {
        let builds = fs::read_to_string(node.folder().join("builds")).expect("there were builds");
        builds.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    node.wait_for_print("the same as before");
    // One build follows on the first, and another on each whose changes are told of late. Without an end there would be
    // several in this time.
    let quiet = Duration::from_secs(2);
    let (mut known, mut since) = (builds(), Instant::now());
    wait::until_true("no other build comes", || {
        let builds = builds();
        assert!(builds.len() <= 6, "it goes on building: {builds:?}");
        if builds != known {
            (known, since) = (builds, Instant::now());
        }
        since.elapsed() >= quiet
    });
    let all_good = known.iter().all(|letter| letter == "a");
    assert!(known.len() >= 2 && all_good, "{known:?}");
    write(&node, "b");
    node.wait_for_print("serves version");
    assert_eq!(answers(&node), "b");
}

#[test]
fn a_signal_ends_it_and_its_build() {
    for signal in ["INT", "TERM", "HUP"] {
        // Whether it serves already, or builds for the first time.
        let node = project().start();
        let slow = "sleep 600 & echo $! > pid; wait\n";
        fs::write(node.folder().join("build.sh"), slow).expect("a file can be written");
        write(&node, "b");
        let pid = wait::until("the build runs", || {
            let pid = fs::read_to_string(node.folder().join("pid")).ok()?;
            pid.ends_with('\n').then_some(pid)
        });
        node.signal(signal);
        let ended = node.wait();
        assert!(ended.status.success(), "{}", ended.stderr);
        wait::until_true("the build has ended", || !is_running(&pid));

        let first = project()
            .file("build.sh", slow)
            .arg("--listen")
            .arg("127.0.0.1:0")
            .spawn();
        let pid = wait::until("the build runs", || {
            let pid = fs::read_to_string(first.folder().join("pid")).ok()?;
            pid.ends_with('\n').then_some(pid)
        });
        first.signal(signal);
        let ended = first.wait();
        assert!(ended.status.success(), "{}", ended.stderr);
        wait::until_true("the build has ended", || !is_running(&pid));
    }
}

#[test]
fn what_cannot_be_built_is_told_at_once() {
    let said = |setup: Setup| {
        let ended = setup.run();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        ended.stderr
    };
    assert!(said(Node::dev("nowhere")).contains("nowhere cannot be found"));
    let empty = said(Node::dev("."));
    assert!(
        empty.contains("no Cargo.toml") && empty.contains("--build"),
        "{empty}"
    );
}
