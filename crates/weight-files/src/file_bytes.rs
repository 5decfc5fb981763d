//! The bytes of one open file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wan_border::files;

use crate::error::{Error, Result};

/// Longest reason for a refusal, in characters.
const REASON_MAX: usize = 2000;

/// A file that stays open: what takes its place on the disk is another file.
pub(crate) struct FileBytes {
    path: PathBuf,
    file: Mutex<File>,
    length: u64,
    modified: Option<SystemTime>,
    /// What is read while the file is opened; none afterwards.
    opening: Mutex<Option<Reading>>,
}

/// The bytes that were read.
#[derive(Default)]
struct Reading {
    /// The file's first bytes, which are not read twice.
    first: Vec<u8>,
    hash: Sha256,
    ranges: Vec<Range<u64>>,
}

/// The bytes that describe the tensors of a file: where they are, and their SHA-256.
pub(crate) struct Description {
    sha256: [u8; 32],
    ranges: Vec<Range<u64>>,
}

impl FileBytes {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, length) = files::open(path)?;
        let about = file.metadata().map_err(|source| Error::Io { path: path.into(), source })?;
        let modified = about.modified().ok();
        let opening = Mutex::new(Some(Reading::default()));
        Ok(Self { path: path.into(), file: Mutex::new(file), length, modified, opening })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that it had when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes of `range`. Nothing is allocated for a range that is not in the file.
    ///
    /// # Errors
    /// [`Error::Malformed`] for such a range, [`Error::Io`] if the file cannot be read.
    pub(crate) fn exactly(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end || range.end > self.length {
            return Err(self.malformed(format!(
                "cut short: bytes {} to {} are needed, the file has {}",
                range.start, range.end, self.length
            )));
        }
        let count = range.end - range.start;
        let bytes = self.at_most(range.start, count)?;
        if bytes.len() as u64 == count {
            return Ok(bytes);
        }
        let found = format!("{} bytes when it was opened, fewer now", self.length);
        Err(Error::Changed { path: self.path.clone(), difference: found })
    }

    /// The first bytes, at most `count`: by them a format is recognised. They do not describe tensors.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub(crate) fn first(&self, count: u64) -> Result<Vec<u8>> {
        let first = self.from_disk(0, count)?;
        if let Some(reading) = self.opening().as_mut() {
            reading.first.clone_from(&first);
        }
        Ok(first)
    }

    /// At most `count` bytes from `start` on: fewer at the end of the file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub(crate) fn at_most(&self, start: u64, count: u64) -> Result<Vec<u8>> {
        let count = count.min(self.length.saturating_sub(start));
        let mut opening = self.opening();
        let Some(reading) = opening.as_mut() else {
            drop(opening);
            return self.from_disk(start, count);
        };
        let known = usize::try_from(start).ok().and_then(|start| reading.first.get(start..));
        let known = known.unwrap_or_default();
        let known = &known[..known.len().min(usize::try_from(count).unwrap_or(usize::MAX))];
        let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        bytes.extend(known);
        let after = known.len() as u64;
        bytes.extend(self.from_disk(start + after, count - after)?);
        reading.hash.update(&bytes);
        reading.ranges.push(start..start + count);
        Ok(bytes)
    }

    fn from_disk(&self, start: u64, count: u64) -> Result<Vec<u8>> {
        let count = count.min(self.length.saturating_sub(start));
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut file = self.lock();
        file.seek(SeekFrom::Start(start)).map_err(|e| self.io(e))?;
        let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        Read::by_ref(&mut *file).take(count).read_to_end(&mut bytes).map_err(|e| self.io(e))?;
        Ok(bytes)
    }

    fn opening(&self) -> MutexGuard<'_, Option<Reading>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been read so far: that describes the tensors. Nothing more is taken note of.
    pub(crate) fn described(&self) -> Description {
        let read = self.opening().take();
        let Reading { hash, ranges, .. } = read.unwrap_or_default();
        Description { sha256: hash.finalize().into(), ranges }
    }

    /// Whether what was read while the file was opened is still there.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub(crate) fn is_described(&self, description: &Description) -> Result<bool> {
        let mut hash = Sha256::new();
        for range in &description.ranges {
            hash.update(self.at_most(range.start, range.end - range.start)?);
        }
        Ok(<[u8; 32]>::from(hash.finalize()) == description.sha256)
    }

    /// Bytes that it has now.
    ///
    /// # Errors
    /// [`Error::Io`] if the system does not say.
    pub(crate) fn length_now(&self) -> Result<u64> {
        Ok(self.lock().metadata().map_err(|e| self.io(e))?.len())
    }

    /// Whether it was written to since it was opened.
    ///
    /// # Errors
    /// [`Error::Io`] if the system does not say.
    pub(crate) fn is_written_to(&self) -> Result<bool> {
        let about = self.lock().metadata().map_err(|e| self.io(e))?;
        Ok(about.modified().ok() != self.modified)
    }

    /// An error with this reason, in one line that is not too long: names come from the file.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Error {
        let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let reason = reason.into().chars().take(REASON_MAX).map(printable).collect();
        Error::Malformed { path: self.path.clone(), reason }
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { path: self.path.clone(), source }
    }

    /// A poisoned lock is harmless: the position is set before every read.
    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
