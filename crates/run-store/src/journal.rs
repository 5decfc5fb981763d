//! Journals: growing files of parts, each with its length and checksum.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::growing::{Growing, Mark};
use crate::sealed::{CHUNK, Reading, length};

/// Bytes before a part: its length (u64, little endian) and its SHA-256.
const HEAD: u64 = 8 + 32;

/// A growing file of parts.
#[derive(Debug)]
pub struct Journal {
    growing: Growing,
}

impl Journal {
    pub(crate) fn of(growing: Growing) -> Self {
        Self { growing }
    }

    /// Appends a part. What fails leaves nothing: it can be tried again.
    ///
    /// # Errors
    /// As [`Growing::append`].
    pub fn append(&mut self, part: &[u8]) -> Result<()> {
        self.append_slices(&[part])
    }

    /// Appends one part that lies in several places, and is not copied.
    ///
    /// # Errors
    /// As [`Growing::append`].
    pub fn append_slices(&mut self, part: &[&[u8]]) -> Result<()> {
        let mut hasher = Sha256::new();
        part.iter().flat_map(|slice| slice.chunks(CHUNK)).for_each(|chunk| hasher.update(chunk));
        let bytes = part.iter().map(|slice| length(slice)).sum::<u64>();
        let (bytes, sha256) = (bytes.to_le_bytes(), hasher.finalize());
        let mut slices: Vec<&[u8]> = vec![&bytes, &sha256];
        slices.extend(part);
        self.growing.append_slices(&slices)
    }

    /// The place behind the last part, once all of them are on the disk.
    ///
    /// # Errors
    /// As [`Growing::mark`].
    pub fn mark(&mut self) -> Result<Mark> {
        self.growing.mark()
    }

    /// Bytes of the file: parts and what stands before each.
    pub fn bytes(&self) -> u64 {
        self.growing.bytes()
    }

    /// As [`Growing::reserve`].
    ///
    /// # Errors
    /// As there.
    pub fn reserve(&mut self, bytes: u64) -> Result<()> {
        self.growing.reserve(bytes)
    }

    /// Where it lies. Others may read it while it grows.
    pub fn path(&self) -> &Path {
        self.growing.path()
    }
}

/// Reads the parts before a mark, one after the other. One part is in memory at a time, and none is
/// longer than what is left of the file. Behind the last the hash of all is compared with the
/// mark's. An error is the last item.
#[derive(Debug)]
pub struct JournalReader {
    reading: Reading,
    mark: Mark,
    /// Bytes before the mark that were not read yet.
    left: u64,
    number: u64,
    is_over: bool,
}

impl JournalReader {
    /// Opens the journal of this path.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not there, or shorter than the mark says; [`Error::Io`].
    pub fn open(path: &Path, mark: &Mark) -> Result<Self> {
        let reading = mark.open(path)?;
        let mark = mark.clone();
        Ok(Self { reading, left: mark.bytes, mark, number: 0, is_over: false })
    }

    fn part(&mut self) -> Result<Vec<u8>> {
        let (number, path) = (self.number, self.reading.path().to_path_buf());
        let damaged = |why: String| Error::damaged(&path, format!("part {number}: {why}"));
        let left = self.left.checked_sub(HEAD);
        let left = left.ok_or_else(|| damaged(format!("has {} bytes, no head", self.left)))?;
        let head = self.reading.take(HEAD)?;
        let (bytes, sha256) = head.split_at(8);
        let bytes = u64::from_le_bytes(bytes.try_into().expect("eight were split off"));
        let rest = left.checked_sub(bytes);
        let rest = rest.ok_or_else(|| damaged(format!("{bytes} bytes, and {left} are left")))?;
        let part = self.reading.take(bytes)?;
        if Sha256::digest(&part).as_slice() != sha256 {
            return Err(damaged("its SHA-256 is not the one before it".into()));
        }
        (self.left, self.number) = (rest, number + 1);
        Ok(part)
    }
}

impl Iterator for JournalReader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        if self.left == 0 {
            self.is_over = true;
            return self.mark.check(self.reading.path(), self.reading.hasher()).err().map(Err);
        }
        let part = self.part();
        self.is_over = part.is_err();
        Some(part)
    }
}
