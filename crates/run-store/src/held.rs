//! The lock on a folder: one process works on a run.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use wan_outputs::{Lock, is_named, lock, lock_shared};

use crate::disk::{Disk, open_to_read};
use crate::error::{Error, Result};
use crate::names::LOCK;

/// How often the lock is asked for: whoever looks at a run has it for a moment.
const TRIES: u32 = 10;

/// Between two times.
const PAUSE: Duration = Duration::from_millis(10);

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    /// Closing it gives the lock back.
    _file: File,
    without_lock: bool,
}

impl Held {
    /// # Errors
    /// [`Error::InUse`]; [`Error::NoRun`] if the folder is not there.
    pub(crate) fn take(disk: &Disk, folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let mut holder = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            let file = disk.open_lock(&path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => {
                    Error::NoRun { path: folder.into(), why: "there is no such folder" }
                }
                _ => Error::Io { path: path.clone(), doing: "open it", source },
            })?;
            let without_lock = match lock(&file) {
                Lock::Held => false,
                Lock::Unknown => true,
                Lock::Taken { by } => {
                    holder = by;
                    continue;
                }
            };
            // Its owner may have removed it between our opening and our lock.
            if is_named(&path, &file) {
                return Ok(Self { path, _file: file, without_lock });
            }
        }
        Err(Error::InUse { path: folder.into(), by: holder })
    }

    pub(crate) fn is_without_lock(&self) -> bool {
        self.without_lock
    }

    /// Removes the lock file, and gives the lock back.
    pub(crate) fn remove(self, disk: &Disk) -> io::Result<()> {
        disk.remove(&self.path)
    }
}

/// Removes a file of which nobody holds the lock, as an ended process left it.
pub(crate) fn remove_if_left(disk: &Disk, path: &Path) -> Result<()> {
    let file = match open_to_read(path) {
        Ok((file, _)) => file,
        // It has got its name meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Io { path: path.into(), doing: "open it", source }),
    };
    if matches!(lock(&file), Lock::Taken { .. }) || !is_named(path, &file) {
        return Ok(());
    }
    // While the lock is held: afterwards it may be another's.
    disk.remove(path).map_err(Error::io(path, "remove it"))
}

/// A process that works on a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Its number, where the system tells.
    pub process: Option<u32>,
}

/// Who works on the run of a folder.
pub(crate) fn look(folder: &Path) -> io::Result<Option<Worker>> {
    let file = match open_to_read(&folder.join(LOCK)) {
        Ok((file, _)) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(match lock_shared(&file) {
        Lock::Taken { by } => Some(Worker { process: by }),
        Lock::Held | Lock::Unknown => None,
    })
}
