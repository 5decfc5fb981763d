//! The header of a GGUF file from its first byte on, read in pieces.

use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;

/// Longest header that is read, in bytes. That of an encoder with its tokenizer of 256,000 words
/// has 7 MB.
const HEADER_MAX: u64 = 64 << 20;

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 16;

/// A place in the header. Numbers are little-endian.
pub(super) struct HeaderBytes<'a> {
    file: &'a FileBytes,
    /// The bytes of the file from `start` on.
    piece: Vec<u8>,
    start: u64,
    /// Of the next byte.
    place: u64,
}

impl<'a> HeaderBytes<'a> {
    /// The first byte of the file.
    pub(super) fn new(file: &'a FileBytes) -> Self {
        Self { file, piece: Vec::new(), start: 0, place: 0 }
    }

    /// Where the next byte stands in the file.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    pub(super) fn malformed(&self, reason: impl Into<String>) -> Error {
        self.file.malformed(reason)
    }

    /// The next `N` bytes; `N` is at most 8.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.check(N as u64)?;
        if let Some(bytes) = self.in_piece() {
            self.place += N as u64;
            return Ok(bytes);
        }
        self.piece = self.file.at_most(self.place, PIECE)?;
        self.start = self.place;
        let Some(bytes) = self.in_piece() else {
            return Err(self.malformed(format!("became shorter than {} bytes", self.file.length())));
        };
        self.place += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `count` bytes; the caller knows that they are few.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        self.check(count)?;
        let bytes = self.file.exactly(self.place..self.place + count)?;
        self.place += count;
        Ok(bytes)
    }

    /// Passes over `count` bytes, which are not read.
    pub(super) fn skip(&mut self, count: u64) -> Result<()> {
        self.check(count)?;
        self.place += count;
        Ok(())
    }

    /// Fails if the file, or the longest header, ends within the next `count` bytes.
    fn check(&self, count: u64) -> Result<()> {
        let end = self.place.checked_add(count);
        if end.is_none_or(|end| end > self.file.length()) {
            return Err(self.malformed(format!(
                "cut short or damaged: {count} bytes of the GGUF header are needed from byte {} \
                 on, the file has {}; download it again",
                self.place,
                self.file.length()
            )));
        }
        if end.is_some_and(|end| end > HEADER_MAX) {
            return Err(self.malformed(format!(
                "the GGUF header has more than {HEADER_MAX} bytes, which is the most that is read"
            )));
        }
        Ok(())
    }

    fn in_piece<const N: usize>(&self) -> Option<[u8; N]> {
        let within = usize::try_from(self.place.checked_sub(self.start)?).ok()?;
        self.piece.get(within..)?.first_chunk().copied()
    }
}
