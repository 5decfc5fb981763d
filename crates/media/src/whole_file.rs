//! Files that appear under their name whole or not at all.

use std::io::{Result, Write};
use std::path::Path;

/// Writes a temporary file in the same folder, flushes it to the disk, and renames it.
///
/// # Errors
/// If the folder cannot be written to; nothing is left under the name then.
pub fn write_whole_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wan-").suffix(".part");
    // Temporary files are private by default; these become ordinary ones, under the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The folder that a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
