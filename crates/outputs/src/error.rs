//! Why a file cannot be written.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate's fallible calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file cannot be written. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It must not, or cannot, be written there.
    #[error("`{field}` {}: {why}", path.display())]
    Refused {
        /// The setting that names it.
        field: String,
        /// Its name.
        path: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// There is too little room for it.
    #[error("`{field}` {}: needs about {needed} bytes, and {} has {free} free", path.display(), folder.display())]
    NoRoom {
        /// The setting that names it.
        field: String,
        /// Its name.
        path: PathBuf,
        /// Where it would lie.
        folder: PathBuf,
        /// Bytes that it will take, by estimate.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The file system failed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The final name of the file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` where `path` is written.
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write { path, source }
    }
}
