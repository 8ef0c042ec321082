use std::os::unix::fs::PermissionsExt;

use super::{
    super::testing::{PATIENCE, TestFile},
    *,
};
use crate::broker::Retention;

const RETENTION: Retention = Retention {
    events: 1000,
    age: Duration::from_secs(600),
};

/// Opening it fails; what is said names the file.
#[track_caller]
fn refused(file: &TestFile) -> FileError {
    let Err(error) = file.try_log(RETENTION, Sync::Process) else {
        panic!("it was opened");
    };
    let text = error.to_string();
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    error
}

/// A file of many pages, which nobody has open.
fn filled() -> TestFile {
    let file = TestFile::new();
    let mut log = file.log(1000, RETENTION.age);
    for _ in 0..50 {
        log.append("news", Some("größe"), "x");
        log.append("news", None, &"x".repeat(5000));
    }
    log.close();
    assert!(fs::metadata(&*file).unwrap().len() > 200_000);
    file
}

#[test]
fn one_at_a_time_has_it_open() {
    let file = TestFile::new();
    let log = file.try_log(RETENTION, Sync::Process).unwrap();
    assert!(matches!(refused(&file), FileError::InUse(_)));
    drop(log);
    file.try_log(RETENTION, Sync::Power).unwrap();
}

#[test]
fn nobody_else_may_read_it() {
    let file = TestFile::new();
    let _log = file.try_log(RETENTION, Sync::Process).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for ending in ["", WAL, "-shm", LOCK] {
        assert_eq!(mode(&beside(&file, ending)), 0o600, "{ending}");
    }
    assert_eq!(mode(file.parent().unwrap()), 0o700);
}

#[test]
fn what_is_no_database_is_refused() {
    let file = TestFile::new();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&*file, "# a file of the user\n".repeat(100)).unwrap();
    assert!(matches!(refused(&file), FileError::NoDatabase(_)));
    fs::remove_file(&*file).unwrap();
    fs::create_dir(&*file).unwrap();
    assert!(matches!(refused(&file), FileError::Io { .. }));
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    for theirs in ["CREATE TABLE log (x)", "PRAGMA user_version = 7"] {
        let file = TestFile::new();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let connection = Connection::open(&*file).unwrap();
        connection.execute_batch(theirs).unwrap();
        drop(connection);
        let before = fs::read(&*file).unwrap();
        assert!(matches!(refused(&file), FileError::Foreign(_)));
        assert_eq!(fs::read(&*file).unwrap(), before);
    }
}

#[test]
fn a_newer_version_is_left_alone() {
    let file = filled();
    let connection = Connection::open(&*file).unwrap();
    connection
        .pragma_update(None, "user_version", VERSION + 1)
        .unwrap();
    drop(connection);
    let error = refused(&file);
    assert!(
        matches!(error, FileError::Newer { found, .. } if found == VERSION + 1),
        "{error}"
    );
}

#[test]
fn a_damaged_file_is_refused() {
    let file = filled();
    let whole = fs::read(&*file).unwrap();
    fs::write(&*file, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(refused(&file), FileError::Damaged { .. }));
    for page in [1, 10, 30] {
        let mut damaged = whole.clone();
        damaged[page * 4096..][..4096].fill(0xa5);
        fs::write(&*file, &damaged).unwrap();
        let error = refused(&file);
        assert!(
            matches!(error, FileError::Damaged { .. }),
            "page {page}: {error}"
        );
    }
    fs::write(&*file, &whole).unwrap();
    file.try_log(RETENTION, Sync::Process).unwrap();
    // A row that is no row of ours.
    let connection = Connection::open(&*file).unwrap();
    connection
        .execute_batch("UPDATE log SET epoch = '☂'")
        .unwrap();
    drop(connection);
    assert!(matches!(refused(&file), FileError::Damaged { .. }));
}

#[test]
fn a_wal_that_was_cut_off_ends_there() {
    let file = TestFile::new();
    let mut log = file.log(1000, RETENTION.age);
    log.append_some("news", 10);
    // As a process leaves it that is killed.
    let (database, wal) = (fs::read(&*file), fs::read(beside(&file, WAL)));
    log.close();
    let wal = wal.unwrap();
    fs::write(&*file, database.unwrap()).unwrap();
    fs::write(beside(&file, WAL), &wal[..wal.len() - 100]).unwrap();
    let mut log = file.log(1000, RETENTION.age);
    assert_eq!(log.after("news", 0).0.len(), 9);
}

#[test]
fn an_empty_file_is_a_new_one() {
    let file = TestFile::new();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&*file, "").unwrap();
    // No folder.
    let error = Lock::take(&file.join("x"), PATIENCE).unwrap_err();
    assert!(matches!(error, FileError::Io { .. }), "{error}");
    file.try_log(RETENTION, Sync::Process).unwrap();
}
