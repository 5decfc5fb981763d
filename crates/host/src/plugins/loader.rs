//! Finds plugin libraries and opens them: manifest first, then the layout check.
#![allow(unsafe_code, reason = "loading a library and reading a symbol of it")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wan_plugin_api::library::{EPOCHS, Epoch, Library, log_to};
use wan_plugin_api::manifest::{self, Manifest, RawManifest};

use crate::error::{Error, Result};
use crate::optional_file::paths_in;
use crate::plugins::allow_list::AllowList;
use crate::plugins::elf;
use crate::plugins::log;
use crate::plugins::own_memory::OwnMemory;
use crate::plugins::private_copy::PrivateCopy;

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

    /// As [`open`](Self::open), where it still is the file of this SHA-256.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and if it is another file by now.
    pub fn open_again(path: &Path, hash: &str) -> Result<Self> {
        let found = Found::read(path)?;
        if found.hash != hash {
            return Err(Error::library(path.display(), "was changed while it was checked"));
        }
        found.open(EPOCHS)
    }

    /// Canonical path and SHA-256 of a file, without loading it.
    ///
    /// # Errors
    /// If it cannot be read, or a list is there for it and does not name it.
    pub fn identify(path: &Path, allowed: Option<&AllowList>) -> Result<(PathBuf, String)> {
        let mut found = Found::read(path)?;
        found.admit(allowed)?;
        Ok((found.path, found.hash))
    }

    /// As [`open`](Self::open), as the one of `epochs` that it was built for.
    pub(crate) fn open_as(
        path: &Path,
        allowed: Option<&AllowList>,
        epochs: &[Epoch],
    ) -> Result<Self> {
        let mut found = Found::read(path)?;
        found.admit(allowed)?;
        found.open(epochs)
    }
}

/// Most bytes of a library.
const BYTES_MAX: u64 = 1 << 30;

/// A file that may be a library: its bytes, which are those that are hashed and opened.
struct Found {
    path: PathBuf,
    file: fs::File,
    bytes: Vec<u8>,
    hash: String,
    /// Whether it is on a list of what may be loaded.
    is_listed: bool,
}

impl Found {
    fn read(path: &Path) -> Result<Self> {
        // dlopen searches its own path for a bare file name; only a canonical one means this file.
        let path = path.canonicalize().map_err(Error::io(path))?;
        let about = fs::metadata(&path).map_err(Error::io(&path))?;
        // To open a pipe would be to wait for whoever writes to it.
        if !about.is_file() {
            return Err(Error::library(path.display(), "is no file, so no library"));
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(&path).map_err(Error::io(&path))?;
        (&file).take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Error::io(&path))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(Error::library(path.display(), format!("has more than {BYTES_MAX} bytes")));
        }
        let hash = hex::encode(Sha256::digest(&bytes));
        Ok(Self { path, file, bytes, hash, is_listed: false })
    }

    fn refuse(&self, why: String) -> Error {
        Error::library(self.path.display(), why)
    }

    /// Refuses what a list does not name, or what would bring along what it cannot name.
    fn admit(&mut self, allowed: Option<&AllowList>) -> Result<()> {
        let Some(list) = allowed else { return Ok(()) };
        list.admit(&self.path, &self.hash)?;
        self.is_listed = true;
        elf::check_alone(&self.bytes).map_err(|why| self.refuse(why))
    }

    /// What is opened in its place. What nobody has listed may be the file itself, where there may be
    /// no copy of its size.
    fn copy(&self) -> Result<PrivateCopy> {
        let failed = |error| self.refuse(format!("cannot be copied to be opened ({error})"));
        let may_copy = PrivateCopy::may_have(self.bytes.len());
        match (may_copy, self.is_listed) {
            (true, _) => PrivateCopy::of(&self.bytes).map_err(failed),
            (false, false) => {
                let file = self.file.try_clone().map_err(failed)?;
                Ok(PrivateCopy::by_descriptor(&self.path, file))
            }
            (false, true) => Err(self.refuse(format!(
                "cannot be copied to be opened: this process may make no file of {} bytes \
                 (ulimit -f)",
                self.bytes.len()
            ))),
        }
    }

    fn open(self, epochs: &[Epoch]) -> Result<OpenedPlugin> {
        elf::check_whole(&self.bytes).map_err(|why| self.refuse(why))?;
        let copy = self.copy()?;
        // Whatever the system says, it says of the copy.
        let refuse =
            |why: String| self.refuse(why.replace(&format!("{}: ", copy.path().display()), ""));
        let manifest = read_manifest(copy.path()).map_err(refuse)?;
        let epoch = epoch_of(&manifest, epochs).map_err(refuse)?;
        log_to(log::write);
        let library = (epoch.open)(copy.path(), &manifest).map_err(|error| {
            tracing::debug!(path = %self.path.display(), report = %error.report, "refused");
            refuse(error.summary + advice(epoch.flavour))
        })?;
        Ok(OpenedPlugin { hash: self.hash, path: self.path, manifest, library })
    }
}

/// What helps a library of this flavour that is refused: tables of abi_stable are compared whole, so
/// another version of the interface is enough. Those in C say themselves what is wrong with them.
fn advice(flavour: u32) -> &'static str {
    match flavour {
        manifest::FLAVOUR_RUST => "; rebuild it with this host's wan-plugin-api",
        _ => "",
    }
}

fn read_manifest(path: &Path) -> std::result::Result<Manifest, String> {
    // SAFETY: loading runs the library's initialisers, which is what loading a plugin means; the
    // documentation says so to the user.
    let library = unsafe { libloading::Library::new(path) }
        .map_err(|e| format!("is not a library that can be loaded ({})", one_line(&e)))?;
    // SAFETY: a symbol of this name is a manifest by the interface's rules; nothing is read but what
    // is the library's own.
    let manifest = unsafe {
        let raw = library.get::<*const RawManifest>(manifest::SYMBOL).map_err(|_| {
            format!("is not a wan plugin (it does not export {})", manifest::SYMBOL)
        })?;
        let own = OwnMemory::around(raw.cast());
        RawManifest::read(*raw, &|address| own.bytes_at(address))
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
    let spoken = epochs.iter().filter(|epoch| epoch.number == manifest.epoch);
    let flavours: Vec<&Epoch> = spoken.collect();
    if flavours.is_empty() {
        let mut spoken: Vec<String> = epochs.iter().map(|epoch| epoch.number.to_string()).collect();
        spoken.dedup();
        return Err(format!(
            "{} {} was built for plugin interface epoch {}, this host speaks {}; rebuild it with {}",
            manifest.name,
            manifest.version,
            manifest.epoch,
            spoken.join(" and "),
            match manifest.flavour {
                manifest::FLAVOUR_C => "the wan_plugin.h of this host".into(),
                _ => format!("wan-plugin-api {}", env!("CARGO_PKG_VERSION")),
            }
        ));
    }
    let flavour = flavours.into_iter().find(|epoch| epoch.flavour & manifest.flavour != 0);
    let epoch = flavour.ok_or_else(|| {
        format!("is of plugin flavour {}, which is not known yet", manifest.flavour)
    })?;
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
