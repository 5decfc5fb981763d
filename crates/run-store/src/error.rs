//! Why a folder of a run cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate's fallible calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a folder of a run, or a file in it, cannot be used. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process, or another handle of this one, works on the run.
    #[error("{}: {} works on this run", path.display(), process(*by))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// That process, where the system tells.
        by: Option<u32>,
    },
    /// There is no run to go on with.
    #[error("{}: no unfinished run: {why}", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What is there instead.
        why: &'static str,
    },
    /// An unfinished run is there already.
    #[error("{}: an unfinished run is there; resume it, or remove it first", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A folder for a new run has files that this crate did not make.
    #[error(
        "{}: has {}, which belongs to no run; name another folder",
        path.display(),
        file.display()
    )]
    Foreign {
        /// The folder, or what lies in its place.
        path: PathBuf,
        /// The first such file.
        file: PathBuf,
    },
    /// Its bytes are not those that were written.
    #[error("{}: damaged: {why}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was expected and what was found.
        why: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "{}: written by a newer wan (format {version}; this one reads up to {known})",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        version: u64,
        /// The newest version that this crate reads.
        known: u64,
    },
    /// What was given cannot be written.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The folder.
        path: PathBuf,
        /// What was expected and what was found.
        why: String,
    },
    /// A growing file is open already.
    #[error("{}: is being written to by this process already", file.display())]
    Open {
        /// The file.
        file: PathBuf,
    },
    /// The file system failed.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was to be done with it.
        doing: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether there was no room: the disk is full, or the quota used up.
    pub fn is_no_room(&self) -> bool {
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }

    /// Whether an unfinished run that nobody works on is there already.
    pub fn is_unfinished_run(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }

    /// Whether the name of a new folder is taken, by whatever.
    pub fn is_taken(&self) -> bool {
        let is_there = matches!(self, Self::Exists { .. } | Self::Foreign { .. });
        is_there || matches!(self, Self::InUse { .. } | Self::Damaged { .. })
    }

    /// For `map_err` where something is done with `path`.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, doing, source }
    }

    /// For `map_err` where `file` is read: what the disk cannot give back is damage, and so is an
    /// early end.
    pub(crate) fn reading(file: &Path) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                Self::Damaged { file, why: "it ends before its contents do".into() }
            }
            io::ErrorKind::InvalidData => Self::Damaged { file, why: source.to_string() },
            _ if is_bad_medium(&source) => {
                Self::Damaged { file, why: format!("the disk cannot read it: {source}") }
            }
            _ => Self::Io { path: file, doing: "read it", source },
        }
    }

    pub(crate) fn damaged(file: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), why: why.into() }
    }

    pub(crate) fn refused(path: &Path, why: impl Into<String>) -> Self {
        Self::Refused { path: path.into(), why: why.into() }
    }
}

#[cfg(unix)]
fn is_bad_medium(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

#[cfg(not(unix))]
fn is_bad_medium(_: &io::Error) -> bool {
    false
}

fn process(by: Option<u32>) -> String {
    by.map_or("another process".into(), |by| format!("process {by}"))
}
