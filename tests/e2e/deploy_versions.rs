//! Versions that outlive the node: restarts, kills at the worst moments, and files that someone changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fanfare_tests::{
    client::{Request, Socket},
    node::{Node, Setup},
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    deploy::{ADMIN, answers, deploy_request, deployed, state, wait_for_upload},
    probe::version,
};

/// A data folder and a configured component that outlive the nodes of a test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::with_prefix("fanfare-data-").expect("a temporary folder"));
        fs::write(place.component(), version('a', "good")).expect("a file can be written");
        place
    }

    fn component(&self) -> PathBuf {
        self.0.path().join("guest.wasm")
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// A node whose guest may be a while at its start.
    fn setup(&self) -> Setup {
        let config = format!(
            "[apps.probe]\ncomponent = {:?}\nlimits.cpu-time = \"20s\"\n{ADMIN}",
            self.component()
        );
        Node::config(&config).arg("--data").arg(self.data())
    }

    fn start(&self) -> Node {
        self.setup().start()
    }

    /// The components that are kept.
    fn components(&self) -> usize {
        count(&self.data().join("components"))
    }
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).expect("a folder").count()
}

fn versions(node: &Node) -> Value {
    let answer = Socket::connect(node.admin()).request(&Request::get("/apps/probe/versions"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

fn roll_back(node: &Node, body: Value) -> (u16, String) {
    let request = Request::post("/apps/probe/rollback", body.to_string())
        .header("content-type", "application/json");
    let answer = Socket::connect(node.admin()).request(&request);
    (answer.status(), answer.text().to_owned())
}

#[test]
fn what_was_deployed_last_is_served_after_a_restart() {
    let place = Place::new();
    let node = place.start();
    for letter in ['b', 'c'] {
        let answer = deployed(&node, version(letter, "good"));
        assert_eq!(answer["kept"], true, "{answer}");
        assert_eq!(answer.get("warning"), None, "{answer}");
    }
    node.stop();

    let node = place.start();
    assert_eq!(answers(&node), "c");
    node.wait_for_log("has not changed since");
    let listed = versions(&node);
    assert_eq!(listed["kept"], true);
    let sources = listed["versions"].as_array().expect("a list").iter();
    let sources: Vec<_> = sources.map(|version| &version["source"]).collect();
    assert_eq!(sources, ["deployed", "deployed", "configured"]);
    assert_eq!(listed["current"], listed["versions"][0]["version"]);

    // Back, and back once more; that is kept, too.
    for letter in ["b", "a"] {
        assert_eq!(roll_back(&node, json!({})).0, 200);
        assert_eq!(answers(&node), letter);
    }
    node.kill();
    let node = place.start();
    assert_eq!(answers(&node), "a");
    let newest = listed["current"].as_str().expect("a text");
    assert_eq!(roll_back(&node, json!({ "to": &newest[..8] })).0, 200);
    assert_eq!(answers(&node), "c");
    let (status, text) = roll_back(&node, json!({ "to": "00000000" }));
    assert_eq!(status, 400, "{text}");
    let (status, text) = roll_back(&node, json!({ "to": "../../etc" }));
    assert_eq!(status, 400, "{text}");
}

#[test]
fn a_configured_component_that_has_changed_since_the_deploy_wins() {
    let place = Place::new();
    let node = place.start();
    deployed(&node, version('b', "good"));
    node.stop();
    fs::write(place.component(), version('c', "good")).expect("a file can be written");
    let node = place.start();
    assert_eq!(answers(&node), "c");
    node.wait_for_log("which has changed since the last deploy");
    // The deploy comes after the change of the file, so it is the newer.
    fs::write(place.component(), version('d', "good")).expect("a file can be written");
    deployed(&node, version('b', "good"));
    node.stop();
    let node = place.start();
    assert_eq!(answers(&node), "b");
    node.stop();
    fs::remove_file(place.component()).expect("the file is there");
    let node = place.start();
    assert_eq!(answers(&node), "b");
}

#[test]
fn a_node_that_is_killed_during_an_upload_serves_the_last_good_version() {
    let place = Place::new();
    let node = place.start();
    deployed(&node, version('b', "good"));
    let kept = place.components();
    let request = deploy_request(version('c', "good")).encode("localhost");
    let mut socket = Socket::connect(node.admin());
    socket.write(&request[..request.len() / 2]);
    wait_for_upload(&node, "probe");
    node.kill();
    let node = place.start();
    assert_eq!(answers(&node), "b");
    assert_eq!(place.components(), kept);
}

#[test]
fn a_node_that_is_killed_between_upload_and_swap_serves_the_last_good_version() {
    let place = Place::new();
    let node = place.start();
    deployed(&node, version('b', "good"));
    let kept = place.components();
    // Its start does not return before its time is over, so the swap is still to come.
    let mut socket = Socket::connect(node.admin());
    socket.send(&deploy_request(version('c', "spin")));
    wait::until_true("the component is written", || place.components() > kept);
    node.kill();
    let node = place.start();
    assert_eq!(answers(&node), "b");
    assert_eq!(place.components(), kept, "what nobody noted is gone");
    assert_eq!(count(&place.data().join("new")), 0);
    deployed(&node, version('d', "good"));
    assert_eq!(answers(&node), "d");
}

#[test]
fn what_is_damaged_in_the_data_folder_is_told_and_passed_over() {
    let place = Place::new();
    let node = place.start();
    deployed(&node, version('b', "good"));
    let answer = deployed(&node, version('c', "good"));
    node.stop();
    let name = answer["version"].as_str().expect("a text");
    let component = place.data().join(format!("components/{name}.wasm"));
    let mut bytes = fs::read(&component).expect("it is kept");
    bytes[1000] ^= 1;
    fs::write(&component, bytes).expect("a file can be written");
    let node = place.start();
    assert_eq!(answers(&node), "b");
    let line = node.wait_for_log("is damaged");
    assert!(
        line.contains("ERROR") && line.contains(&name[..12]),
        "{line}"
    );
    node.stop();
    fs::write(place.data().join("apps/probe.json"), "{").expect("a file can be written");
    let node = place.start();
    assert_eq!(answers(&node), "a", "the configured component");
    node.wait_for_log("cannot be read");
}

#[test]
fn one_node_has_a_data_folder() {
    let place = Place::new();
    let node = place.start();
    let ended = place.setup().arg("--listen").arg("127.0.0.1:0").run();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for part in ["used by another node", "--data"] {
        assert!(ended.stderr.contains(part), "{part:?}: {}", ended.stderr);
    }
    assert_eq!(state(&node)["phase"], "serving");
    node.kill();
    place.start();
}
