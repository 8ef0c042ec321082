//! Waiting for a change of the source.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::FutureExt;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{MetadataKind, ModifyKind},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// An editor writes several files in a moment; a change counts when nothing more has come for so long.
const QUIET: Duration = Duration::from_millis(150);
/// What goes on changing is looked at after so many of those all the same.
const QUIETS: u32 = 20;
/// The system tells of a change a little later than it is made.
const LATE: Duration = Duration::from_millis(50);
/// Folders that builds and package managers fill.
const OUTPUTS: [&str; 6] = [
    "target",
    "node_modules",
    "dist",
    "build",
    "__pycache__",
    "venv",
];

/// What is watched.
#[derive(Debug, Clone)]
pub enum Watched {
    /// A folder with source, and what in it builds write.
    Source {
        /// The folder.
        folder: PathBuf,
        /// Files and folders that do not count.
        outputs: Vec<PathBuf>,
    },
    /// One file.
    File(PathBuf),
}

/// Changes of what is watched, for as long as it is held.
pub struct Watch {
    changed: Arc<Notify>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Begins to watch. Paths have to be absolute and without symbolic links.
    pub fn start(watched: Watched) -> Result<Self> {
        let changed = Arc::new(Notify::new());
        let (folder, mode) = match &watched {
            Watched::Source { folder, .. } => (folder.clone(), RecursiveMode::Recursive),
            // Not the file itself: most that write one put another in its place.
            Watched::File(file) => {
                let folder = file.parent().unwrap_or(Path::new("/"));
                (folder.to_owned(), RecursiveMode::NonRecursive)
            }
        };
        let tell = changed.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            match event {
                // Some were lost, and it says nothing of them.
                Ok(event) if event.need_rescan() => tell.notify_one(),
                Ok(event) if !is_change(&event.kind) => {}
                Ok(event) if event.paths.iter().all(|path| !watched.counts(path)) => {}
                Ok(_) | Err(_) => tell.notify_one(),
            }
        })?;
        let watching = watcher.watch(&folder, mode);
        watching.with_context(|| format!("cannot watch {}", folder.display()))?;
        Ok(Self {
            changed,
            _watcher: watcher,
        })
    }

    /// Waits for a change, one that came since the last look included.
    pub async fn change(&self) {
        self.changed.notified().await;
    }

    /// Waits for the end of the changes that come with another.
    pub async fn quiet(&self) {
        for _ in 0..QUIETS {
            if timeout(QUIET, self.change()).await.is_err() {
                return;
            }
        }
    }

    /// Looks whether there was a change.
    pub async fn has_changed(&self) -> bool {
        sleep(LATE).await;
        self.change().now_or_never().is_some()
    }
}

impl Watched {
    fn counts(&self, path: &Path) -> bool {
        match self {
            Self::File(file) => path.file_name() == file.file_name(),
            Self::Source { folder, outputs } => {
                let below = path.strip_prefix(folder).unwrap_or(path);
                let is_output = outputs.iter().any(|output| path.starts_with(output));
                !is_output && below.iter().all(is_source)
            }
        }
    }
}

/// Whether a file or folder of this name may be source: not hidden, not a backup, nothing that builds write.
fn is_source(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().starts_with(b".");
    let backup = name.as_encoded_bytes().ends_with(b"~");
    !hidden && !backup && !OUTPUTS.iter().any(|output| name == *output)
}

/// Builds read their source; that is no change of it.
fn is_change(kind: &EventKind) -> bool {
    let is_read = matches!(
        kind,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime))
    );
    !is_read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_counts_and_what_builds_write_does_not() {
        let watched = Watched::Source {
            folder: "/home/me/.cache/guest".into(),
            outputs: vec!["/home/me/.cache/guest/out/guest.wasm".into()],
        };
        let counts = |path: &str| watched.counts(&Path::new("/home/me/.cache/guest").join(path));
        for source in [
            "",
            "src/lib.rs",
            "Cargo.toml",
            "page.html",
            "out/other",
            "src/target.rs",
        ] {
            assert!(counts(source), "{source}");
        }
        for other in [
            "target/debug/guest.wasm",
            "inner/target/x",
            ".git/index",
            "src/.lib.rs.swp",
            "src/lib.rs~",
            "node_modules/x/index.js",
            "out/guest.wasm",
        ] {
            assert!(!counts(other), "{other}");
        }
        let file = Watched::File("/a/guest.wasm".into());
        assert!(file.counts(Path::new("/a/guest.wasm")));
        assert!(!file.counts(Path::new("/a/guest.wasm.tmp")));
    }

    #[test]
    fn reading_is_no_change() {
        use notify::event::{AccessKind, CreateKind, DataChange, RemoveKind};
        assert!(!is_change(&EventKind::Access(AccessKind::Any)));
        for kind in [
            EventKind::Create(CreateKind::File),
            EventKind::Modify(ModifyKind::Data(DataChange::Any)),
            EventKind::Remove(RemoveKind::File),
        ] {
            assert!(is_change(&kind), "{kind:?}");
        }
    }
}
