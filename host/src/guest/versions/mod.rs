//! The versions of all apps: which code there is, which of it serves, and which did before.
//!
//! # Layout
//!
//! - [`Versions`]: those of a node, in its data folder or, without one, in memory.
//! - [`record`]: what is noted of one app.
//! - [`folder`]: the files of the data folder, and how they stay whole.
//! - [`timestamp`]: a moment as it is shown.
//!
//! # At the start
//!
//! The version that was deployed last is served, unless the configured component has changed since: whoever changed it
//! did so later, and knows why. Where a version cannot be served any more, the one before it is, and at last the
//! configured component.

pub mod folder;
pub mod record;
pub mod timestamp;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
};

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tracing::{error, info};

use self::{
    folder::{ComponentError, Folder, FolderError},
    record::{Record, Source, Version},
    timestamp::Timestamp,
};
use super::{check::GuestError, version::VersionId};

/// The versions of all apps of a node. What reads and writes here blocks its thread.
#[derive(Debug)]
pub struct Versions {
    components: Components,
    records: Mutex<BTreeMap<String, Record>>,
    /// Held by whoever changes something: a record and its components belong together.
    change: Mutex<()>,
}

#[derive(Debug)]
enum Components {
    Memory(Mutex<HashMap<VersionId, Bytes>>),
    Folder(Folder),
}

/// Why an app has nothing to serve.
#[derive(Debug, Error)]
pub enum Unservable {
    /// The configured component is none.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The data folder takes nothing.
    #[error("what is served cannot be noted in the data folder: {0}")]
    Unkept(#[from] io::Error),
}

impl Versions {
    /// Versions that last until the process ends.
    pub fn in_memory() -> Self {
        Self::new(Components::Memory(Mutex::default()), BTreeMap::new())
    }

    /// Versions in a data folder, which is made where it is missing and locked until this is dropped.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let folder = Folder::open(path)?;
        let failed = |error| FolderError::Io {
            folder: path.to_owned(),
            path: path.to_owned(),
            error,
        };
        let (records, all_read) = folder.records().map_err(failed)?;
        if all_read {
            // Of a deploy that was killed before its version was noted.
            for version in folder.components().map_err(failed)? {
                if !records.iter().any(|(_, record)| record.has(version)) {
                    folder.remove_component(version);
                }
            }
        }
        let records = records.into_iter().collect();
        Ok(Self::new(Components::Folder(folder), records))
    }

    fn new(components: Components, records: BTreeMap<String, Record>) -> Self {
        Self {
            components,
            records: Mutex::new(records),
            change: Mutex::default(),
        }
    }

    /// Whether they outlive the process.
    pub fn is_durable(&self) -> bool {
        matches!(self.components, Components::Folder(_))
    }

    /// How many versions of an app are kept, the one that serves included.
    fn kept(&self) -> usize {
        match self.is_durable() {
            true => record::KEPT,
            false => record::KEPT_IN_MEMORY,
        }
    }

    /// What is noted of an app.
    pub fn record(&self, app: &str) -> Option<Record> {
        self.records.lock().get(app).cloned()
    }

    /// A component that is kept.
    pub fn component(&self, version: VersionId) -> Result<Bytes, ComponentError> {
        match &self.components {
            Components::Folder(folder) => folder.component(version),
            Components::Memory(components) => {
                let component = components.lock().get(&version).cloned();
                component.ok_or_else(|| ComponentError::Unreadable {
                    path: version.to_string().into(),
                    error: io::ErrorKind::NotFound.into(),
                })
            }
        }
    }

    /// Chooses what an app serves after a start, by the rule that the module names, and notes it: what `compile` makes of
    /// the component. It is told where that is from, and refuses what this host cannot serve.
    pub async fn choose<T>(
        &self,
        app: &str,
        configured: &Path,
        mut compile: impl AsyncFnMut(String, Bytes) -> Result<T, GuestError>,
    ) -> Result<T, Unservable> {
        let file = std::fs::read(configured).map(Bytes::from);
        let digest = file.as_ref().ok().map(|bytes| VersionId::of(bytes));
        let record = self.record(app);
        let is_unchanged = |record: &&Record| digest.is_none() || digest == record.configured();
        let kept = record.as_ref().filter(is_unchanged);
        let mut lost = Vec::new();
        for version in kept.into_iter().flat_map(in_turn) {
            let component = match &file {
                Ok(component) if digest == Some(version) => Ok(component.clone()),
                _ => self.component(version),
            };
            let component = match component {
                Ok(component) => component,
                Err(problem) => {
                    error!(
                        app,
                        "version {} cannot be served: {problem}",
                        version.short()
                    );
                    if problem.is_lost() {
                        lost.push(version);
                    }
                    continue;
                }
            };
            let origin = format!("version {}", version.short());
            match compile(origin, component.clone()).await {
                Ok(compiled) => {
                    let why = match digest {
                        Some(_) => "has not changed since that was chosen",
                        None => "cannot be read",
                    };
                    let file = configured.display();
                    info!(app, "serving version {}: {file} {why}", version.short());
                    self.note_choice(app, version, &component, &lost);
                    return Ok(compiled);
                }
                Err(problem) => error!(app, "{problem}"),
            }
        }
        let component = file.map_err(|error| GuestError::unreadable(configured, error))?;
        let version = VersionId::of(&component);
        let origin = configured.display().to_string();
        let compiled = compile(origin, component.clone()).await?;
        let why = match (&record, kept) {
            (None, _) => "",
            (Some(_), None) => ", which has changed since the last deploy",
            (Some(_), Some(_)) => ", as nothing else can be served",
        };
        let file = configured.display();
        info!(app, "serving version {}: {file}{why}", version.short());
        self.put(version, &component)?;
        let noted = Version {
            version,
            size: component.len() as u64,
            since: Timestamp::now(),
            source: Source::Configured,
        };
        let record = match record {
            None => Record::new(app, noted, Some(version)),
            Some(mut record) => {
                record.deployed(noted, Some(version), self.kept());
                lost.iter().for_each(|version| record.lost(*version));
                record
            }
        };
        self.note(app, record)?;
        Ok(compiled)
    }

    /// Puts a component where it is kept, before anything depends on it. Until it is noted it may be dropped.
    pub fn put(&self, version: VersionId, component: &Bytes) -> io::Result<()> {
        match &self.components {
            Components::Folder(folder) => folder.write_component(version, component),
            Components::Memory(components) => {
                components.lock().insert(version, component.clone());
                Ok(())
            }
        }
    }

    /// Takes back what was put, and noted, for a deploy that came to nothing: the version before it serves on.
    pub fn take_back(&self, app: &str, serves: VersionId, version: VersionId) {
        let _change = self.change.lock();
        if let Some(mut record) = self.record(app)
            && record.current() != serves
        {
            let configured = record.configured();
            record.rolled_back(serves, configured);
            if let Err(error) = self.note(app, record) {
                error!(app, "what is served cannot be noted: {error}");
            }
        }
        self.drop_if_unused(version);
    }

    /// Notes that an app serves a component that was deployed, and drops versions past those that are kept.
    pub fn deployed(
        &self,
        app: &str,
        version: VersionId,
        component: &Bytes,
        configured: Option<VersionId>,
    ) -> io::Result<()> {
        let _change = self.change.lock();
        // Another deploy may have dropped it meanwhile, as none had it yet.
        self.put(version, component)?;
        let noted = Version {
            version,
            size: component.len() as u64,
            since: Timestamp::now(),
            source: Source::Deployed,
        };
        let record = match self.record(app) {
            Some(mut record) => {
                record.deployed(noted, configured, self.kept());
                record
            }
            None => Record::new(app, noted, configured),
        };
        self.note(app, record)
    }

    /// Notes that an app serves one of its versions again.
    pub fn rolled_back(
        &self,
        app: &str,
        to: VersionId,
        configured: Option<VersionId>,
    ) -> io::Result<()> {
        let _change = self.change.lock();
        let Some(mut record) = self.record(app) else {
            return Ok(());
        };
        record.rolled_back(to, configured);
        self.note(app, record)
    }

    /// Notes a choice among the versions that are kept. Where that cannot be written the start goes on: the same is chosen
    /// the next time.
    fn note_choice(&self, app: &str, version: VersionId, component: &Bytes, lost: &[VersionId]) {
        let Some(mut record) = self.record(app) else {
            return;
        };
        if record.current() != version {
            let configured = record.configured();
            record.rolled_back(version, configured);
            lost.iter().for_each(|version| record.lost(*version));
        }
        // It came from the configured file where what was kept of it is lost.
        let noted = self.put(version, component);
        if let Err(error) = noted.and_then(|()| self.note(app, record)) {
            error!(app, "what is served cannot be noted: {error}");
        }
    }

    /// Writes a record and drops the components that only the one before it had.
    fn note(&self, app: &str, record: Record) -> io::Result<()> {
        let before = self.record(app);
        if before.as_ref() == Some(&record) {
            return Ok(());
        }
        if let Components::Folder(folder) = &self.components {
            folder.write_record(app, &record)?;
        }
        self.records.lock().insert(app.to_owned(), record);
        for version in before.iter().flat_map(|before| before.versions()) {
            self.drop_if_unused(version.version);
        }
        Ok(())
    }

    fn drop_if_unused(&self, version: VersionId) {
        if self
            .records
            .lock()
            .values()
            .any(|record| record.has(version))
        {
            return;
        }
        match &self.components {
            Components::Folder(folder) => folder.remove_component(version),
            Components::Memory(components) => {
                components.lock().remove(&version);
            }
        }
    }
}

/// The versions that come into question after a start, the best first.
fn in_turn(record: &Record) -> impl Iterator<Item = VersionId> {
    std::iter::once(record.current()).chain(record.before_current())
}

#[cfg(test)]
mod tests;
