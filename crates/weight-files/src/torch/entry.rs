//! The bytes of one entry of a zip file.

use std::io::{self, Read};
use std::ops::Range;

use flate2::read::DeflateDecoder;

use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;

/// Bytes that are unpacked at a time.
const CHUNK: u64 = 1 << 16;

/// How an entry's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Stored,
    Deflated,
}

/// An entry of a zip file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its name, with folders.
    pub(super) name: String,
    pub(super) packing: Packing,
    /// Where its bytes lie in the file, as they are packed.
    pub(super) packed: Range<u64>,
    /// Its bytes when unpacked, as the directory says.
    pub(super) length: u64,
}

impl Entry {
    /// Bytes `range` of the entry, unpacked.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the entry has no such bytes, or does not unpack to as many as it
    /// says; [`Error::Io`] if the file cannot be read.
    pub(super) fn read(&self, file: &FileBytes, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end || range.end > self.length {
            return Err(self.malformed(file, &format!("has no bytes {range:?}")));
        }
        match self.packing {
            Packing::Stored => {
                file.exactly(self.packed.start + range.start..self.packed.start + range.end)
            }
            Packing::Deflated => self.inflate(file, range),
        }
    }

    /// Unpacks from the beginning; what comes before `range` is let go of piece by piece.
    fn inflate(&self, file: &FileBytes, range: Range<u64>) -> Result<Vec<u8>> {
        let failed =
            |error: io::Error| self.malformed(file, &format!("cannot be unpacked: {error}"));
        let mut unpacked = DeflateDecoder::new(Packed { file, left: self.packed.clone() });
        let passed = io::copy(&mut unpacked.by_ref().take(range.start), &mut io::sink());
        let mut bytes = Vec::new();
        let wanted = range.end - range.start;
        unpacked.by_ref().take(wanted).read_to_end(&mut bytes).map_err(failed)?;
        let found = passed.map_err(failed)? + bytes.len() as u64;
        if found != range.end {
            let found = format!("unpacks to {found} bytes, it says {}", self.length);
            return Err(self.malformed(file, &found));
        }
        if range.end == self.length && unpacked.read(&mut [0]).map_err(failed)? != 0 {
            let found = format!("unpacks to more than the {} bytes that it says", self.length);
            return Err(self.malformed(file, &found));
        }
        Ok(bytes)
    }

    fn malformed(&self, file: &FileBytes, reason: &str) -> Error {
        file.malformed(format!("the zip entry {:?} {reason}", self.name))
    }
}

/// A piece of a file, for a foreign reader.
struct Packed<'a> {
    file: &'a FileBytes,
    left: Range<u64>,
}

impl Read for Packed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (buffer.len() as u64).min(CHUNK).min(self.left.end - self.left.start);
        let bytes = self
            .file
            .exactly(self.left.start..self.left.start + count)
            .map_err(|error| io::Error::other(error.to_string()))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.left.start += count;
        Ok(bytes.len())
    }
}
