//! Files that are appended to and never changed.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::names;
use crate::sealed::{CHUNK, Reading, length};
use crate::session::Lease;

/// A place in a growing file, and what lies before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Bytes before it.
    pub bytes: u64,
    /// SHA-256 of these bytes, in lower case hexadecimal.
    pub sha256: String,
}

impl Mark {
    pub(crate) fn of(bytes: u64, hasher: &Sha256) -> Self {
        Self { bytes, sha256: hex::encode(hasher.clone().finalize()) }
    }

    /// # Errors
    /// [`Error::Damaged`] if other bytes were hashed.
    pub(crate) fn check(&self, file: &Path, hasher: &Sha256) -> Result<()> {
        if Self::of(self.bytes, hasher) == *self {
            return Ok(());
        }
        let why = format!("its first {} bytes are not those that were written", self.bytes);
        Err(Error::damaged(file, why))
    }

    /// Opens the file to read what lies before the mark.
    pub(crate) fn open(&self, path: &Path) -> Result<Reading> {
        let reading = match Reading::open(path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Error::damaged(path, "it is not there"));
            }
            opened => opened?,
        };
        if reading.left() < self.bytes {
            let why = format!("it has {} bytes, and {} were written", reading.left(), self.bytes);
            return Err(Error::damaged(path, why));
        }
        Ok(reading)
    }
}

/// Where a growing file of this name lies.
pub(crate) fn path_of(folder: &Path, name: &str) -> Result<PathBuf> {
    if !names::is_growing_name(name) {
        let why = format!(
            "a growing file cannot be named {name:?}: expected letters, digits, `.`, `_` and `-`"
        );
        return Err(Error::refused(folder, why));
    }
    Ok(folder.join(names::growing(name)))
}

/// A file that is appended to.
#[derive(Debug)]
pub struct Growing {
    file: DiskFile,
    hasher: Sha256,
    bytes: u64,
    /// Bytes that are sure to be on the disk.
    flushed: u64,
    /// Something of a write that failed may lie behind `bytes`.
    is_torn: bool,
    /// A flush failed.
    is_lost: bool,
    _lease: Lease,
}

impl Growing {
    pub(crate) fn begin(disk: &Disk, folder: &Path, path: &Path, lease: Lease) -> Result<Self> {
        let made = disk.remove(path).and_then(|()| disk.make(path));
        let file = made.map_err(Error::io(path, "make it"))?;
        disk.flush_folder(folder).map_err(Error::io(folder, "flush it to the disk"))?;
        Ok(Self::at(file, Sha256::new(), 0, lease))
    }

    pub(crate) fn go_on(disk: &Disk, path: &Path, mark: &Mark, lease: Lease) -> Result<Self> {
        let mut reading = mark.open(path)?;
        reading.pass(mark.bytes)?;
        mark.check(path, reading.hasher())?;
        let mut file = disk.append(path).map_err(Error::reading(path))?;
        if reading.left() > 0 {
            file.cut(mark.bytes).map_err(Error::io(path, "cut it"))?;
        }
        Ok(Self::at(file, reading.hasher().clone(), mark.bytes, lease))
    }

    fn at(file: DiskFile, hasher: Sha256, bytes: u64, lease: Lease) -> Self {
        let (is_torn, is_lost) = (false, false);
        Self { file, hasher, bytes, flushed: bytes, is_torn, is_lost, _lease: lease }
    }

    /// Where it lies. Others may read it while it grows.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Bytes that were appended, in all.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes room on the disk for a file of so many bytes, where the file system can, so that a disk
    /// that fills up later does not stop it.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such room.
    pub fn reserve(&mut self, bytes: u64) -> Result<()> {
        self.file.reserve(bytes).map_err(Error::io(self.file.path(), "take room for it"))
    }

    /// Appends all of these bytes. What fails leaves nothing: it can be tried again.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] after a [`mark`](Self::mark) that failed.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.append_slices(&[bytes])
    }

    /// Appends these bytes one behind the other, all or none.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_slices(&mut self, slices: &[&[u8]]) -> Result<()> {
        self.put(slices, slices, None)
    }

    /// Appends `hidden`, and then writes `name` over those of its bytes that begin at `at`: whoever
    /// reads the file while it grows does not see what was appended before all of it is there. The
    /// file has the bytes with the name in them, and so do its marks. Where the process ends
    /// between the two, what it appended lies behind every mark.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`Error::Refused`] if the name does not lie in `hidden`.
    pub fn append_then_name(&mut self, hidden: &[u8], at: usize, name: &[u8]) -> Result<()> {
        let end = at.checked_add(name.len());
        let (Some(before), Some(behind)) = (hidden.get(..at), end.and_then(|at| hidden.get(at..)))
        else {
            let why = format!(
                "a name of {} bytes at {at} does not lie in {} bytes",
                name.len(),
                hidden.len()
            );
            return Err(Error::refused(self.file.path(), why));
        };
        self.put(&[hidden], &[before, name, behind], Some((length(before), name)))
    }

    /// Writes bytes, and then others over them, so that `whole` is there.
    fn put(&mut self, first: &[&[u8]], whole: &[&[u8]], over: Option<(u64, &[u8])>) -> Result<()> {
        self.check()?;
        let path = self.file.path().to_path_buf();
        if self.is_torn {
            self.file.cut(self.bytes).map_err(Error::io(&path, "cut it"))?;
        }
        self.is_torn = true;
        let (mut hasher, mut bytes) = (self.hasher.clone(), self.bytes);
        for chunk in whole.iter().flat_map(|slice| slice.chunks(CHUNK)) {
            hasher.update(chunk);
        }
        for chunk in first.iter().flat_map(|slice| slice.chunks(CHUNK)) {
            self.file.write(chunk).map_err(Error::io(&path, "write it"))?;
            bytes += length(chunk);
        }
        if let Some((at, over)) = over {
            let written = self.file.write_over(self.bytes + at, over);
            written.map_err(Error::io(&path, "write it"))?;
        }
        (self.hasher, self.bytes, self.is_torn) = (hasher, bytes, false);
        Ok(())
    }

    /// The place behind what was appended, once all of it is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`]. After that nobody knows what is on the disk, and the file takes nothing more:
    /// go on from an earlier mark.
    pub fn mark(&mut self) -> Result<Mark> {
        self.check()?;
        if self.flushed < self.bytes {
            self.is_lost = true;
            self.file.flush().map_err(Error::io(self.file.path(), "flush it to the disk"))?;
            (self.flushed, self.is_lost) = (self.bytes, false);
        }
        Ok(Mark::of(self.bytes, &self.hasher))
    }

    fn check(&self) -> Result<()> {
        if !self.is_lost {
            return Ok(());
        }
        let why = "an earlier flush failed, and what is on the disk is not known; \
                   go on from the last mark";
        Err(Error::damaged(self.file.path(), why))
    }
}

impl io::Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.append(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(Error::Io { source, .. }) => Err(source),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Nothing is held back. Only a [`mark`](Growing::mark) waits for the disk.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
