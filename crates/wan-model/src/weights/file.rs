//! One safetensors file: its header and its tensors.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use safetensors::tensor::Metadata;
use wan_border::files;

use crate::error::{Error, Result};

/// Bytes of the header's length, which is before the header.
const PREFIX: usize = 8;

/// Longest header that is read, in bytes. The format allows 100 MB; that of a 14B model has 0.2, and
/// what is made of a header takes several times its bytes.
const HEADER_MAX: u64 = 16 << 20;

/// An open safetensors file.
pub struct WeightFile {
    pub(super) path: PathBuf,
    file: Mutex<File>,
    /// Bytes of the whole file.
    length: u64,
    /// When it was last written to, where the system tells.
    modified: Option<SystemTime>,
    /// All bytes before the first tensor: the length of the header, then the header.
    head: Vec<u8>,
}

impl WeightFile {
    /// Reads the header and compares the length of the file with it.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be opened, [`Error::Io`] if it cannot be read,
    /// [`Error::MalformedFile`] if it is cut short or another format.
    pub fn open(path: &Path) -> Result<(Self, Metadata)> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let malformed = |reason| Error::MalformedFile { path: path.to_owned(), reason };
        let (mut file, length) = files::open(path)?;
        let modified = file.metadata().map_err(io)?.modified().ok();
        if length < PREFIX as u64 {
            return Err(malformed(format!("{length} bytes are too few for a safetensors file")));
        }
        let mut prefix = [0; PREFIX];
        file.read_exact(&mut prefix).map_err(io)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > (length - PREFIX as u64).min(HEADER_MAX) {
            return Err(malformed(format!(
                "the safetensors header should have {header_length} bytes, the file has {length}: \
                 cut short, or another format"
            )));
        }
        let mut head = prefix.to_vec();
        // At most HEADER_MAX, and no more than there is.
        file.by_ref().take(header_length).read_to_end(&mut head).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&head[PREFIX..])
            .map_err(|e| malformed(format!("the safetensors header cannot be read: {e}")))?;
        let expected = (head.len() + header.data_len()) as u64;
        if length < expected {
            return Err(malformed(format!(
                "cut short: the header describes {expected} bytes, the file has {length}"
            )));
        }
        Ok((Self { path: path.to_owned(), file: Mutex::new(file), length, modified, head }, header))
    }

    /// Compares length and header of the file with those read when it was opened.
    ///
    /// # Errors
    /// [`Error::ChangedFile`] if they differ, [`Error::Io`] if the file cannot be read.
    pub(super) fn check_unchanged(&self) -> Result<()> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let changed = |difference| Error::ChangedFile { path: self.path.clone(), difference };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let length = file.metadata().map_err(io)?.len();
        if length != self.length {
            return Err(changed(format!("{} bytes then, {length} now", self.length)));
        }
        let mut head = vec![0; self.head.len()];
        file.rewind().map_err(io)?;
        file.read_exact(&mut head).map_err(io)?;
        if head != self.head {
            return Err(changed("another header".to_owned()));
        }
        Ok(())
    }

    /// Its path, if it was written to since it was opened; what it holds may be the same all the
    /// same.
    ///
    /// # Errors
    /// [`Error::Io`] if the system does not say.
    pub fn written_to(&self) -> Result<Option<&Path>> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let about = file.metadata().map_err(io)?;
        Ok((about.modified().ok() != self.modified).then_some(self.path.as_path()))
    }

    /// Bytes of the whole file, header included.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// At most `count` bytes of the file as it was opened, from byte `start` on.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub fn read_at(&self, start: u64, count: u64) -> Result<Vec<u8>> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start)).map_err(io)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut *file).take(count).read_to_end(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    /// Reads bytes by their offsets after the header, as in a tensor's `data_offsets`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub fn read(&self, place: Range<usize>) -> Result<Vec<u8>> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let mut bytes = vec![0; place.len()];
        // A poisoned lock is harmless: the position is set before every read.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start((self.head.len() + place.start) as u64)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}
