//! The user's folders, as the system has them, and the one reader of the environment.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where the user's programs keep what they need.
pub(crate) fn user_data() -> Option<PathBuf> {
    match env::consts::OS {
        "windows" => variable("APPDATA").map(PathBuf::from),
        "macos" => home("Library/Application Support"),
        _ => variable("XDG_DATA_HOME").map(PathBuf::from).or_else(|| home(".local/share")),
    }
}

/// Where the user's settings are.
pub(crate) fn user_settings() -> Option<PathBuf> {
    match env::consts::OS {
        "windows" | "macos" => user_data(),
        _ => variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home(".config")),
    }
}

/// Where the user's programs keep what can be made again.
pub(crate) fn user_caches() -> Option<PathBuf> {
    match env::consts::OS {
        "windows" => variable("LOCALAPPDATA").map(PathBuf::from),
        "macos" => home("Library/Caches"),
        // A relative path is to be passed over (XDG Base Directory Specification 0.8).
        _ => variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
            .or_else(|| home(".cache")),
    }
}

/// Where HOME is not set, the system knows the user's folder.
fn home(below: &str) -> Option<PathBuf> {
    let home = variable("HOME").map(PathBuf::from).or_else(env::home_dir);
    home.filter(|home| home.is_absolute()).map(|home| home.join(below))
}

/// A variable of the environment; none where it is empty.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
