//! Finds plugin libraries and opens them: manifest first, then the layout check.
#![allow(unsafe_code, reason = "loading a library and reading a symbol of it")]

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wan_plugin_api::library::{EPOCHS, Epoch, Library};
use wan_plugin_api::manifest::{self, Manifest, RawManifest};

use crate::error::{Error, Result};
use crate::optional_file::paths_in;
use crate::plugins::allow_list::AllowList;

/// A plugin library that passed every check.
#[derive(Debug)]
pub struct OpenedPlugin {
    /// Canonical path.
    pub path: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub hash: String,
    /// What it said before any of its code ran.
    pub manifest: Manifest,
    /// The plugin.
    pub library: Library,
}

impl OpenedPlugin {
    /// Opens one library, if it may be loaded.
    ///
    /// # Errors
    /// One line naming the file: a list is there for it and does not name it, it is missing, is no
    /// library, is no plugin, was built for another epoch, aborts on panic, or has another layout.
    /// abi_stable's full report goes to the log.
    pub fn open(path: &Path, allowed: Option<&AllowList>) -> Result<Self> {
        Self::open_as(path, allowed, EPOCHS)
    }

    /// Canonical path and SHA-256 of a file, without loading it.
    ///
    /// # Errors
    /// If it cannot be read, or a list is there for it and does not name it.
    pub fn identify(path: &Path, allowed: Option<&AllowList>) -> Result<(PathBuf, String)> {
        // dlopen searches its own path for a bare file name; only a canonical one means this file.
        let path = path.canonicalize().map_err(Error::io(path))?;
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        let hash = hex::encode(Sha256::digest(&bytes));
        if let Some(list) = allowed {
            list.admit(&path, &hash)?;
        }
        Ok((path, hash))
    }

    /// As [`open`](Self::open), as the one of `epochs` that it was built for.
    pub(crate) fn open_as(
        path: &Path,
        allowed: Option<&AllowList>,
        epochs: &[Epoch],
    ) -> Result<Self> {
        let (path, hash) = Self::identify(path, allowed)?;
        let refuse = |why: String| Error::invalid(format!("{}: {why}", path.display()));
        let manifest = read_manifest(&path).map_err(refuse)?;
        let epoch = epoch_of(&manifest, epochs).map_err(refuse)?;
        let library = (epoch.open)(&path).map_err(|error| {
            tracing::debug!(path = %path.display(), report = %error.report, "refused");
            refuse(format!("{}; rebuild it with this host's wan-plugin-api", error.summary))
        })?;
        Ok(Self { hash, path, manifest, library })
    }
}

fn read_manifest(path: &Path) -> std::result::Result<Manifest, String> {
    // SAFETY: loading runs the library's initialisers, which is what loading a plugin means; the
    // documentation says so to the user.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|e| format!("is not a library that can be loaded ({})", one_line(&e)))?;
    // SAFETY: a symbol of this name is a manifest by the interface's rules; `read` checks its
    // magic.
    let manifest = unsafe {
        library
            .get::<*const RawManifest>(manifest::SYMBOL)
            .map_err(|_| format!("is not a wan plugin (it does not export {})", manifest::SYMBOL))?
            .as_ref()
            .and_then(|raw| raw.read())
    };
    // Never unloaded: strings and code of a plugin are used until the process ends.
    std::mem::forget(library);
    manifest.ok_or_else(|| "is not a wan plugin (its manifest cannot be read)".into())
}

/// The epoch that a library was built for. Its manifest says which, so none is tried in vain.
fn epoch_of<'a>(
    manifest: &Manifest,
    epochs: &'a [Epoch],
) -> std::result::Result<&'a Epoch, String> {
    let epoch = epochs.iter().find(|epoch| epoch.number == manifest.epoch).ok_or_else(|| {
        let spoken: Vec<String> = epochs.iter().map(|epoch| epoch.number.to_string()).collect();
        format!(
            "{} {} was built for plugin interface epoch {}, this host speaks {}; \
             rebuild it with wan-plugin-api {}",
            manifest.name,
            manifest.version,
            manifest.epoch,
            spoken.join(" and "),
            env!("CARGO_PKG_VERSION")
        )
    })?;
    if manifest.flavour != manifest::FLAVOUR_RUST {
        return Err(format!("is of plugin flavour {}, which is not known yet", manifest.flavour));
    }
    if !manifest.unwinds {
        return Err("was built with panic = \"abort\", so one panic would end the run; \
                    rebuild it with panic = \"unwind\""
            .into());
    }
    Ok(epoch)
}

fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The libraries in a folder, in order of name.
///
/// # Errors
/// If the folder is not there or cannot be read.
pub(crate) fn libraries_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = paths_in(folder).map_err(|e| {
        Error::invalid(format!("plugin folder {}: {e}; check `plugin_dir`", folder.display()))
    })?;
    paths.retain(|path| path.extension().is_some_and(|e| e == std::env::consts::DLL_EXTENSION));
    Ok(paths)
}
