//! Atomic writes of files: a file is complete or absent.

use std::io::{Result, Write};
use std::path::Path;

/// Writes `bytes` to a temporary file in the same folder, flushes it to the disk, and renames it to
/// `path`.
///
/// # Errors
/// Any error of the file system. The file at `path` is then as it was before.
pub fn write_whole_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wan-").suffix(".part");
    // `tempfile` makes private files; the umask decides on these.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The folder of a file; `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
