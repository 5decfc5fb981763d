//! Given files, known by what they hold: recorded with their hash, and found again by it.

use std::fs;
use std::path::{Path, PathBuf};

use wan_border::files::OpenFile;

use crate::error::{Error, Result};
use crate::optional_file::paths_in;
use crate::output::sidecar::Sidecar;
use crate::request::file_hash::sha256;
use crate::request::frame_source::FrameSource;

/// Folders within a given folder that are looked through.
const DEPTH_MAX: usize = 4;

impl Sidecar {
    /// Finds the given files again, whose paths may be those of another folder or machine: under
    /// their recorded path, beside the sidecar, else by their hash in these folders.
    ///
    /// # Errors
    /// If one is nowhere, or is another file by now, naming it.
    pub fn find_given(&mut self, sidecar: &Path, folders: &[PathBuf]) -> Result<()> {
        let hashes = self.settings.given.hashes.clone();
        let find = |field: &str, path: &Path| match hashes.get(field) {
            Some(hash) => find(field, path, hash, (sidecar, folders)),
            // Recorded before there were hashes.
            None => Ok(path.to_path_buf()),
        };
        let given = &mut self.settings.given;
        for (field, source) in [
            ("image", &mut given.image),
            ("last_frame", &mut given.last_frame),
            ("video", &mut given.video),
        ] {
            if let Some(FrameSource::File(path)) = source {
                *path = find(field, path)?;
            }
        }
        if let Some(path) = &mut given.latents {
            *path = find("latents", path)?;
        }
        for lora in &mut self.settings.lora {
            if let Some(hash) = &lora.sha256 {
                lora.file = self::find("lora", &lora.file, hash, (sidecar, folders))?;
            }
        }
        Ok(())
    }
}

fn find(
    field: &str,
    recorded: &Path,
    hash: &str,
    (sidecar, folders): (&Path, &[PathBuf]),
) -> Result<PathBuf> {
    let is_it = |path: &PathBuf| {
        let found = OpenFile::open(path).and_then(|mut file| sha256(&mut file));
        found.is_ok_and(|found| found == hash)
    };
    let beside = sidecar.parent().unwrap_or(Path::new(""));
    let name = recorded.file_name().unwrap_or_default();
    let near = [recorded.to_path_buf(), beside.join(recorded), beside.join(name)];
    if let Some(found) = near.iter().find(|path| is_it(path)) {
        return Ok(found.clone());
    }
    for folder in folders {
        for path in files_under(folder, DEPTH_MAX)? {
            if path.extension() == recorded.extension() && is_it(&path) {
                return Ok(path);
            }
        }
    }
    let what = match near.iter().find(|path| path.is_file()) {
        Some(other) => format!("{} is another file by now", other.display()),
        None => format!("{} is not there", recorded.display()),
    };
    Err(Error::invalid(format!(
        "`{field}` {what}; name a folder that has the recorded one (SHA-256 {hash}) with `given_dir`"
    )))
}

fn files_under(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths_in(folder).map_err(Error::io(folder))? {
        let about = fs::symlink_metadata(&path).map_err(Error::io(&path))?;
        if about.is_dir() && depth > 0 {
            files.extend(files_under(&path, depth - 1)?);
        } else if about.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}
