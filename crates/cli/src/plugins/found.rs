//! The libraries that a command opens.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use wan_host::parts::Registry;
use wan_host::{Error, Result};

use super::show;
use crate::args::innermost;

/// Libraries that lie in the folders of plugins, in the order in which they are opened.
pub(crate) struct Found {
    /// In folders that the user named. One that is refused ends the command.
    named: Vec<PathBuf>,
    /// In the standard folders. One that is refused is left out: a stale file there must not stop
    /// every run.
    standard: Vec<PathBuf>,
    /// What `plugins show` names.
    shown: Option<PathBuf>,
}

impl Found {
    /// Lists the folders.
    ///
    /// # Errors
    /// If one is not there, or cannot be listed.
    pub(crate) fn look(plugin_dirs: &[PathBuf], matches: Option<&ArgMatches>) -> Result<Self> {
        let [named, standard] = Registry::libraries(plugin_dirs)?;
        let inner = matches.map(innermost).filter(|m| m.try_contains_id("what").is_ok());
        let shown = inner.and_then(show::library).map(Path::to_path_buf);
        Ok(Self { named, standard, shown })
    }

    /// One that did not come with the program, if there is one.
    pub(crate) fn foreign(&self) -> Option<&Path> {
        let all = self.shown.iter().chain(&self.named).chain(&self.standard);
        all.map(PathBuf::as_path).find(|library| !Registry::is_own(library))
    }

    /// The files in standard folders that are the library of this name, which is what a border calls
    /// one that is being opened; none if the user named it as well.
    pub(crate) fn in_standard(&self, name: &str) -> Vec<PathBuf> {
        let is_it = |path: &&PathBuf| {
            path.canonicalize().is_ok_and(|path| path.display().to_string() == name)
        };
        if self.named.iter().chain(&self.shown).any(|path| is_it(&path)) {
            return Vec::new();
        }
        self.standard.iter().filter(is_it).cloned().collect()
    }

    /// Opens all but those that are left out already; what more is left out, and why, is handed to
    /// `leave_out`.
    ///
    /// # Errors
    /// If a library of a folder that the user named is refused.
    pub(crate) fn open(
        &self,
        registry: &mut Registry,
        left_out: &[PathBuf],
        leave_out: impl Fn(&Path, &Error),
    ) -> Result<()> {
        self.named.iter().try_for_each(|path| registry.add_file_once(path))?;
        for path in self.standard.iter().filter(|path| !left_out.contains(path)) {
            if let Err(error) = registry.add_file_once(path) {
                leave_out(path, &error);
            }
        }
        Ok(())
    }
}
