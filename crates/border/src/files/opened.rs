//! One open file: whatever is asked of it is answered from the same bytes.

use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Content, Error, Result, io_error, open};

/// A regular file that stays open, so that what it is known by (a hash) and what is read of it are
/// of one file, whatever takes its place on the disk meanwhile.
#[derive(Debug)]
pub struct OpenFile {
    path: PathBuf,
    file: File,
    /// Bytes, when it was opened.
    length: u64,
    /// When it had last been written to, where the system tells.
    modified: Option<SystemTime>,
}

impl OpenFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path) -> Result<Self> {
        let (file, length) = open(path)?;
        let modified = modified(&file.metadata().map_err(io_error(path))?);
        Ok(Self { path: path.into(), file, length, modified })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that it had when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// All bytes.
    ///
    /// # Errors
    /// If they are more than such a file may have, or cannot be read.
    pub fn bytes(&mut self, content: Content) -> Result<Vec<u8>> {
        self.part(0, None, content)
    }

    /// Bytes from `position` on: `size` of them, fewer at the end of the file; all that follow where
    /// no size is given.
    ///
    /// # Errors
    /// If they are more than such a file may have, or cannot be read.
    pub fn part(&mut self, position: u64, size: Option<u64>, content: Content) -> Result<Vec<u8>> {
        let path = self.path.as_path();
        let limit = content.bytes_max();
        let too_long = || Error::TooLong { path: path.into(), what: content.name(), limit };
        let length = self.file.metadata().map_err(io_error(path))?.len();
        let expected = length.saturating_sub(position).min(size.unwrap_or(u64::MAX));
        let mut bytes = match usize::try_from(expected) {
            Ok(capacity) if expected <= limit => Vec::with_capacity(capacity),
            _ => return Err(too_long()),
        };
        self.file.seek(SeekFrom::Start(position)).map_err(io_error(path))?;
        // Without a size, it may grow meanwhile.
        let most = size.map_or(limit + 1, |_| expected);
        Read::by_ref(&mut self.file).take(most).read_to_end(&mut bytes).map_err(io_error(path))?;
        if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
    }

    /// Shows all bytes, some at a time.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn pass(&mut self, mut see: impl FnMut(&[u8])) -> Result<()> {
        let path = self.path.as_path();
        self.file.rewind().map_err(io_error(path))?;
        let mut file = BufReader::with_capacity(1 << 16, &mut self.file);
        loop {
            let bytes = file.fill_buf().map_err(io_error(path))?;
            if bytes.is_empty() {
                return Ok(());
            }
            see(bytes);
            let count = bytes.len();
            file.consume(count);
        }
    }

    /// Refuses a file that was written to since it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`] if it was; if the system does not say.
    pub fn check_unwritten(&self) -> Result<()> {
        let now = self.file.metadata().map_err(io_error(&self.path))?;
        if now.len() != self.length || modified(&now) != self.modified {
            return Err(Error::Changed { path: self.path.clone() });
        }
        Ok(())
    }
}

fn modified(about: &Metadata) -> Option<SystemTime> {
    about.modified().ok()
}
