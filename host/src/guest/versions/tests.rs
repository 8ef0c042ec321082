use std::{fs, path::PathBuf};

use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;

/// A folder that is removed at the end of the test.
struct Data(TempDir);

impl Data {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Versions {
        Versions::open(self.0.path()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn component(&self, name: &str) -> PathBuf {
        self.path(&format!("components/{}.wasm", id(name)))
    }

    fn components(&self) -> usize {
        fs::read_dir(self.path("components")).unwrap().count()
    }
}

fn id(component: &str) -> VersionId {
    VersionId::of(component.as_bytes())
}

fn bytes(component: &str) -> Bytes {
    Bytes::copy_from_slice(component.as_bytes())
}

/// What is served after a start with this configured component, where `refused` cannot be.
fn choose(
    versions: &Versions,
    configured: Option<&str>,
    refused: &[&str],
) -> Result<String, Unservable> {
    let folder = Data::new();
    let file = folder.path("guest.wasm");
    if let Some(component) = configured {
        fs::write(&file, component).unwrap();
    }
    let compile = async |origin: String, component: Bytes| {
        let component = String::from_utf8(component.to_vec()).unwrap();
        match refused.contains(&component.as_str()) {
            true => Err(GuestError::unreadable(
                origin.as_ref(),
                io::ErrorKind::Other.into(),
            )),
            false => Ok(component),
        }
    };
    let chosen = versions.choose("app", &file, compile).now_or_never();
    chosen.expect("nothing waits")
}

fn start(versions: &Versions, configured: &str) -> String {
    let chosen = choose(versions, Some(configured), &[]).unwrap();
    let record = versions.record("app").unwrap();
    assert_eq!(record.current(), id(&chosen));
    chosen
}

fn deploy(versions: &Versions, component: &str, configured: &str) {
    versions.put(id(component), &bytes(component)).unwrap();
    versions
        .deployed(
            "app",
            id(component),
            &bytes(component),
            Some(id(configured)),
        )
        .unwrap();
}

/// The versions of the app that are kept and can be had.
fn had(versions: &Versions) -> Vec<String> {
    let record = versions.record("app").unwrap();
    let had = record.versions().iter().map(|version| {
        let component = versions.component(version.version).unwrap();
        assert_eq!(version.size, component.len() as u64);
        String::from_utf8(component.to_vec()).unwrap()
    });
    had.collect()
}

#[test]
fn what_was_deployed_is_served_until_the_configured_component_changes() {
    let data = Data::new();
    let versions = data.open();
    assert!(versions.is_durable());
    assert_eq!(start(&versions, "file"), "file");
    deploy(&versions, "one", "file");
    deploy(&versions, "two", "file");
    drop(versions);

    let versions = data.open();
    assert_eq!(start(&versions, "file"), "two");
    assert_eq!(had(&versions), ["file", "one", "two"]);
    versions
        .rolled_back("app", id("one"), Some(id("file")))
        .unwrap();
    drop(versions);

    let versions = data.open();
    assert_eq!(start(&versions, "file"), "one");
    drop(versions);

    // Whoever changed the file did so later.
    let versions = data.open();
    assert_eq!(start(&versions, "newer file"), "newer file");
    let record = versions.record("app").unwrap();
    assert_eq!(record.before_current().next(), Some(id("one")));
    drop(versions);

    // A file that was changed before the deploy is older than the deploy.
    let versions = data.open();
    deploy(&versions, "three", "newest file");
    drop(versions);
    let versions = data.open();
    assert_eq!(start(&versions, "newest file"), "three");
}

#[test]
fn without_a_folder_versions_last_until_the_end() {
    let versions = Versions::in_memory();
    assert!(!versions.is_durable());
    assert_eq!(start(&versions, "file"), "file");
    deploy(&versions, "one", "file");
    assert_eq!(had(&versions), ["file", "one"]);
    assert!(versions.component(id("two")).is_err());
}

#[test]
fn a_configured_component_that_is_gone_is_not_missed() {
    let data = Data::new();
    let versions = data.open();
    let nothing = choose(&versions, None, &[]).unwrap_err();
    assert!(nothing.to_string().contains("cannot be read"), "{nothing}");
    start(&versions, "file");
    deploy(&versions, "one", "file");
    drop(versions);
    let versions = data.open();
    assert_eq!(choose(&versions, None, &[]).unwrap(), "one");
}

#[test]
fn what_a_killed_deploy_leaves_is_removed_and_changes_nothing() {
    let data = Data::new();
    let versions = data.open();
    start(&versions, "file");
    deploy(&versions, "one", "file");
    // Between the component and its note.
    versions.put(id("two"), &bytes("two")).unwrap();
    drop(versions);
    // In the middle of a write: of a component, and of a record.
    fs::write(data.path("new/0"), "thr").unwrap();
    fs::write(data.path("new/1"), "{\"format\":").unwrap();
    assert_eq!(data.components(), 3);

    let versions = data.open();
    assert_eq!(start(&versions, "file"), "one");
    assert_eq!(data.components(), 2);
    assert_eq!(fs::read_dir(data.path("new")).unwrap().count(), 0);
    deploy(&versions, "two", "file");
    assert_eq!(had(&versions), ["file", "one", "two"]);
}

#[test]
fn what_others_have_put_into_the_folder_stays() {
    let data = Data::new();
    fs::create_dir_all(data.path("new/1")).unwrap();
    for file in ["new/photo.jpg", "new/1/2", "new/+3", "new/4"] {
        fs::write(data.path(file), "").unwrap();
    }
    data.open();
    for file in ["new/photo.jpg", "new/1/2", "new/+3"] {
        assert!(data.path(file).exists(), "{file}");
    }
    assert!(!data.path("new/4").exists());
}

#[test]
fn what_the_folder_holds_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let data = Data::new();
    data.open();
    for folder in ["apps", "components", "new", folder::CACHE] {
        let mode = fs::metadata(data.path(folder)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn a_record_or_component_that_cannot_be_read_now_stays_as_it_is() {
    let data = Data::new();
    let versions = data.open();
    start(&versions, "file");
    deploy(&versions, "one", "file");
    drop(versions);
    // A folder in its place: what reads it fails, whoever runs the test.
    let (record, component) = (data.path("apps/app.json"), data.component("one"));
    let aside = data.path("aside");
    for path in [&record, &component] {
        fs::rename(path, &aside).unwrap();
        fs::create_dir(path).unwrap();
        match Versions::open(data.0.path()) {
            Err(error) => {
                assert_eq!(path, &record);
                assert!(error.to_string().contains("apps/app.json"), "{error}");
            }
            Ok(versions) => {
                assert_eq!(path, &component);
                assert_eq!(start(&versions, "file"), "file");
            }
        }
        fs::remove_dir(path).unwrap();
        fs::rename(&aside, path).unwrap();
    }
    let versions = data.open();
    assert_eq!(had(&versions), ["file", "one"]);
}

#[test]
fn a_damaged_component_is_left_out_and_the_one_before_it_served() {
    let data = Data::new();
    let versions = data.open();
    start(&versions, "file");
    for component in ["one", "two", "three"] {
        deploy(&versions, component, "file");
    }
    drop(versions);
    fs::write(data.component("three"), "thr").unwrap();
    fs::remove_file(data.component("two")).unwrap();
    let versions = data.open();
    assert_eq!(start(&versions, "file"), "one");
    assert_eq!(had(&versions), ["file", "one"]);
    // It is whole again when it comes again.
    deploy(&versions, "three", "file");
    assert_eq!(had(&versions), ["file", "one", "three"]);
    drop(versions);
    for component in ["one", "three", "file"] {
        fs::write(data.component(component), "").unwrap();
    }
    let versions = data.open();
    assert_eq!(start(&versions, "file"), "file");
    assert_eq!(had(&versions), ["file"]);
}

#[test]
fn a_version_that_this_host_refuses_is_passed_over_and_kept() {
    let data = Data::new();
    let versions = data.open();
    start(&versions, "file");
    deploy(&versions, "one", "file");
    deploy(&versions, "two", "file");
    let chosen = choose(&versions, Some("file"), &["two"]).unwrap();
    assert_eq!(chosen, "one");
    assert_eq!(had(&versions), ["file", "one", "two"]);
    let all = ["one", "two", "file"];
    let none = choose(&versions, Some("file"), &all).unwrap_err();
    assert!(matches!(none, Unservable::Guest(_)), "{none:?}");
}

#[test]
fn a_damaged_record_is_moved_aside_and_the_configured_component_served() {
    let data = Data::new();
    let versions = data.open();
    start(&versions, "file");
    deploy(&versions, "one", "file");
    drop(versions);
    fs::write(data.path("apps/app.json"), "{\"format\":1").unwrap();
    let versions = data.open();
    assert_eq!(start(&versions, "file"), "file");
    assert_eq!(had(&versions), ["file"]);
    assert!(data.path("apps/app.json.unreadable").exists());
    drop(versions);
    // Whoever mends it finds the component.
    data.open();
    assert!(data.component("one").exists());
}

#[test]
fn one_node_has_the_folder() {
    let data = Data::new();
    let versions = data.open();
    let refused = Versions::open(data.0.path()).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, FolderError::InUse(_)), "{text}");
    assert!(text.contains("--data"), "{text}");
    drop(versions);
    data.open();
    let file = data.path("file");
    fs::write(&file, "").unwrap();
    let refused = Versions::open(&file).unwrap_err();
    assert!(matches!(refused, FolderError::Io { .. }), "{refused}");
}

#[test]
fn no_more_versions_are_kept_than_may_be_and_none_that_another_app_has() {
    for versions in [Versions::in_memory(), Data::new().open()] {
        start(&versions, "file");
        versions
            .deployed("other", id("0"), &bytes("0"), None)
            .unwrap();
        let kept = if versions.is_durable() { 10 } else { 3 };
        for number in 0..=kept {
            deploy(&versions, &number.to_string(), "file");
        }
        assert_eq!(had(&versions).len(), kept);
        assert!(versions.component(id("file")).is_err());
        assert!(versions.component(id("0")).is_ok(), "the other app has it");
        // None had it yet.
        versions.put(id("new"), &bytes("new")).unwrap();
        let serves = id(&kept.to_string());
        versions.take_back("app", serves, id("new"));
        versions.take_back("app", serves, id("0"));
        assert!(versions.component(id("new")).is_err());
        assert!(versions.component(id("0")).is_ok());
        // It was noted already.
        deploy(&versions, "noted", "file");
        versions.take_back("app", serves, id("noted"));
        assert_eq!(versions.record("app").unwrap().current(), serves);
    }
}
