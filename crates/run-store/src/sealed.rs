//! Sealed files: the SHA-256 of all bytes is in the name.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::disk::{Disk, DiskFile, Written, open_to_read};
use crate::error::{Error, Result};

/// Bytes that are hashed, written or read at once: they stay in the processor's cache.
pub(crate) const CHUNK: usize = 1 << 20;

/// A sealed file that is being written, by a temporary name. Dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Sealing {
    disk: Disk,
    folder: PathBuf,
    file: Option<DiskFile>,
    hasher: Sha256,
    bytes: u64,
}

/// A sealed file that has its name, and whether that is sure to be on the disk.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) name: String,
    pub(crate) is_new: bool,
    pub(crate) durable: Result<Written>,
}

impl Sealing {
    pub(crate) fn begin(disk: &Disk, folder: &Path, part: &str) -> Result<Self> {
        let temporary = folder.join(part);
        let made = disk.remove(&temporary).and_then(|()| disk.make(&temporary));
        let file = Some(made.map_err(Error::io(&temporary, "make it"))?);
        Ok(Self {
            disk: disk.clone(),
            folder: folder.into(),
            file,
            hasher: Sha256::new(),
            bytes: 0,
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_mut().expect("until it is sealed");
        for chunk in bytes.chunks(CHUNK) {
            self.hasher.update(chunk);
            file.write(chunk).map_err(Error::io(file.path(), "write it"))?;
            self.bytes += length(chunk);
        }
        Ok(())
    }

    /// Flushes it and gives it its name, of the hash of its bytes.
    ///
    /// # Errors
    /// If it has not got its name. With its name it may not be on the disk: [`Sealed::durable`].
    pub(crate) fn seal(mut self, name: impl FnOnce(&str) -> String) -> Result<Sealed> {
        let file = self.file.as_ref().expect("until it is sealed");
        file.flush().map_err(Error::io(file.path(), "flush it to the disk"))?;
        let name = name(&hex::encode(std::mem::take(&mut self.hasher).finalize()));
        let path = self.folder.join(&name);
        let is_new = path.symlink_metadata().is_err();
        self.disk.rename(file.path(), &path).map_err(Error::io(&path, "give it its name"))?;
        self.file = None;
        let flushed = self.disk.flush_folder(&self.folder);
        let flushed = flushed.map_err(Error::io(&self.folder, "flush it to the disk"));
        let durable = flushed.map(|()| Written { bytes: self.bytes, fsyncs: 2 });
        Ok(Sealed { name, is_new, durable })
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // What stays is removed when the folder is opened.
            let _ = self.disk.remove(file.path());
        }
    }
}

/// Reads a file and computes the hash of what it reads.
#[derive(Debug)]
pub(crate) struct Reading {
    path: PathBuf,
    file: BufReader<File>,
    hasher: Sha256,
    /// Bytes of the file that were not read yet.
    left: u64,
}

impl Reading {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, left) = open_to_read(path).map_err(Error::reading(path))?;
        let file = BufReader::with_capacity(CHUNK / 16, file);
        Ok(Self { path: path.into(), file, hasher: Sha256::new(), left })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes. Memory is taken only for what the file has.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<Vec<u8>> {
        if bytes > self.left {
            let why = format!("{bytes} bytes were to follow, and there are {}", self.left);
            return Err(Error::damaged(&self.path, why));
        }
        let mut taken = Vec::new();
        let read = usize::try_from(bytes).map_err(io::Error::other).and_then(|count| {
            taken.try_reserve_exact(count).map_err(io::Error::other)?;
            self.file.by_ref().take(bytes).read_to_end(&mut taken)
        });
        read.map_err(Error::reading(&self.path))?;
        if length(&taken) < bytes {
            return Err(Error::damaged(&self.path, "it became shorter while it was read"));
        }
        self.left -= bytes;
        for chunk in taken.chunks(CHUNK) {
            self.hasher.update(chunk);
        }
        Ok(taken)
    }

    /// Hashes the next bytes without keeping them.
    pub(crate) fn pass(&mut self, mut bytes: u64) -> Result<()> {
        let chunk = CHUNK as u64;
        while bytes > 0 {
            let now = bytes.min(chunk);
            self.take(now)?;
            bytes -= now;
        }
        Ok(())
    }

    /// What was hashed until now.
    pub(crate) fn hasher(&self) -> &Sha256 {
        &self.hasher
    }

    /// Reads what is left, and compares the hash of all with the one in the file's name.
    pub(crate) fn finish(mut self, sha256: &str) -> Result<()> {
        self.pass(self.left)?;
        let found = hex::encode(self.hasher.finalize());
        if found == sha256 {
            return Ok(());
        }
        let why = format!("its SHA-256 is {found}, and its name says another");
        Err(Error::damaged(&self.path, why))
    }
}

pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
