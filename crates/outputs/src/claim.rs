//! One file that is being written.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::folder::{flush, folder_of};
use crate::lock::{Lock, identity, is_named, lock};
use crate::space;
use crate::steward::{Entrusted, Steward};

/// Temporary files of this process.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// How often a temporary file may be another one than was opened.
const TRIES: usize = 100;

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary files of all claims of this process. For one that ends at once.
pub fn abandon_all() {
    for path in std::mem::take(&mut *unfinished()) {
        let _ = fs::remove_file(path);
    }
}

/// A file that this process alone will write. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<File>,
    /// Bytes that it will take, by estimate.
    bytes: u64,
    /// Who holds the lock, if not this process, and under which number.
    steward: Option<(Arc<dyn Steward>, u64)>,
}

/// What a claim met.
#[derive(Debug)]
pub enum Claimed {
    /// The file is ours to write.
    Ours {
        /// The claim.
        claim: Claim,
        /// A process that has ended left the temporary file.
        was_left: bool,
        /// The file system has no locks.
        without_lock: bool,
    },
    /// Another process writes it.
    Taken {
        /// That process, where the system tells.
        by: Option<u32>,
    },
}

impl Claim {
    /// Locks the temporary file beside `path`, or in the folder `temporary_in` of the same file
    /// system, and empties it. What else there is to look at before a file is written,
    /// [`Outputs`](crate::Outputs) looks at.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(path: &Path, temporary_in: Option<&Path>) -> io::Result<Claimed> {
        Self::open(path, temporary_name(path, temporary_in), &OpenOptions::new())
    }

    /// As [`of`](Self::of), beside `path`, for a file that the user alone may read (on Unix).
    ///
    /// # Errors
    /// What the file system says.
    pub fn private(path: &Path) -> io::Result<Claimed> {
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut claimed = Self::open(path, temporary_name(path, None), &options)?;
        // One that was left may have been made by another hand.
        #[cfg(unix)]
        if let Claimed::Ours { claim, was_left: true, .. } = &mut claimed {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            claim.file().set_permissions(private)?;
        }
        Ok(claimed)
    }

    fn open(path: &Path, temporary: PathBuf, options: &OpenOptions) -> io::Result<Claimed> {
        for _ in 0..TRIES {
            let (file, was_left) = open(&temporary, options)?;
            let without_lock = match lock(&file) {
                Lock::Held => false,
                Lock::Unknown => true,
                Lock::Taken { by } => return Ok(Claimed::Taken { by }),
            };
            // Its owner may have renamed it between our opening and our lock.
            if !is_named(&temporary, &file) {
                continue;
            }
            file.set_len(0)?;
            unfinished().insert(temporary.clone());
            let (path, file) = (path.into(), Some(file));
            let claim = Self { path, temporary, file, bytes: 0, steward: None };
            return Ok(Claimed::Ours { claim, was_left, without_lock });
        }
        Err(io::Error::other("others take its temporary file again and again"))
    }

    /// As [`of`](Self::of), by another process.
    pub(crate) fn through(
        steward: &Arc<dyn Steward>,
        path: &Path,
        temporary_in: Option<&Path>,
    ) -> io::Result<Claimed> {
        let entrusted = steward.claim(path, temporary_in)?;
        let (number, temporary, was_left, without_lock) = match entrusted {
            Entrusted::Taken { by } => return Ok(Claimed::Taken { by }),
            Entrusted::Ours { claim, temporary, was_left, without_lock } => {
                (claim, temporary, was_left, without_lock)
            }
        };
        let file = OpenOptions::new().read(true).write(true).open(&temporary);
        let file = file.inspect_err(|_| steward.give_up(number))?;
        let steward = Some((steward.clone(), number));
        let (path, file) = (path.into(), Some(file));
        let claim = Self { path, temporary, file, bytes: 0, steward };
        Ok(Claimed::Ours { claim, was_left, without_lock })
    }

    /// The temporary file.
    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, to be written to.
    ///
    /// # Panics
    /// Never: a claim has its file until it is kept.
    pub fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("a claim has its file until it is kept")
    }

    /// Takes room on the disk, as far as the file system can; gives whether it has.
    ///
    /// # Errors
    /// If there is no such room.
    pub(crate) fn reserve(&mut self, bytes: u64) -> io::Result<bool> {
        self.bytes = bytes;
        space::reserve(self.file(), bytes)
    }

    /// A file without a name in the folder of the temporary file, for what is put together at the end. As much room
    /// is taken for it as for the claim.
    ///
    /// # Errors
    /// If there is no such room, or the folder cannot be written to.
    pub fn scratch(&self) -> io::Result<File> {
        let file = tempfile::tempfile_in(folder_of(&self.temporary))?;
        space::reserve(&file, self.bytes)?;
        Ok(file)
    }

    /// Writes all of it and keeps it.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn write(mut self, bytes: &[u8]) -> Result<Kept> {
        let written = self.file().write_all(bytes);
        written.map_err(Error::write(&self.path))?;
        self.keep()
    }

    /// Flushes what was written to the disk and gives it its name. A file of that name is replaced.
    ///
    /// # Errors
    /// [`Error::Write`] if the file system fails. What was under the final name is untouched then.
    pub fn keep(mut self) -> Result<Kept> {
        if let Some((steward, number)) = &self.steward {
            steward.keep(*number).map_err(Error::write(&self.path))?;
            self.file = None;
            return Ok(Kept {
                path: self.path.clone(),
                identity: None,
                steward: self.steward.take(),
            });
        }
        let kept = self.rename().map_err(Error::write(&self.path))?;
        unfinished().remove(&self.temporary);
        self.file = None;
        flush(folder_of(&self.path)).map_err(Error::write(&self.path))?;
        Ok(kept)
    }

    fn rename(&mut self) -> io::Result<Kept> {
        let file = self.file();
        // Gives back what was reserved and is not needed.
        file.set_len(file.metadata()?.len())?;
        file.sync_all()?;
        let identity = identity(&file.metadata()?);
        // While it waited, its folder may have gone.
        if !self.file.as_ref().is_some_and(|file| is_named(&self.temporary, file)) {
            return Err(io::Error::other("the temporary file is gone"));
        }
        fs::rename(&self.temporary, &self.path)?;
        Ok(Kept { path: self.path.clone(), identity, steward: None })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if let Some((steward, number)) = &self.steward {
            return steward.give_up(*number);
        }
        if unfinished().remove(&self.temporary) && is_named(&self.temporary, &file) {
            // While the lock is held: afterwards it may be another's.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A file that this process wrote.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    identity: Option<(u64, u64)>,
    steward: Option<(Arc<dyn Steward>, u64)>,
}

impl Kept {
    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, unless its name belongs to another file by now.
    ///
    /// # Errors
    /// [`Error::Write`] if the file system refuses.
    pub fn remove(self) -> Result<()> {
        if let Some((steward, number)) = &self.steward {
            return steward.remove(*number).map_err(Error::write(&self.path));
        }
        match self.path.symlink_metadata() {
            Ok(now) if identity(&now) == self.identity => {
                fs::remove_file(&self.path).map_err(Error::write(&self.path))
            }
            _ => Ok(()),
        }
    }
}

/// `.NAME.part`, in this folder or in the same one.
pub(crate) fn temporary_name(path: &Path, within: Option<&Path>) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    match within {
        Some(folder) => folder.join(name),
        None => path.with_file_name(name),
    }
}

/// The temporary file, and whether it was there.
fn open(path: &Path, options: &OpenOptions) -> io::Result<(File, bool)> {
    let mut options = options.clone();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return Ok((other?, false)),
    }
    let is_file = path.symlink_metadata()?.is_file();
    if !is_file {
        return Err(io::Error::other(format!("{} is no ordinary file", path.display())));
    }
    match options.open(path) {
        // Its owner has finished or given up meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok((options.create(true).truncate(false).open(path)?, false))
        }
        other => Ok((other?, true)),
    }
}
