//! Where plugins lie when nobody says where.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::user_folders::{user_data, user_settings, variable};

/// Folders that are searched when they exist, after those that the user named: `plugins` beside the
/// program, `WAN_PLUGIN_PATH`, the user's data folder. Never the working directory: a relative entry
/// is left out. What came with the program comes first, so that nothing takes its place by its id.
pub(super) fn standard() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = own().into_iter().collect();
    let named = variable("WAN_PLUGIN_PATH");
    folders.extend(named.iter().flat_map(env::split_paths));
    folders.extend(user_data().map(|data| data.join("wan").join("plugins")));
    folders.retain(|folder| folder.is_absolute() && folder.is_dir());
    folders
}

/// The folder of what came with the program, if there is one.
pub(super) fn own() -> Option<PathBuf> {
    let folder = env::current_exe().ok()?.parent()?.join("plugins");
    folder.canonicalize().ok().filter(|folder| folder.is_dir())
}

/// Whether a library lies in that folder; where it is a link, whether what it leads to does.
pub(super) fn is_own(library: &Path) -> bool {
    let folder = library.canonicalize().ok().and_then(|path| path.parent().map(Path::to_path_buf));
    folder.is_some() && folder == own()
}

/// Where the user's own list of libraries that may be loaded would be.
///
/// # Errors
/// If the user has no folder for settings: then nobody knows whether there is a list.
pub(super) fn allow_list() -> Result<PathBuf> {
    let folder = user_settings().ok_or_else(|| {
        Error::invalid(
            "no home folder is known, so nobody can tell whether you have a list of libraries \
             that may be loaded; set HOME, or name a list with `plugin_allow`",
        )
    })?;
    Ok(folder.join("wan").join("plugins.allow"))
}
