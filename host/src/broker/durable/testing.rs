//! A file for a test, and what it is opened with.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{
    super::{Page, Retention, payload},
    Sync,
    file::{self, FileError, Lock},
    listeners::Listeners,
    log::{Kept, Log},
    reader::Reader,
    writer::Publication,
};
use crate::{
    event::{Data, Event, IdForm},
    hub::channel::ChannelName,
};

pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// The largest data of an event.
pub(super) const EVENT_DATA: usize = 1 << 20;

/// A file in a folder of its own, which is removed when this is dropped.
pub(super) struct TestFile {
    /// Removed with it.
    _folder: TempDir,
    pub(super) path: PathBuf,
}

/// A log over it, whose lock it has.
pub(super) struct TestLog {
    pub(super) log: Log,
    pub(super) reader: Reader,
    _lock: Lock,
}

impl TestFile {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The folder in it is to be made.
        let path = folder.path().join("data/events.db");
        Self {
            _folder: folder,
            path,
        }
    }

    pub(super) fn log(&self, events: usize, age: Duration) -> TestLog {
        let retention = Retention { events, age };
        self.try_log(retention, Sync::Process).unwrap()
    }

    pub(super) fn try_log(&self, retention: Retention, sync: Sync) -> Result<TestLog, FileError> {
        let lock = Lock::take(&self.path, PATIENCE)?;
        let connection = file::open(&self.path, sync, PATIENCE, &lock)?;
        let log = Log::attach(connection, self.path.clone(), retention, sync)?;
        let reader = Reader::new(
            file::open_reader(&self.path, PATIENCE)?,
            retention.age,
            log.epoch().to_owned(),
            Arc::new(Listeners::new(log.last())),
        );
        Ok(TestLog {
            log,
            reader,
            _lock: lock,
        })
    }
}

impl Deref for TestFile {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl TestLog {
    pub(super) fn append(&mut self, channel: &str, id: Option<&str>, data: &str) -> Kept {
        let kept = self.log.append(&[publication(channel, id, data)]).unwrap();
        kept[0]
    }

    /// Appends events, and returns their positions.
    pub(super) fn append_some(&mut self, channel: &str, count: usize) -> Vec<u64> {
        let data = (0..count).map(|number| number.to_string());
        data.map(|data| self.append(channel, None, &data).position)
            .collect()
    }

    pub(super) fn read(&mut self, channel: &str, after: u64, limit: usize) -> Page {
        let channel = ChannelName::new(channel).unwrap();
        let page = self.reader.read(&channel, after, limit, EVENT_DATA);
        page.unwrap()
    }

    /// The positions of all that is kept after one, and what is missing.
    pub(super) fn after(&mut self, channel: &str, after: u64) -> (Vec<u64>, u64) {
        let page = self.read(channel, after, 1000);
        assert!(!page.more);
        assert_eq!(page.through, self.log.last());
        let positions = page.events.iter().map(|placed| placed.position);
        (positions.collect(), page.missing)
    }

    pub(super) fn place(&mut self, channel: &str, id: &str) -> Option<u64> {
        let channel = ChannelName::new(channel).unwrap();
        self.reader.place(&channel, id).unwrap()
    }

    /// How many rows a table has.
    pub(super) fn rows(&self, table: &str) -> u64 {
        let count = format!("SELECT count(*) FROM {table}");
        let connection = self.log.connection();
        connection
            .query_row(&count, [], |row| row.get::<_, i64>(0))
            .unwrap() as u64
    }

    pub(super) fn close(self) {
        self.log.close();
    }
}

pub(super) fn publication(channel: &str, id: Option<&str>, data: &str) -> Publication {
    let mut event = Event::new(Data::Text(data.into()), EVENT_DATA).unwrap();
    if let Some(id) = id {
        event = event.with_id(id.into(), IdForm::Any).unwrap();
    }
    Publication {
        channel: ChannelName::new(channel).unwrap(),
        payload: payload::encode(&event),
        event,
        answer: oneshot::channel().0,
    }
}
