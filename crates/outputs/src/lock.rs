//! The lock on a file: held while its process lives.

use std::fs::{File, Metadata, TryLockError};
use std::path::Path;

/// What came of asking for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It is ours.
    Held,
    /// Another has it.
    Taken {
        /// That process, where the system tells.
        by: Option<u32>,
    },
    /// The file system has no locks.
    Unknown,
}

/// Takes the lock on a file (`flock`), without waiting. It is held until the file is closed.
pub fn lock(file: &File) -> Lock {
    answer(file, file.try_lock())
}

/// Takes a lock that others may share, and that keeps away who wants it alone: to look whether
/// somebody has it. It is held until the file is closed.
pub fn lock_shared(file: &File) -> Lock {
    answer(file, file.try_lock_shared())
}

fn answer(file: &File, locked: std::result::Result<(), TryLockError>) -> Lock {
    match locked {
        Ok(()) => Lock::Held,
        Err(TryLockError::WouldBlock) => Lock::Taken { by: holder(file) },
        Err(TryLockError::Error(_)) => Lock::Unknown,
    }
}

/// The process that holds the lock on a file.
#[cfg(unix)]
fn holder(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    // `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234567 0 EOF`: process, device, inode.
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let words = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut own = words.filter(|w| w.get(1) == Some(&"FLOCK"));
    let line = own.find(|w| w.get(5).is_some_and(|f| f.rsplit(':').next() == Some(&inode)))?;
    // 0 is a process of another container.
    line.get(4)?.parse().ok().filter(|process| *process > 0)
}

#[cfg(not(unix))]
fn holder(_: &File) -> Option<u32> {
    None
}

/// Whether `path` still names this file, and not another one that took its place.
pub fn is_named(path: &Path, file: &File) -> bool {
    match (path.symlink_metadata(), file.metadata()) {
        (Ok(named), Ok(open)) => identity(&named) == identity(&open),
        _ => false,
    }
}

/// Device and inode.
#[cfg(unix)]
pub(crate) fn identity(about: &Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((about.dev(), about.ino()))
}

#[cfg(not(unix))]
pub(crate) fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}
