//! The weight files under a path.

use std::path::{Path, PathBuf};
use std::{fs, io};

use wan_host::{Error, Result};
use wan_model::weights::EXTENSIONS;

/// The weight files of one network under a path: a file alone; of a folder all
/// weight files in it, or those in its folder of `part`.
///
/// # Errors
/// If there are none.
pub(super) fn weight_paths(path: &Path, part: Option<&str>) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let own = part.map(|part| path.join(part)).filter(|own| own.is_dir());
    let folder = own.as_deref().unwrap_or(path);
    let files = weight_files(folder)?;
    if files.is_empty() {
        return Err(Error::invalid(format!("{}: no weight file in it", folder.display())));
    }
    Ok(files)
}

/// The weight files of a folder, in order of name.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = entries(folder)?;
    files.retain(|file| {
        let extension = file.extension().and_then(|extension| extension.to_str());
        file.is_file() && extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
    });
    Ok(files)
}

/// What is in a folder, in order of name.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    let mut paths: Vec<PathBuf> = paths.map_err(Error::io(folder))?;
    paths.sort();
    Ok(paths)
}
