//! Room on the disk.

use std::fs::File;
use std::io;
use std::path::Path;

/// Bytes that this user may still write in a folder; none where the system does not tell.
#[cfg(unix)]
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(folder).ok()?;
    about.f_bavail.checked_mul(about.f_frsize)
}

/// As above, where nobody tells.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Takes room for a file that is still to be written; its length stays. Gives whether it has: not
/// every file system can.
///
/// # Errors
/// If there is no such room.
#[cfg(target_os = "linux")]
pub fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    if bytes == 0 {
        return Ok(false);
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        Ok(()) => Ok(true),
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
        Err(_) => Ok(false),
    }
}

/// As above, where no system does it without a change of the length.
#[cfg(not(target_os = "linux"))]
pub fn reserve(_: &File, _: u64) -> io::Result<bool> {
    Ok(false)
}
