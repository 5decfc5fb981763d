//! All that this crate changes on the disk, each step in one place, so that tests can have any of
//! them fail.

#[cfg(test)]
pub(crate) mod script;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were given to the file system.
    pub bytes: u64,
    /// Waits for the disk (`fsync`), of files and of folders.
    pub fsyncs: u64,
}

/// One step on the disk.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "tests ask which file it is"))]
pub(crate) enum Step<'a> {
    MakeFolder(&'a Path),
    RemoveFolder(&'a Path),
    Make(&'a Path),
    Write(&'a Path),
    Cut(&'a Path, u64),
    Flush(&'a Path),
    FlushFolder(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
}

#[derive(Debug, Default)]
struct Totals {
    bytes: AtomicU64,
    fsyncs: AtomicU64,
}

/// The disk; clones are the same one and count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    totals: Arc<Totals>,
    #[cfg(test)]
    pub(crate) script: Option<Arc<script::Script>>,
}

impl Disk {
    pub(crate) fn written(&self) -> Written {
        Written {
            bytes: self.totals.bytes.load(Ordering::Relaxed),
            fsyncs: self.totals.fsyncs.load(Ordering::Relaxed),
        }
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests have a script"))]
    fn step(&self, step: Step<'_>) -> io::Result<()> {
        #[cfg(test)]
        if let Some(script) = &self.script {
            return script.before(step);
        }
        let _ = step;
        Ok(())
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests have a script"))]
    fn sync(&self, file: &File) -> io::Result<()> {
        // A script knows what is on its disk, and tests need not wait for this one.
        #[cfg(test)]
        if self.script.is_some() {
            return Ok(());
        }
        file.sync_all()
    }

    pub(crate) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::MakeFolder(path))?;
        fs::create_dir(path)
    }

    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::RemoveFolder(path))?;
        fs::remove_dir(path)
    }

    /// Makes a file. There must be none of this name.
    pub(crate) fn make(&self, path: &Path) -> io::Result<DiskFile> {
        self.step(Step::Make(path))?;
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(DiskFile { file, path: path.into(), disk: self.clone() })
    }

    /// Opens a file to write at its end.
    pub(crate) fn append(&self, path: &Path) -> io::Result<DiskFile> {
        let mut file = open(path, OpenOptions::new().write(true))?;
        file.seek(SeekFrom::End(0))?;
        Ok(DiskFile { file, path: path.into(), disk: self.clone() })
    }

    /// Opens the lock file, and makes it where it is not there.
    pub(crate) fn open_lock(&self, path: &Path) -> io::Result<File> {
        self.step(Step::Make(path))?;
        open(path, OpenOptions::new().write(true).create(true))
    }

    /// Flushes the names in a folder to the disk, where the system can.
    pub(crate) fn flush_folder(&self, folder: &Path) -> io::Result<()> {
        self.step(Step::FlushFolder(folder))?;
        self.totals.fsyncs.fetch_add(1, Ordering::Relaxed);
        if cfg!(unix) { self.sync(&File::open(folder)?) } else { Ok(()) }
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Rename(from, to))?;
        fs::rename(from, to)
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove(path))?;
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

/// A file that is written from its beginning to its end.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let allowed = self.disk.step(Step::Write(&self.path));
        #[cfg(test)]
        if allowed.is_err() && self.disk.script.as_ref().is_some_and(|script| script.tears()) {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
        }
        allowed?;
        self.file.write_all(bytes)?;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.disk.totals.bytes.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until all of it is on the disk.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.disk.step(Step::Flush(&self.path))?;
        self.disk.totals.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.disk.sync(&self.file)
    }

    /// Writes over bytes that are there. What fails leaves the file at any place: cut it then.
    pub(crate) fn write_over(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.write(bytes)?;
        self.file.seek(SeekFrom::End(0)).map(drop)
    }

    /// Takes room for so many bytes in all, where the file system can; the length stays.
    pub(crate) fn reserve(&self, bytes: u64) -> io::Result<()> {
        wan_outputs::reserve(&self.file, bytes).map(drop)
    }

    /// Cuts off what lies behind `bytes`, and goes on there.
    pub(crate) fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.disk.step(Step::Cut(&self.path, bytes))?;
        self.file.set_len(bytes)?;
        self.file.seek(SeekFrom::Start(bytes)).map(drop)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a regular file to read it; gives its length too.
pub(crate) fn open_to_read(path: &Path) -> io::Result<(File, u64)> {
    let file = open(path, OpenOptions::new().read(true))?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// Opens a regular file: no link is followed, and no FIFO is waited for.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags);
    }
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file")),
    }
}
