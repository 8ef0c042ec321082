//! Opening the file: whose it is, its form, and what is wrong with it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

use super::{super::BrokerError, Sync};
use crate::lock::Locked;

/// Tells our files from databases of other programs: `Fanf`.
const APPLICATION: i32 = 0x4661_6e66;
/// The version of the form. A node that knows only older ones leaves the file alone.
pub(super) const VERSION: i32 = 1;
/// What the file holds. An index ends in the position by itself.
const SCHEMA: &str = include_str!("schema.sql");

/// A file of at most this size is checked as a whole before it is used. What is wrong with a larger one may show only where
/// it is read: whoever starts waits for this, and the disk may be slow.
const CHECKED: u64 = 16 << 20;
/// Pages in the file that SQLite writes to first, the WAL, from which on they are written back. That waits for the disk.
const WAL_PAGES: i64 = 4000;
/// What the WAL is cut to once it was written back, in bytes.
pub(super) const WAL_KEPT: i64 = WAL_PAGES * 4096;
/// Statements that are kept ready.
const STATEMENTS: usize = 32;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub(super) enum FileError {
    /// Another node uses it.
    #[error(
        "the events file {} is used by another node, which holds {}; give each node a file of its own, or stop the other \
         one first",
        .0.display(),
        beside(.0, LOCK).display()
    )]
    InUse(PathBuf),
    /// It is no database.
    #[error(
        "the events file {} is not one: it is no SQLite database; set another file, or move this one away to begin anew",
        .0.display()
    )]
    NoDatabase(PathBuf),
    /// It is a database of another program.
    #[error(
        "the events file {} is not one: it is a database of another program; set another file",
        .0.display()
    )]
    Foreign(PathBuf),
    /// A newer version wrote it.
    #[error(
        "the events file {} has version {found}, and this node knows versions up to {VERSION}: run the newer software that \
         wrote it, or move the file and those beside it that begin with its name away to begin anew",
        .file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: i32,
    },
    /// It cannot be read any more.
    #[error(
        "the events file {} is damaged ({found}): put a copy in its place while no node uses it, or move it and those beside \
         it that begin with its name away to begin anew",
        .file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        found: String,
    },
    /// No room is left.
    #[error(
        "the events file {} has no room to grow: make room on its disk",
        .0.display()
    )]
    Full(PathBuf),
    /// Another program holds it.
    #[error(
        "the events file {} is locked by another program for too long: end what has it open",
        .0.display()
    )]
    Locked(PathBuf),
    /// The operating system says no.
    #[error(
        "the events file {} cannot be read or written ({error}): see that its folder is there, may be written to, and is on \
         a disk of this machine that works",
        .file.display()
    )]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        error: String,
    },
}

const LOCK: &str = ".lock";
/// What SQLite writes to first.
pub(super) const WAL: &str = "-wal";

/// Held by the process that has the file open, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Locked,
}

// === impl FileError ===

impl FileError {
    /// What an error of SQLite means.
    pub(super) fn new(file: &Path, error: &rusqlite::Error) -> Self {
        let path = file.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NoDatabase(path),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(path),
            Some(ErrorCode::DiskFull) => Self::Full(path),
            // Rows that are missing, or of another type, were never written so.
            Some(
                ErrorCode::DatabaseCorrupt
                | ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::Unknown,
            )
            | None => Self::Damaged {
                file: path,
                found: error.to_string(),
            },
            Some(_) => Self::Io {
                file: path,
                error: error.to_string(),
            },
        }
    }

    fn io(file: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full(file.to_owned()),
            _ => Self::Io {
                file: file.to_owned(),
                error: error.to_string(),
            },
        }
    }
}

impl From<FileError> for BrokerError {
    fn from(error: FileError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

// === impl Lock ===

impl Lock {
    /// Waits a little where another one holds it: it may be about to end.
    pub(super) fn take(file: &Path, patience: Duration) -> Result<Self, FileError> {
        let failed = |error| FileError::io(file, error);
        if let Some(folder) = folder(file) {
            let mut builder = DirBuilder::new();
            // Events may hold what is nobody else's business.
            builder.recursive(true).mode(0o700);
            builder.create(folder).map_err(failed)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(beside(file, LOCK))
            .map_err(failed)?;
        match Locked::new(lock, patience) {
            Ok(lock) => Ok(Self { _file: lock }),
            Err(TryLockError::WouldBlock) => Err(FileError::InUse(file.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// The file of this name beside a file.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

fn folder(file: &Path) -> Option<&Path> {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
}

/// A connection that writes. The file is made where it is missing, by whoever holds its lock.
pub(super) fn open(
    file: &Path,
    sync: Sync,
    patience: Duration,
    _lock: &Lock,
) -> Result<Connection, FileError> {
    create(file).map_err(|error| FileError::io(file, error))?;
    let failed = |error| FileError::new(file, &error);
    let connection = connect(file, patience).map_err(failed)?;
    let version = number(&connection, "user_version").map_err(failed)?;
    let application = number(&connection, "application_id").map_err(failed)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection
        .query_row(tables, [], |row| row.get(0))
        .map_err(failed)?;
    let new = (application, version, tables) == (0, 0, 0);
    match version {
        _ if !new && application != APPLICATION => {
            return Err(FileError::Foreign(file.to_owned()));
        }
        found if found > VERSION => {
            let file = file.to_owned();
            return Err(FileError::Newer { file, found });
        }
        _ => {}
    }
    if new {
        // Only as long as there is no table.
        let shrinks = connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL");
        shrinks.map_err(failed)?;
    }
    let mode = "PRAGMA journal_mode = WAL";
    let mode: String = connection
        .query_row(mode, [], |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(FileError::Io {
            file: file.to_owned(),
            error: "its file system cannot share memory between connections, as SQLite's WAL mode \
                    needs it"
                .into(),
        });
    }
    let synchronous = match sync {
        // The operating system has it when a transaction ends; the disk, when the WAL is written back.
        Sync::Process => "NORMAL",
        Sync::Power => "FULL",
    };
    let settings = format!(
        "PRAGMA synchronous = {synchronous}; PRAGMA fullfsync = ON; \
         PRAGMA wal_autocheckpoint = {WAL_PAGES}; PRAGMA journal_size_limit = {WAL_KEPT};"
    );
    connection.execute_batch(&settings).map_err(failed)?;
    if new {
        let made = connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION}; \
             PRAGMA user_version = {VERSION}; COMMIT;"
        ));
        made.map_err(failed)?;
    } else {
        check(file, &connection)?;
    }
    Ok(connection)
}

/// A connection that reads.
pub(super) fn open_reader(file: &Path, patience: Duration) -> Result<Connection, FileError> {
    let failed = |error| FileError::new(file, &error);
    let connection = connect(file, patience).map_err(failed)?;
    let settings = connection.execute_batch("PRAGMA query_only = ON");
    settings.map_err(failed)?;
    Ok(connection)
}

/// Sees that there is a file, which nobody else may read. SQLite would make one that all may.
fn create(file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.create_new(true).write(true).mode(0o600).open(file) {
        Ok(created) => {
            created.sync_all()?;
            File::open(folder(file).unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn connect(file: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    // One thread has it. A name is never an address with options in it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

fn check(file: &Path, connection: &Connection) -> Result<(), FileError> {
    let size = fs::metadata(file).map_err(|error| FileError::io(file, error))?;
    if size.len() > CHECKED {
        return Ok(());
    }
    let found: rusqlite::Result<String> =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(FileError::Damaged {
            file: file.to_owned(),
            found: found.replace('\n', " "),
        }),
        Err(error) => Err(FileError::new(file, &error)),
    }
}

#[cfg(test)]
mod tests;
