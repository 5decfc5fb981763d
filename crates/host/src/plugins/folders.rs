//! Where plugins lie when nobody says where, and the one reader of the environment.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Folders that are searched when they exist, after those that the user named: `WAN_PLUGIN_PATH`,
/// the user's data folder, `plugins` beside the program. Never the working directory: a relative
/// entry is left out.
pub(super) fn standard() -> Vec<PathBuf> {
    let named = variable("WAN_PLUGIN_PATH");
    let mut folders: Vec<PathBuf> =
        named.map(|paths| env::split_paths(&paths).collect()).unwrap_or_default();
    folders.extend(user_data().map(|data| data.join("wan").join("plugins")));
    let program = env::current_exe().ok();
    folders.extend(program.and_then(|p| Some(p.parent()?.join("plugins"))));
    folders.retain(|folder| folder.is_absolute() && folder.is_dir());
    folders
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

fn user_data() -> Option<PathBuf> {
    match env::consts::OS {
        "windows" => variable("APPDATA").map(PathBuf::from),
        "macos" => home("Library/Application Support"),
        _ => variable("XDG_DATA_HOME").map(PathBuf::from).or_else(|| home(".local/share")),
    }
}

fn user_settings() -> Option<PathBuf> {
    match env::consts::OS {
        "windows" | "macos" => user_data(),
        _ => variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home(".config")),
    }
}

/// Where HOME is not set, the system knows the user's folder.
fn home(below: &str) -> Option<PathBuf> {
    let home = variable("HOME").map(PathBuf::from).or_else(env::home_dir);
    home.filter(|home| home.is_absolute()).map(|home| home.join(below))
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads where plugins lie")]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
