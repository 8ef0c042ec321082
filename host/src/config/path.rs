//! Paths: never empty, and relative to the file that names them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error};

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = String::deserialize(deserializer)?;
    if path.is_empty() {
        return Err(D::Error::custom("a path must not be empty"));
    }
    if path.contains('\0') {
        return Err(D::Error::custom("a path must not hold a NUL"));
    }
    Ok(PathBuf::from(path))
}

pub(super) fn deserialize_some<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    deserialize(deserializer).map(Some)
}

/// The path as seen from a folder. An absolute one stays as it is.
pub(super) fn resolve(path: &mut PathBuf, folder: &Path) {
    *path = folder.join(&path);
}
