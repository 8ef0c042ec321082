//! The data folder: files that are there completely or not at all, whenever the process is killed.
//!
//! ```text
//! fanfare.lock                 held by the node that uses the folder
//! apps/<name>.json             what is noted of an app
//! components/<version>.wasm    components, each under its own digest
//! new/                         what is being written
//! cache/                       compiled code
//! ```

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use thiserror::Error;
use tracing::{debug, error};

use super::record::Record;
use crate::{guest::version::VersionId, lock::Locked};

const LOCK: &str = "fanfare.lock";
const APPS: &str = "apps";
const COMPONENTS: &str = "components";
const NEW: &str = "new";
/// The folder for compiled code, which the engine fills.
pub const CACHE: &str = "cache";
/// What an app's file ends in, and what it ends in when it could not be read.
const RECORD: &str = "json";
const UNREADABLE: &str = "json.unreadable";
const COMPONENT: &str = "wasm";

/// Why the data folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Another node uses it.
    #[error(
        "the data folder {} is used by another node; give each node a folder of its own, with `--data` or `node.data`",
        .0.display()
    )]
    InUse(PathBuf),
    /// It cannot be made, read or written.
    #[error("the data folder {} cannot be used: {}: {error}", .folder.display(), .path.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// The file or folder in it.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Why a component cannot be had.
#[derive(Debug, Error)]
pub enum ComponentError {
    /// It is not there, or cannot be read.
    #[error("{} cannot be read: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: its digest is not the one in its name", .0.display())]
    Damaged(PathBuf),
}

impl ComponentError {
    /// Whether it cannot be had the next time either: any other failure may pass.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Unreadable { error, .. } => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// A data folder that this process alone uses.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Names in `new`.
    next: AtomicU64,
    /// Locked until it is dropped, or until the process ends.
    _lock: Locked,
}

impl Folder {
    /// Makes the folder where it is missing, locks it, and removes what a killed process has left half written.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |at: PathBuf| {
            move |error| FolderError::Io {
                folder: path.to_owned(),
                path: at,
                error,
            }
        };
        let within = [APPS, COMPONENTS, NEW, CACHE].map(|folder| path.join(folder));
        for folder in [path]
            .into_iter()
            .chain(within.iter().map(PathBuf::as_path))
        {
            // A component may hold what is nobody else's business.
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(failed(folder.to_owned()))?;
        }
        let lock_path = path.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed(lock_path.clone()))?;
        let lock = match Locked::new(lock, Duration::ZERO) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(lock_path)(error)),
        };
        let new = path.join(NEW);
        remove_unfinished(&new).map_err(failed(new))?;
        sync(path).map_err(failed(path.to_owned()))?;
        Ok(Self {
            path: path.to_owned(),
            next: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// All records that make sense, and whether there were others: those are moved aside and logged.
    pub fn records(&self) -> io::Result<(Vec<(String, Record)>, bool)> {
        let (mut records, mut all_read) = (Vec::new(), true);
        for entry in fs::read_dir(self.path.join(APPS))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(UNREADABLE) {
                // Its components may be all that is left of it.
                all_read = false;
            }
            let (Some(app), Some(extension)) = (path.file_stem(), path.extension()) else {
                continue;
            };
            if extension != RECORD {
                continue;
            }
            let app = app.to_string_lossy().into_owned();
            // What cannot be read now may be whole.
            let text = fs::read(&path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
            match Record::parse(&app, &text) {
                Ok(record) => records.push((app, record)),
                Err(reason) => {
                    let aside = path.with_extension(UNREADABLE);
                    error!(
                        app,
                        "{} cannot be read: {reason}; it is moved to {}, and the versions it named are left out",
                        path.display(),
                        aside.display()
                    );
                    fs::rename(&path, &aside)?;
                    all_read = false;
                }
            }
        }
        Ok((records, all_read))
    }

    /// Writes what is noted of an app.
    pub fn write_record(&self, app: &str, record: &Record) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        self.write(APPS, &format!("{app}.{RECORD}"), &text)
    }

    /// Writes a component, unless it is there.
    pub fn write_component(&self, version: VersionId, component: &[u8]) -> io::Result<()> {
        if self.component(version).is_ok() {
            return Ok(());
        }
        self.write(COMPONENTS, &component_name(version), component)
    }

    /// Reads a component, which has to be what was written.
    pub fn component(&self, version: VersionId) -> Result<Bytes, ComponentError> {
        let path = self.path.join(COMPONENTS).join(component_name(version));
        match fs::read(&path) {
            Ok(component) if VersionId::of(&component) == version => Ok(component.into()),
            Ok(_) => Err(ComponentError::Damaged(path)),
            Err(error) => Err(ComponentError::Unreadable { path, error }),
        }
    }

    /// Removes a component. One that stays takes room and does no harm.
    pub fn remove_component(&self, version: VersionId) {
        let path = self.path.join(COMPONENTS).join(component_name(version));
        if let Err(error) = fs::remove_file(&path) {
            debug!(%error, "cannot remove {}", path.display());
        }
    }

    /// All components there are.
    pub fn components(&self) -> io::Result<Vec<VersionId>> {
        let mut versions = Vec::new();
        for entry in fs::read_dir(self.path.join(COMPONENTS))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let is_component = path.extension().is_some_and(|found| found == COMPONENT);
            versions.extend(name.parse::<VersionId>().ok().filter(|_| is_component));
        }
        Ok(versions)
    }

    /// Writes a file so that it is there completely or as it was before, and stays: content first, then the name.
    fn write(&self, folder: &str, name: &str, content: &[u8]) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let new = self.path.join(NEW).join(number.to_string());
        let folder = self.path.join(folder);
        let written = (|| {
            let mut file = File::create_new(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, folder.join(name))?;
            sync(&folder)
        })();
        if written.is_err() {
            // It may have its name already.
            let _ = fs::remove_file(&new);
        }
        written
    }
}

fn component_name(version: VersionId) -> String {
    format!("{version}.{COMPONENT}")
}

/// Removes what a killed process has left half written: files with the names that [`Folder::write`] gives, and nothing
/// that somebody else has put there.
fn remove_unfinished(new: &Path) -> io::Result<()> {
    for entry in fs::read_dir(new)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if is_ours && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the names in a folder last.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
