//! Folders: whose a file is, and new ones.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// The folder of a file; `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether a file can be renamed from one folder to the other, as far as the system tells.
#[cfg(unix)]
pub(crate) fn is_one_file_system(one: &Path, other: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let same_device = fs::metadata(one)?.dev() == fs::metadata(other)?.dev();
    Ok(same_device && mount(one) == mount(other))
}

/// As above, where nobody tells.
#[cfg(not(unix))]
pub(crate) fn is_one_file_system(_: &Path, _: &Path) -> std::io::Result<bool> {
    Ok(true)
}

/// The mount of a folder, where the system tells: a part of a file system that is mounted at
/// another place too has the same device there, and nothing can be renamed from one to the other.
#[cfg(target_os = "linux")]
fn mount(folder: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let about = statx(CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (about.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(about.stx_mnt_id)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn mount(_: &Path) -> Option<u64> {
    None
}

/// Flushes the names in a folder to the disk, where the system can.
pub(crate) fn flush(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Writes a folder with these files (names relative to it), all of them or nothing.
///
/// # Errors
/// [`Error::Refused`] if something of that name is there, [`Error::Write`] if the file system
/// fails.
pub fn write_new_folder(field: &str, path: &Path, files: &[(&str, String)]) -> Result<()> {
    // A link that leads nowhere is something, too.
    if path.symlink_metadata().is_ok() {
        let why = "exists already; name another folder".into();
        return Err(Error::Refused { field: field.into(), path: path.into(), why });
    }
    let wrong = || Error::write(path);
    let parent = folder_of(path);
    fs::create_dir_all(parent).map_err(wrong())?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wan-").suffix(".part");
    // `tempfile` makes private folders; the umask decides on these.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let unfinished = builder.tempdir_in(parent).map_err(wrong())?;
    for (name, text) in files {
        let file = unfinished.path().join(name);
        fs::create_dir_all(folder_of(&file)).map_err(wrong())?;
        let mut file = File::create_new(file).map_err(wrong())?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong())?;
    }
    fs::rename(unfinished.path(), path).map_err(wrong())?;
    // It has another name now, under which it stays.
    let _ = unfinished.keep();
    flush(parent).map_err(wrong())
}
