//! A copy of a library that nobody else can change: what was looked at is what is opened.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes under a path that the system can open a library from. It lasts until the process ends: the
/// system takes two libraries of one path for the same.
pub(super) struct PrivateCopy {
    path: PathBuf,
}

impl PrivateCopy {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process may make a file of so many bytes. Where it may not, the system kills it
    /// for trying (SIGXFSZ).
    pub(super) fn may_have(bytes: usize) -> bool {
        #[cfg(target_os = "linux")]
        let most = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        #[cfg(not(target_os = "linux"))]
        let most: Option<u64> = None;
        most.is_none_or(|most| most >= bytes as u64)
    }

    /// The file itself, by its open descriptor: whatever takes its name, it is the one that was
    /// read. Others may still write to it.
    #[cfg(target_os = "linux")]
    pub(super) fn by_descriptor(_: &Path, file: File) -> Self {
        use std::os::fd::AsRawFd;

        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        std::mem::forget(file);
        Self { path }
    }

    /// The file itself.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn by_descriptor(path: &Path, _: File) -> Self {
        Self { path: path.into() }
    }

    /// A file in memory, sealed: not even this process can write to it.
    #[cfg(target_os = "linux")]
    pub(super) fn of(bytes: &[u8]) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, memfd_create};

        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("wan-plugin", flags)?);
        file.write_all(bytes)?;
        seal(&file)?;
        Ok(Self::by_descriptor(Path::new(""), file))
    }

    /// A file in a folder that this user alone can open.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(bytes: &[u8]) -> io::Result<Self> {
        let suffix = std::env::consts::DLL_SUFFIX;
        let folder = tempfile::Builder::new().prefix("wan-plugin-").tempdir()?;
        let path = folder.path().join(format!("plugin{suffix}"));
        File::create_new(&path)?.write_all(bytes)?;
        let _ = folder.keep();
        Ok(Self { path })
    }
}

/// Seals a file that was never mapped. A seal on later writes is as good there as one on all writes,
/// which the system refuses (EBUSY) while it moves a page of the file about.
#[cfg(target_os = "linux")]
fn seal(file: &File) -> io::Result<()> {
    use rustix::fs::{SealFlags, fcntl_add_seals};
    use rustix::io::Errno;

    let length = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    match fcntl_add_seals(file, length | SealFlags::FUTURE_WRITE) {
        // Linux before 5.1.
        Err(Errno::INVAL) => fcntl_add_seals(file, length | SealFlags::WRITE)?,
        sealed => sealed?,
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_to_a_copy() {
        let copy = PrivateCopy::of(b"bytes").unwrap();
        assert_eq!(std::fs::read(copy.path()).unwrap(), b"bytes");
        assert!(std::fs::write(copy.path(), b"other").is_err());
        assert_eq!(std::fs::read(copy.path()).unwrap(), b"bytes");
        let another = PrivateCopy::of(b"other").unwrap();
        assert_ne!(copy.path(), another.path());
    }
}
