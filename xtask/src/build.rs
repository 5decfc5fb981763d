//! Builds the workspace, and lays the plugins out where the program finds them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Done, cargo, execute};

/// Everything in one invocation: other package sets would resolve other features, and the
/// dependencies would be built again for each.
pub(crate) fn everything() -> Done {
    execute(cargo().args(["build", "--workspace", "--lib", "--bins", "--examples", "--quiet"]))?;
    lay_out(&profile_folder(), "libwan_plugin_")
}

/// A program or library of this profile.
pub(crate) fn artifact(name: &str) -> PathBuf {
    profile_folder().join(name)
}

/// Where cargo puts what it builds: this very program lies there.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.parent().expect("a program lies in a folder").to_path_buf()
}

/// Puts the libraries of `from` whose names begin with `prefix` into `plugins` in it, where the
/// program looks for them, and takes out what is no longer built.
pub(crate) fn lay_out(from: &Path, prefix: &str) -> Done {
    let to = from.join("plugins");
    let result = fs::create_dir_all(&to).and_then(|()| {
        for old in libraries(&to, "")? {
            if !from.join(old.file_name().unwrap_or_default()).exists() {
                fs::remove_file(&old)?;
            }
        }
        for library in libraries(from, prefix)? {
            copy(&library, &to)?;
        }
        Ok(())
    });
    result.map_err(|error| {
        eprintln!("xtask: {}: {error}", to.display());
        1
    })
}

/// Copies by rename: a running program may have the old file mapped.
fn copy(library: &Path, to: &Path) -> std::io::Result<()> {
    let name = library.file_name().unwrap_or_default();
    let new = to.join(name).with_extension("new");
    fs::copy(library, &new)?;
    fs::rename(new, to.join(name))
}

fn libraries(folder: &Path, prefix: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(prefix) && name.ends_with(std::env::consts::DLL_SUFFIX) {
            found.push(path);
        }
    }
    Ok(found)
}
