//! The unfinished runs of a folder, for a look.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::{CheckpointFile, Doubtful};
use crate::error::{Error, Result};
use crate::folder::read_recipe;
use crate::held::{self, Worker};
use crate::names::Contents;

/// An unfinished run.
#[derive(Debug)]
pub struct Listed {
    /// Its folder.
    pub path: PathBuf,
    /// The caller's text of its recipe, if that is whole.
    pub recipe: Option<String>,
    /// Its checkpoints, newest first, by their names alone: none was read.
    pub checkpoints: Vec<CheckpointFile>,
    /// When the newest checkpoint was written.
    pub modified: Option<SystemTime>,
    /// Bytes of all files that lie in it, of others too.
    pub bytes: u64,
    /// Who works on it.
    pub worker: Option<Worker>,
    /// Why it cannot be gone on with as it is: a line each. Checkpoints are not read for this.
    pub damage: Vec<String>,
}

impl Listed {
    /// The number of the newest checkpoint, by its name.
    pub fn number(&self) -> Option<u64> {
        self.checkpoints.first().map(CheckpointFile::number)
    }
}

/// Every folder `*.run` in a folder, by name. Changes nothing; whoever wants to work on one of them
/// at this moment waits for a look at its lock, and no longer.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed. What is wrong with a run stands with it.
pub fn list(folder: impl AsRef<Path>) -> Result<Vec<Listed>> {
    let folder = folder.as_ref();
    let listing = || Error::io(folder, "list it");
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(listing())? {
        let entry = entry.map_err(listing())?;
        let path = entry.path();
        let is_folder = entry.file_type().map_err(listing())?.is_dir();
        if is_folder && path.extension().is_some_and(|extension| extension == "run") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.into_iter().filter_map(|path| listed(path).transpose()).collect()
}

/// `None` is a folder that has gone meanwhile.
fn listed(path: PathBuf) -> Result<Option<Listed>> {
    let mut listed = Listed {
        path,
        recipe: None,
        checkpoints: Vec::new(),
        modified: None,
        bytes: 0,
        worker: None,
        damage: Vec::new(),
    };
    let path = &listed.path;
    match held::look(path) {
        Ok(worker) => listed.worker = worker,
        Err(error) => listed.damage.push(format!("{}: its lock: {error}", path.display())),
    }
    let contents = match Contents::of(path) {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            listed.damage.push(format!("{}: cannot list it: {error}", path.display()));
            return Ok(Some(listed));
        }
    };
    match read_recipe(path, &contents) {
        Ok(recipe) => listed.recipe = Some(recipe),
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => listed.damage.push(error.to_string()),
    }
    listed.checkpoints = CheckpointFile::all(path, &contents, &Doubtful::default());
    let newest = listed.checkpoints.first().map(CheckpointFile::path);
    // It may have made room for a newer one since.
    let modified = newest.map(|newest| newest.metadata().and_then(|about| about.modified()));
    listed.modified = modified.and_then(io::Result::ok);
    listed.bytes = bytes_of(path);
    Ok(Some(listed))
}

/// Bytes of the files in a folder. What goes while it is looked at counts nothing.
fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.metadata().ok()).filter(|about| about.is_file());
    files.map(|about| about.len()).sum()
}
