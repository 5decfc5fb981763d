//! The checkout of the sources that this program belongs to, if there is one.
//!
//! Found while it runs. The place where it was compiled would be another checkout's, where a target
//! folder was copied along or is shared.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout that the program lies in, or that the file `wan-checkout` beside it names: `cargo
/// xtask` writes that where the target folder is elsewhere.
pub(crate) fn find() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let folder = program.parent()?;
    let named = || fs::read_to_string(folder.join("wan-checkout")).ok().map(PathBuf::from);
    let around = folder.ancestors().find(|folder| is_checkout(folder)).map(Path::to_path_buf);
    around.or_else(|| named().filter(|folder| is_checkout(folder)))
}

fn is_checkout(folder: &Path) -> bool {
    folder.join("crates/plugin-api/Cargo.toml").is_file()
}
