//! The data folder: what a file in it may be, whoever has put it there. A node starts, and reads what is whole.

use std::{collections::HashSet, fs};

use fanfare::guest::{
    version::VersionId,
    versions::{
        Versions,
        record::{KEPT, Record, Source, Version},
        timestamp::Timestamp,
    },
};
use tempfile::TempDir;

use crate::driver::{Target, gist};

/// Files: a name, a line ending, and the content.
const VERSIONS: Target = Target {
    name: "versions",
    runs: 150,
    words: &[
        "probe.json",
        ".json.unreadable",
        "\"format\"",
        "\"app\"",
        "\"current\"",
        "\"configured\"",
        "\"versions\"",
        "\"since\"",
        "null",
        "[",
        "{",
        "18446744073709551615",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ],
};

/// The longest name of a file here: one that cannot be moved aside, because its new name would be too long, is an error.
const NAME_BYTES: usize = 200;

#[test]
fn the_data_folder_may_hold_anything() {
    let folder = TempDir::with_prefix("fanfare-fuzz-").expect("a temporary folder");
    VERSIONS.fuzz(|input| {
        let text = String::from_utf8_lossy(input);
        let (name, content) = text.split_once('\n').unwrap_or((&text, ""));
        let is_name = !matches!(name, "" | "." | "..")
            && name.len() <= NAME_BYTES
            && !name.contains(['/', '\0']);
        if is_name {
            open(&folder, name, content);
        }
        let app = app_of(name);
        match Record::parse(app, content.as_bytes()) {
            Ok(record) => {
                use_record(app, record);
                format!("a record {is_name}")
            }
            Err(reason) => gist(&reason),
        }
    });
}

/// Whose file this is, if it is one's.
fn app_of(name: &str) -> &str {
    name.strip_suffix(".json").unwrap_or(name)
}

/// Opens a data folder with this file in it, as that of an app and as a component.
fn open(folder: &TempDir, name: &str, content: &str) {
    let data = folder.path().join("data");
    // There is none at first.
    let _ = fs::remove_dir_all(&data);
    for place in ["apps", "components"] {
        fs::create_dir_all(data.join(place)).expect("a folder can be made");
        fs::write(data.join(place).join(name), content).expect("a file can be written");
    }
    let record = || {
        let versions = Versions::open(&data).expect("the node starts");
        let record = versions.record(app_of(name));
        if let Some(record) = &record {
            for version in record.versions() {
                let lost = versions.component(version.version);
                lost.expect_err("no component has the digest of this one");
            }
        }
        record
    };
    let first = record();
    let is_record = Record::parse(app_of(name), content.as_bytes()).is_ok();
    assert!(first.is_none() || is_record);
    assert_eq!(first, record(), "what was read once is read again");
}

/// Does with a record what deploys do.
fn use_record(app: &str, mut record: Record) {
    let holds = |record: &Record| {
        let written = serde_json::to_vec(record).expect("a record is JSON");
        assert_eq!(Record::parse(app, &written).as_ref(), Ok(record));
        let ids: Vec<_> = record
            .versions()
            .iter()
            .map(|version| version.version)
            .collect();
        let different: HashSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "each version stands there once");
        assert!(record.before_current().count() < ids.len());
        let current = record.current_version().expect("what serves is noted");
        assert_eq!(current.version, record.current());
        // It is shown, too.
        assert!(current.since.to_string().ends_with('Z'));
    };
    holds(&record);
    let first = record.versions()[0].version;
    record.rolled_back(first, None);
    assert_eq!(record.current(), first);
    holds(&record);
    let version = Version {
        version: VersionId::of(b"new"),
        size: 3,
        since: Timestamp::now(),
        source: Source::Deployed,
    };
    record.deployed(version, record.configured(), KEPT);
    assert!(record.versions().len() <= KEPT);
    holds(&record);
    record.lost(first);
    holds(&record);
}
