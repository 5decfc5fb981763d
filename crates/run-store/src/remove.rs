//! The end of a run's folder.

use std::io;
use std::path::{Path, PathBuf};

use wan_outputs::folder_of;

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::held::{Held, remove_if_left};
use crate::names::{self, Contents};

/// Removes an unfinished run, damaged ones too: the files that this crate made, and the folder.
/// Gives what is left because others made it, or hold it; then the folder stays.
///
/// Removal that is broken off leaves a folder that is no run, and can be ended by another call.
///
/// # Errors
/// [`Error::InUse`]; [`Error::NoRun`] if there is nothing of a run in it; [`Error::Io`].
pub fn remove(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    remove_on(&Disk::default(), path.as_ref())
}

pub(crate) fn remove_on(disk: &Disk, folder: &Path) -> Result<Vec<PathBuf>> {
    let contents = look(folder)?;
    let Contents { recipes, checkpoints, growing, parts, removed, has_lock, .. } = &contents;
    let is_run = !recipes.is_empty() || !checkpoints.is_empty() || !growing.is_empty();
    // A claim alone is no sign of a run: they lie beside videos too.
    if !is_run && parts.is_empty() && removed.is_empty() && !has_lock {
        return Err(Error::NoRun { path: folder.into(), why: "nothing in it is of a run" });
    }
    remove_held(disk, folder, Held::take(disk, folder)?)
}

/// What lies in a folder of a run.
///
/// # Errors
/// [`Error::NoRun`] if there is no such folder.
pub(crate) fn look(folder: &Path) -> Result<Contents> {
    Contents::of(folder).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            Error::NoRun { path: folder.into(), why: "there is no such folder" }
        }
        io::ErrorKind::NotADirectory => {
            Error::NoRun { path: folder.into(), why: "it is no folder" }
        }
        _ => Error::Io { path: folder.into(), doing: "list it", source },
    })
}

pub(crate) fn remove_held(disk: &Disk, folder: &Path, held: Held) -> Result<Vec<PathBuf>> {
    let contents = look(folder)?;
    // From here on it is no run, wherever this is broken off.
    for (name, sha256) in &contents.recipes {
        let (from, to) = (folder.join(name), folder.join(names::removed(sha256)));
        disk.rename(&from, &to).map_err(Error::io(&from, "rename it"))?;
    }
    disk.flush_folder(folder).map_err(Error::io(folder, "flush it to the disk"))?;
    clear(disk, folder, &look(folder)?)?;
    let Contents { foreign, claims, .. } = look(folder)?;
    let left: Vec<PathBuf> = foreign.iter().chain(&claims).map(|name| folder.join(name)).collect();
    let lock = folder.join(names::LOCK);
    held.remove(disk).map_err(Error::io(&lock, "remove it"))?;
    if !left.is_empty() {
        return Ok(left);
    }
    match disk.remove_folder(folder) {
        // Somebody has put something in it since, or begins a run in it.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            return Ok(vec![folder.into()]);
        }
        result => result.map_err(Error::io(folder, "remove it"))?,
    }
    let parent = folder_of(folder);
    disk.flush_folder(parent).map_err(Error::io(parent, "flush it to the disk"))?;
    Ok(Vec::new())
}

/// Removes what ended processes left of files that they were at. A claim that somebody holds stays.
pub(crate) fn clear_parts(disk: &Disk, folder: &Path, contents: &Contents) -> Result<()> {
    for name in &contents.parts {
        let path = folder.join(name);
        disk.remove(&path).map_err(Error::io(&path, "remove it"))?;
    }
    contents.claims.iter().try_for_each(|name| remove_if_left(disk, &folder.join(name)))
}

/// Removes all of ours in a folder without a recipe, but for the lock. What tells that it is being
/// removed goes last.
pub(crate) fn clear(disk: &Disk, folder: &Path, contents: &Contents) -> Result<()> {
    clear_parts(disk, folder, contents)?;
    let checkpoints = contents.checkpoints.iter().map(|(_, name, _)| name);
    for name in checkpoints.chain(&contents.growing).chain(&contents.removed) {
        let path = folder.join(name);
        disk.remove(&path).map_err(Error::io(&path, "remove it"))?;
    }
    Ok(())
}
